"""Rights in the scopes of a JWT."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_CLAIMS = ("scope", "scp")
_PREFIX = "textcam:"
_METHOD, _MODEL = "textcam:method:", "textcam:model:"
_FORMS = f"'{_METHOD}NAME' or '{_MODEL}NAME'"
_SHOWN = 80  # characters of a scope or of a list of claims


@dataclass(frozen=True)
class Scopes:
    """Rights that a token grants, and what in it was not understood.

    Attributes:
        methods: Short names of methods; "*" for all.
        models: Names of models; "*" for all.
        faults: Sentences for the log, without a value other than of scopes.
    """

    methods: frozenset[str]
    models: frozenset[str]
    faults: tuple[str, ...]


def read_scopes(claims: Mapping[str, Any], methods: Collection[str]) -> Scopes:
    """Read the scopes of a verified token, such as textcam:method:Explain or textcam:model:*.

    They stand in `scope` or `scp`, each a text with spaces between scopes, or a list of texts.

    Args:
        claims: Claims of the token.
        methods: Short names of all methods; others are faults.
    """
    faults: list[str] = []
    own = [scope for scope in _scopes(claims, faults) if scope.startswith(_PREFIX)]
    if not own:
        shown = ", ".join(sorted(map(repr, claims)))[:_SHOWN]
        faults.append(f"no scope in 'scope' or 'scp' begins with '{_PREFIX}'; its claims: {shown}")
    granted = {kind: frozenset(_names(own, kind)) for kind in (_METHOD, _MODEL)}
    for scope in own:
        name = scope.removeprefix(_METHOD)
        if not any(scope.startswith(kind) and scope != kind for kind in (_METHOD, _MODEL)):
            faults.append(f"{scope[:_SHOWN]!r} is not of the form {_FORMS}")
        elif name not in {scope, "*", *methods}:
            faults.append(f"{scope[:_SHOWN]!r} names no method")
    return Scopes(granted[_METHOD], granted[_MODEL], tuple(faults))


def _scopes(claims: Mapping[str, Any], faults: list[str]) -> Iterator[str]:
    for claim in _CLAIMS:
        found = claims.get(claim)
        if found is None:
            continue
        for each in found if isinstance(found, list) else [found]:
            if isinstance(each, str):
                yield from each.split()
            else:
                faults.append(f"{claim!r} is no text or list of texts")


def _names(scopes: list[str], kind: str) -> Iterator[str]:
    return (scope.removeprefix(kind) for scope in scopes if scope.startswith(kind))

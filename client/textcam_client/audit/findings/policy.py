"""Policy of a release pipeline: which concepts are allowed, and which findings stop a release."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from textcam_client.audit.errors import AuditError
from textcam_client.audit.findings.lists import ConceptLists, UnknownClass, matches
from textcam_client.audit.findings.model import AuditSummary, Finding, FindingKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]  # the older Python's

_STOPPING: tuple[FindingKind, ...] = ("spurious_cue", "banned_concept", "comparison")
_SHARES = ("min_accuracy", "min_class_accuracy", "max_failed")
_LIMITS = {"max_findings", "kinds", *_SHARES}
_SHOWN = 5


class InvalidPolicy(AuditError, ValueError):
    """Policy that cannot be read, holds something unknown, or limits nothing."""


@dataclass(frozen=True)
class Policy:
    """Limits that an audit must keep.

    Attributes:
        lists: Concepts that classes may and must not be carried by.
        kinds: Kinds of finding that count.
        max_findings: Most findings of these kinds.
        min_accuracy: Least accuracy over all images, by the lower end of its interval; None: any.
        min_class_accuracy: Likewise of each class.
        max_failed: Largest share of rows without an answer; None: any.

    Raises:
        InvalidPolicy: A limit is no number in its range, or no kind of finding is named.
    """

    lists: ConceptLists = field(default_factory=ConceptLists)
    kinds: tuple[FindingKind, ...] = _STOPPING
    max_findings: int = 0
    min_accuracy: float | None = None
    min_class_accuracy: float | None = None
    max_failed: float | None = None

    def __post_init__(self) -> None:
        _require_kinds(self.kinds)
        most = self.max_findings
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise InvalidPolicy(f"max_findings is {most!r}: it must be a whole number, 0 or more")
        for name in _SHARES:
            _require_share(name, getattr(self, name))

    def stops(self, finding: Finding) -> bool:
        """Return True if a finding counts against the release."""
        return finding.kind in self.kinds

    def of_model(self, class_names: Sequence[str], find: Callable[[str], int | None]) -> Policy:
        """Return the policy with its lists by the model's class names; see ConceptLists.

        Raises:
            InvalidPolicy: It has a list for a class that the model does not have.
        """
        try:
            return replace(self, lists=self.lists.of_model(class_names, find))
        except UnknownClass as error:
            raise InvalidPolicy(
                f"the policy's [classes] do not fit the model: {error} The records are safe: mend "
                "the policy and run the same command again"
            ) from error

    def without_effect(self, audited: Sequence[str], vocabulary: Sequence[str]) -> list[str]:
        """Say which entries decide nothing.

        Args:
            audited: Names of the classes that have images in the statistics.
            vocabulary: Phrases that the model can say.
        """
        listed = dict.fromkeys([*self.lists.allowed, *self.lists.banned])
        absent = [name for name in listed if name not in audited]
        idle = [
            pattern
            for pattern in self.lists.patterns()
            if not any(matches(phrase, [pattern]) for phrase in vocabulary)
        ]
        notes = []
        if absent:
            notes.append(
                "The policy has lists for classes without an image in the statistics: "
                f"{_few(absent)}."
            )
        if idle:
            notes.append(
                "Patterns of the policy that match no phrase of the model's vocabulary: "
                f"{_few(idle)}."
            )
        return notes


def read_policy(path: Path) -> Policy:
    """Read a policy, TOML.

    Tables: `limits` (fields of Policy), `all` and `classes."NAME"`, each of the latter with lists
    of patterns `allowed` and `banned`.

    Raises:
        InvalidPolicy: The file cannot be read, or holds something unknown.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidPolicy(f"{path} cannot be read as a policy: {error}") from error
    try:
        return _policy(content)
    except ValueError as error:
        raise InvalidPolicy(f"{path}: {error}") from error


def broken_limits(summary: AuditSummary, policy: Policy) -> list[str]:
    """Return a sentence for each limit that an audit breaks; empty: it passes."""
    broken = []
    if summary.counts.get("images_in_statistics") == 0:
        broken.append("No image entered the statistics, so the audit can pass no policy.")
    counted = [finding for finding in summary.findings if policy.stops(finding)]
    if len(counted) > policy.max_findings:
        broken.append(
            f"{len(counted)} findings ({', '.join(policy.kinds)}), more than the "
            f"{policy.max_findings} allowed."
        )
    if policy.min_accuracy is not None:
        broken += _below("all images", summary.accuracy, policy.min_accuracy)
    if policy.min_class_accuracy is not None:
        for each in summary.classes:
            name = f"class '{each.class_name}'"
            broken += _below(name, each.accuracy, policy.min_class_accuracy)
    failed, rows = summary.counts.get("failed", 0), summary.counts.get("rows", 0)
    if policy.max_failed is not None and failed > policy.max_failed * rows:
        broken.append(f"{failed} of {rows} rows have no answer, more than {policy.max_failed:.1%}.")
    return broken


def _below(name: str, accuracy: Any, least: float) -> list[str]:
    if accuracy is None or accuracy.low is None:
        return [f"The accuracy of {name} is unknown: there are no labels to compare with."]
    if accuracy.low < least:
        return [
            f"The accuracy of {name} is {accuracy.value:.3f}, at least {accuracy.low:.3f}; the "
            f"policy asks for {least:g}."
        ]
    return []


def _policy(content: Mapping[str, Any]) -> Policy:
    _only(content, {"limits", "all", "classes"}, "the file")
    limits = _table(content, "limits")
    _only(limits, _LIMITS, "[limits]")
    everywhere = _patterns(_table(content, "all"), "[all]")
    classes = {
        name: _patterns(_table(_table(content, "classes"), name), f'[classes."{name}"]')
        for name in _table(content, "classes")
    }
    lists = ConceptLists(
        {name: own["allowed"] for name, own in classes.items() if "allowed" in own},
        {name: own["banned"] for name, own in classes.items() if "banned" in own},
        everywhere.get("allowed", ()),
        everywhere.get("banned", ()),
    )
    kinds = limits.get("kinds", _STOPPING)
    limits = {**limits, "kinds": tuple(kinds) if isinstance(kinds, list) else kinds}
    return Policy(lists, **limits)


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name, {})
    if not isinstance(found, Mapping):
        raise ValueError(f"'{name}' must be a table")
    return found


def _patterns(table: Mapping[str, Any], place: str) -> dict[str, list[str]]:
    _only(table, {"allowed", "banned"}, place)
    for name, patterns in table.items():
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            raise ValueError(f"{name} in {place} must be a list of phrases")
    return dict(table)


def _require_kinds(kinds: Any) -> None:
    known = ", ".join(get_args(FindingKind))
    if not isinstance(kinds, (list, tuple)) or not kinds:
        raise InvalidPolicy(f"kinds is {kinds!r}: name one or more kinds of finding: {known}")
    for kind in kinds:
        if kind not in get_args(FindingKind):
            raise InvalidPolicy(f"{kind!r} is no kind of finding: {known}")


def _require_share(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidPolicy(f"{name} is {value!r}: it must be a number, 0 or more, at most 1")
    if not 0 <= value <= 1:  # nor not a number
        raise InvalidPolicy(f"{name} is {value!r}: it must be 0 or more, at most 1")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _only(table: Mapping[str, Any], known: set[str], place: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError(
            f"'{unknown[0]}' in {place} is unknown; it may hold {', '.join(sorted(known))}"
        )

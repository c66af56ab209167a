"""Concepts that may carry a class, and those that must not, as the user lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase


class UnknownClass(ValueError):
    """List for a class that the model does not have."""


@dataclass(frozen=True)
class ConceptLists:
    """Patterns of phrases, such as "*floor", compared without regard to case.

    Classes that share a name share its lists.

    Attributes:
        allowed: By class name: phrases that belong to the class. A class without an entry has no
            list, and nothing is concluded from it.
        banned: By class name: phrases that must not carry the class.
        allowed_everywhere: Phrases that belong to each class that has a list.
        banned_everywhere: Phrases that must not carry any class.
    """

    allowed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    banned: Mapping[str, Sequence[str]] = field(default_factory=dict)
    allowed_everywhere: Sequence[str] = ()
    banned_everywhere: Sequence[str] = ()

    def is_allowed(self, class_name: str, phrase: str) -> bool | None:
        """Tell whether a phrase belongs to a class; None: the class has no list."""
        if class_name not in self.allowed:
            return None
        patterns = [*self.allowed[class_name], *self.allowed_everywhere]
        return matches(phrase, patterns)

    def banned_among(self, class_name: str, phrases: Sequence[str]) -> list[int]:
        """Return the places of phrases that must not carry a class."""
        patterns = [*self.banned.get(class_name, ()), *self.banned_everywhere]
        if not patterns:
            return []
        return [place for place, phrase in enumerate(phrases) if matches(phrase, patterns)]

    def of_model(
        self, class_names: Sequence[str], find: Callable[[str], int | None]
    ) -> ConceptLists:
        """Return the lists by the names that the model has for the classes.

        Args:
            class_names: The model's classes, in order of index.
            find: Returns the index of a class, given as a label is; None: it is unknown.

        Raises:
            UnknownClass: The model has no such class, or a class has two entries.
        """
        named = {name: _named(name, class_names, find) for name in (*self.allowed, *self.banned)}
        entries: dict[str, str] = {}
        for name, own in named.items():
            if entries.setdefault(own, name) != name:
                raise UnknownClass(
                    f"{entries[own]!r} and {name!r} are the same class, {own!r}: join their lists"
                )
        return replace(
            self,
            allowed={named[name]: patterns for name, patterns in self.allowed.items()},
            banned={named[name]: patterns for name, patterns in self.banned.items()},
        )

    def patterns(self) -> list[str]:
        """Return all patterns, each once."""
        lists = (*self.allowed.values(), *self.banned.values())
        own = [pattern for patterns in lists for pattern in patterns]
        return list(dict.fromkeys([*own, *self.allowed_everywhere, *self.banned_everywhere]))


def _named(name: str, class_names: Sequence[str], find: Callable[[str], int | None]) -> str:
    if name in class_names:  # of several classes too, which no label may be
        return name
    index = find(name)
    if index is not None:
        return class_names[index]
    folded = {each.casefold(): each for each in class_names}
    near = [folded[each] for each in get_close_matches(name.casefold(), folded, 3)]
    meant = f"do you mean {' or '.join(map(repr, near))}?" if near else "correct or remove it"
    raise UnknownClass(f"the model has no class {name!r}: {meant}")


def matches(phrase: str, patterns: Sequence[str]) -> bool:
    """Return True if a phrase matches one of the patterns."""
    return any(fnmatchcase(phrase.casefold(), pattern.casefold()) for pattern in patterns)

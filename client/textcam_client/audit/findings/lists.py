"""Concepts that may carry a class, and those that must not, as the user lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class ConceptLists:
    """Patterns of phrases, such as "*floor", compared without regard to case.

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


def matches(phrase: str, patterns: Sequence[str]) -> bool:
    """Return True if a phrase matches one of the patterns."""
    return any(fnmatchcase(phrase.casefold(), pattern.casefold()) for pattern in patterns)

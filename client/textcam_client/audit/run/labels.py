"""Labels of a data set as classes of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Labels:
    """Class of each label.

    A label names a class by its name, else by its name without regard to letter case, then to "_"
    for " " as well, else by its index. A name that several classes share is unknown.

    Args:
        class_names: The model's classes, in order of index.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        forms: list[Callable[[str], str]] = [str.strip, _folded, _spaced]
        self._tables = [(form, _unique(form, class_names)) for form in forms]
        self._count = len(class_names)

    def find(self, label: str | None) -> int | None:
        """Return the index of a label's class; None: there is no label, or it is unknown."""
        if label is None:
            return None
        for form, table in self._tables:
            key = form(label)
            if key in table:
                return table[key]
        return self._index(label)

    def _index(self, label: str) -> int | None:
        # A column of whole numbers with a gap is one of floats, such as "3.0".
        digits = label.removesuffix(".0")
        if not (digits.isascii() and digits.isdigit()):
            return None
        # Python turns no text of thousands of digits into a number.
        digits = digits.lstrip("0") or "0"
        if len(digits) > len(str(self._count)) or int(digits) >= self._count:
            return None
        return int(digits)


def _folded(name: str) -> str:
    return name.strip().casefold()


def _spaced(name: str) -> str:
    return " ".join(_folded(name).replace("_", " ").split())


def _unique(form: Callable[[str], str], class_names: Sequence[str]) -> dict[str, int | None]:
    """Return the class of each name in a form; None for a name of several classes."""
    table: dict[str, int | None] = {}
    for index, name in enumerate(class_names):
        key = form(name)
        table[key] = None if key in table else index
    return table

"""Class names of a model, found in any letter case."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from textcam_service.errors import UnknownClass

# Characters of an unknown name that are compared and quoted: a message may hold millions.
_MAX_CHARACTERS = 100
_MAX_SUGGESTIONS = 5
_MIN_SIMILARITY = 0.7


class ClassIndex:
    """Look-up from a class name to its index.

    Args:
        class_names: Names of the classes, in order of index.
        model_name: Name of the model, for error messages.
    """

    def __init__(self, class_names: Sequence[str], model_name: str) -> None:
        self._class_names, self._model_name = class_names, model_name
        self._exact = {name.strip(): index for index, name in enumerate(class_names)}
        self._folded = {name.strip().casefold(): index for index, name in enumerate(class_names)}

    def find(self, name: str, field_name: str) -> int:
        """Find a class by its name, in any letter case; an exact match wins.

        Args:
            name: Name of the class.
            field_name: Name of the request's field that holds it, for the error.

        Raises:
            UnknownClass: There is no such class; the message suggests similar names.
        """
        given = name.strip()
        if given in self._exact:  # "Turkey" and "turkey" may both be classes
            return self._exact[given]
        index = self._folded.get(given.casefold())
        if index is None:
            quoted = given[:_MAX_CHARACTERS]
            near = self._similar(quoted.casefold())
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UnknownClass(
                f"model '{self._model_name}' has no class named '{quoted}'{hint}. GetModel, in "
                f"Python client.model().class_names, lists all {len(self._class_names)}; an index "
                "will do",
                field=field_name,
            )
        return index

    def _similar(self, folded: str) -> list[str]:
        """Suggest a few names: those spelt alike first, then those that share a word."""
        alike = difflib.get_close_matches(folded, self._folded, _MAX_SUGGESTIONS, _MIN_SIMILARITY)
        words = folded.split()
        sharing = [name for name in self._folded if any(word in name for word in words)]
        names = list(dict.fromkeys(alike + sharing))[:_MAX_SUGGESTIONS]
        return [self._class_names[self._folded[name]] for name in names]

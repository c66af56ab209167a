"""Names of models and versions, which are names of folders too."""

from __future__ import annotations

import re

from textcam_service.errors import InvalidSettings

POINTER = "current.json"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")


def is_name(name: str) -> bool:
    """Return True if a name has the form of a model's or a version's."""
    return _NAME.match(name) is not None


def checked_name(name: str) -> str:
    """Return a name or version that can be a folder's name.

    Raises:
        InvalidSettings: It cannot be a folder's name.
    """
    if not is_name(name) or name == POINTER:
        raise InvalidSettings(
            f"'{name}' is not a valid name: use letters, digits, '.', '_' and '-', do not begin "
            f"with '.', and do not use '{POINTER}'"
        )
    return name

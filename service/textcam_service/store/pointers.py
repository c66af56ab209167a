"""The pointer of a name: its current version and those before, kept in current.json."""

from __future__ import annotations

import json
from dataclasses import dataclass

from textcam_service.errors import ArtefactCorrupt, InvalidSettings
from textcam_service.store.names import checked_name


@dataclass(frozen=True)
class Pointer:
    """Current version of a name, and its history.

    Attributes:
        version: The current one.
        history: Versions that were current before, the latest last; servers may have refused some
            of them.
        accept_drift: If True, servers take the version however its explanations drift.
    """

    version: str
    history: tuple[str, ...] = ()
    accept_drift: bool = False

    def followed_by(self, version: str, accept_drift: bool) -> Pointer:
        """Point to another version, and add the current one to the history."""
        history = self.history if self.version == version else (*self.history, self.version)
        return Pointer(version, history, accept_drift)

    def rolled_back_to(self, version: str) -> Pointer:
        """Point to a version of the history again; drop it and the later ones from the history.

        Servers take it without comparing: they served it before.
        """
        last = max(place for place, each in enumerate(self.history) if each == version)
        return Pointer(version, self.history[:last], accept_drift=True)

    def to_json(self) -> bytes:
        """Encode the pointer as the content of current.json."""
        content = {"version": self.version, "history": self.history}
        accepted = {"accept_drift": True} if self.accept_drift else {}
        return json.dumps({**content, **accepted}).encode()

    @staticmethod
    def from_json(content: bytes, path: str) -> Pointer:
        """Decode the content of current.json at a path.

        Raises:
            ArtefactCorrupt: It does not name a version.
        """
        try:
            value = json.loads(content)
            return Pointer(
                checked_name(value["version"]),
                tuple(checked_name(version) for version in value["history"]),
                bool(value.get("accept_drift", False)),
            )
        except (ValueError, KeyError, TypeError, InvalidSettings) as error:
            raise ArtefactCorrupt(
                f"{path} does not name a version: {error}; remove it and publish again"
            ) from error

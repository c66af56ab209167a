"""What happens to a batcher's items, told to whoever counts it."""

from __future__ import annotations

from typing import Protocol


class BatcherEvents(Protocol):
    """What the batcher reports. A hook that raises harms no item; its first fault is logged."""

    def on_batch(self, size: int) -> None:
        """An inference ended."""

    def on_depth(self, depth: int) -> None:
        """The number of items that wait for inference changed."""

    def on_expired(self) -> None:
        """An item's deadline passed before inference, or its caller left when it did."""

    def on_cancelled(self) -> None:
        """An admitted item's caller left before their deadline: told once for each.

        A waiting item leaves the queue; a running one's result is discarded, its batch unharmed.
        """

    def on_rejected(self, reason: str) -> None:
        """An item was refused; the reason is its error's."""

    def on_restart(self) -> None:
        """The consumer died and will be started again."""

"""Callbacks of a batcher, for counting what happens to its items."""

from __future__ import annotations

from typing import Protocol


class BatcherEvents(Protocol):
    """Callbacks of a batcher. One that raises harms no item; its first error is logged."""

    def on_batch(self, size: int) -> None:
        """Called when a batch of `size` items has run."""

    def on_depth(self, depth: int) -> None:
        """Called when the number of items that wait for inference changes."""

    def on_expired(self) -> None:
        """Called when an item's deadline passed before inference, or its caller left then."""

    def on_cancelled(self) -> None:
        """Called once for each admitted item if its caller left before the deadline.

        A waiting item leaves the queue. The result of a running item is discarded; the rest of its
        batch is not affected.
        """

    def on_rejected(self, reason: str) -> None:
        """Called when an item is rejected, with the reason of its error."""

    def on_restart(self) -> None:
        """Called when the consumer died and will be started again."""

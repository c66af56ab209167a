"""Cancellation of work that runs in threads."""

from __future__ import annotations

import time

from textcam_service.errors import DeadlineExpired


class CancellationToken:
    """Flag by which a thread learns that its result is no longer awaited.

    Args:
        deadline: Deadline on time.monotonic()'s clock; None: none.
    """

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._cancelled = False

    def cancel(self) -> None:
        """Mark the work as no longer awaited; it ends at its next check."""
        self._cancelled = True

    def raise_if_cancelled(self) -> None:
        """Stop the work if its result is no longer awaited.

        Raises:
            DeadlineExpired: The deadline passed, or cancel() was called.
        """
        late = self._deadline is not None and time.monotonic() >= self._deadline
        if late or self._cancelled:
            raise DeadlineExpired(
                "the deadline passed while the answer was made; allow more time, or ask for fewer "
                "targets or for the heatmap form 'saliency', which is drawn by the client"
            )

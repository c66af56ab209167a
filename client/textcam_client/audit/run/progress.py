"""Progress of a run, as people see it."""

from __future__ import annotations

import sys
from typing import Protocol

from tqdm import tqdm


class Progress(Protocol):
    """Display of a run's progress."""

    def start(self, total: int, done: int) -> None:
        """Begin, with `done` of `total` rows finished by an earlier run."""

    def advance(self, rows: int) -> None:
        """Add finished rows."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def close(self) -> None:
        """End, complete or not."""


# Where standard error is no terminal, such as in a pipeline's log, each state of the bar stays.
_LOG_INTERVAL_S = 30.0


class Silent:
    """Progress that shows nothing."""

    def start(self, total: int, done: int) -> None:
        """Begin."""

    def advance(self, rows: int) -> None:
        """Add finished rows."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """End."""


class Bar:
    """Bar with rate and time left, on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None

    def start(self, total: int, done: int) -> None:
        """Begin; rows of an earlier run do not count for the rate."""
        self._bar = tqdm(
            total=total,
            initial=done,
            unit="img",
            desc="audit",
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else _LOG_INTERVAL_S,
        )

    def advance(self, rows: int) -> None:
        """Add finished rows."""
        if self._bar is not None:
            self._bar.update(rows)

    def note(self, text: str) -> None:
        """Print a sentence above the bar."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

"""The target of an explanation, from the options of `textcam explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from textcam_client import Contrast, TopK


def parse_target(
    class_name: str | None, against: str | None, top_k: int | None
) -> str | int | TopK | Contrast:
    """Combine --class, --against and --top-k into one target.

    Raises:
        click.UsageError: The options contradict each other.
    """
    from textcam_client import Contrast, TopK  # noqa: PLC0415 - --help stays quick

    if against is not None and class_name is None:
        raise click.UsageError("--against goes with --class")
    if class_name is None:
        return TopK(top_k or 1)
    if top_k is not None:
        raise click.UsageError("--class and --top-k exclude each other")
    if against is not None:
        return Contrast(_class(class_name), _class(against))
    return _class(class_name)


def _class(given: str) -> str | int:
    """Read a class name, or an index of digits."""
    # No index has ten digits: the contract's field could not hold it.
    return int(given) if given.isdecimal() and len(given) < 10 else given

"""Checks of options' and arguments' values."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any

import click


class NumberRange(click.FloatRange):
    """A range of numbers without nan, which click's own lets through."""

    def __init__(self, noun: str, **limits: Any) -> None:
        super().__init__(**limits)
        self._noun = noun

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number, as click's method of this name."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a {self._noun}.", param, ctx)
        return number


def image_files(
    _: click.Context, __: click.Parameter, images: tuple[Path, ...]
) -> tuple[Path, ...]:
    """Refuse folders among image files, as a callback of click's.

    Raises:
        click.BadParameter: A path is a folder; the message shows how to give its images.
    """
    for path in images:
        if path.is_dir():
            name = click.format_filename(path)
            raise click.BadParameter(f"{name} is a folder; for the images in it: {name}/*")
    return images


def phrase_kinds(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Split the kinds of a repeated option, or of one with commas, as a callback of click's.

    Raises:
        click.BadParameter: There is no such kind.
    """
    from textcam_service.core.types import PHRASE_KINDS  # noqa: PLC0415 - quick --help

    names = tuple(name.strip().lower() for several in given for name in several.split(","))
    for name in names:
        if name not in PHRASE_KINDS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(PHRASE_KINDS)}.")
    return names


def known_method(_: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """Check a --method, as a callback of click's.

    Raises:
        click.BadParameter: There is no such CAM method; the message suggests similar names.
    """
    from textcam_service.core.methods import METHODS  # noqa: PLC0415 - --help stays quick

    if not name or name in METHODS:
        return name
    near = difflib.get_close_matches(name, METHODS, 3, 0.7) or METHODS
    raise click.BadParameter(
        f"there is no CAM method '{name}'; {'near it' if near is not METHODS else 'there are'}: "
        f"{', '.join(near)}",
        param=parameter,
    )


def height_and_width(
    _: click.Context, parameter: click.Parameter, given: str | None
) -> tuple[int, int] | None:
    """Read "224" or "192,256", as a callback of click's.

    Raises:
        click.BadParameter: It is neither a size nor a height and a width.
    """
    if given is None:
        return None
    sides = given.split(",")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise click.BadParameter(
            f"'{given}' is neither a size in pixels nor a height and a width, such as 192,256",
            param=parameter,
        )
    return int(sides[0]), int(sides[-1])

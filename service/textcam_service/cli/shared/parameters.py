"""Checks of options' and arguments' values."""

from __future__ import annotations

import ast
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


def color_levels(
    _: click.Context, parameter: click.Parameter, given: str | None
) -> tuple[float, float, float] | None:
    """Read "0.5", or "0.485,0.456,0.406", or fractions as "127/255", as a callback of click's.

    Raises:
        click.BadParameter: It is neither one number nor three, or they are not of 0..1.
    """
    if given is None:
        return None
    try:
        levels = [_fraction(part) for part in given.split(",")]
    except (ValueError, ZeroDivisionError):
        levels = []
    if len(levels) not in {1, 3} or not all(map(math.isfinite, levels)):
        raise click.BadParameter(
            f"'{given}' is neither a number nor three of red, green and blue, such as "
            "0.485,0.456,0.406 or 127/255",
            param=parameter,
        )
    red, green, blue = levels * (3 // len(levels))
    if max(levels) > 1 or min(levels) < 0:
        raise click.BadParameter(
            f"'{given}' is not on the scale of 0..1; divide levels of 0..255, as 127/255",
            param=parameter,
        )
    if parameter.name == "std" and min(levels) == 0:
        raise click.BadParameter("a deviation is above 0, such as 1 or 0.229", param=parameter)
    return red, green, blue


def _fraction(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


def model_options(
    _: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, Any]:
    """Read "NAME=VALUE", as a callback of click's; a value is a literal of Python, or a text.

    Raises:
        click.BadParameter: One is not of this form.
    """
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(
                f"'{text}' is not NAME=VALUE, such as global_pool=avgmax", param=parameter
            )
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options

"""Options, checks and progress bars shared by commands."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from textcam_service.errors import MissingExtra

Settings = TypeVar("Settings")

_EXTRAS = {
    "service": ("onnxruntime", "safetensors", "pydantic_settings", "grpc_health", "jwt"),
    "audit": ("fsspec", "jinja2", "pyarrow", "scipy", "statsmodels", "tqdm"),
    "offline": ("onnxruntime", "torch", "onnx", "sentence_transformers", "open_clip", "tqdm"),
}


# Type of a folder that a command writes.
OUTPUT = click.Path(file_okay=False, path_type=Path)
backbone_option = click.option(
    "--backbone",
    type=click.Path(path_type=Path),
    default=Path("build/backbone"),
    show_default=True,
    help="Backbone folder, as written by `textcam export`.",
)


class AliasedOption(click.Option):
    """Option with further spellings that are accepted, but not listed in --help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Describe the option under its first spelling."""
        spellings, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = spellings


def comparison_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a comparison: --bank, --images and those of AgreementThresholds."""
    share, old = click.FloatRange(0, 1), "--min-correlation"
    for names, kind, default, fault in (
        (
            ("--max-share-difference",),
            share,
            1.0,
            "shares of the evidence differ by more; 1 for no check",
        ),
        (("--min-first-phrase",), share, 0.95, "fewer images keep their first phrase"),
        (
            ("min_map_correlation", "--min-map-correlation", old),
            click.FloatRange(-1, 1),
            0.97,
            "saliency maps correlate less",
        ),
        (("--min-top1",), share, 0.98, "fewer images keep their most probable class"),
    ):
        option = click.option(
            *names,
            cls=AliasedOption,
            type=kind,
            default=default,
            show_default=True,
            help=f"Refuse if {fault}.",
        )
        command = option(command)
    command = click.option(
        "--images",
        type=click.Path(path_type=Path),
        multiple=True,
        required=True,
        help="Folder of images like those that will be served, such as the probing set. May be "
        "given more than once.",
    )(command)
    return click.option(
        "--bank",
        type=click.Path(path_type=Path),
        default=None,
        help="Bank folder that is served with it.  [default: the packaged bank]",
    )(command)


def require_extra(extra: str) -> None:
    """Check that the packages of an extra are installed.

    Raises:
        MissingExtra: A package is not installed; the message shows how to install the extra.
    """
    absent = [name for name in _EXTRAS[extra] if importlib.util.find_spec(name) is None]
    if absent:
        raise MissingExtra(
            f"this command needs the extra '{extra}' ({', '.join(absent)} not installed): "
            f"pip install 'textcam-service[{extra}]'"
        )


def settings_of(of: type[Settings], given: tuple[str, ...], hint: str, /, **fixed: Any) -> Settings:
    """Read NAME=VALUE pairs, each value as JSON or as a bare word, into a settings dataclass.

    Args:
        of: The dataclass; its fields are of type bool, int, float or str.
        given: The pairs.
        hint: Name of the option, for errors.
        fixed: Fields that pairs may not set.

    Raises:
        click.BadParameter: A pair names no field, its value is not of the field's type, or the
            settings are invalid.
    """
    known = dict(_fields(of, fixed))
    values = dict(fixed)
    for pair in given:
        name, _, text = pair.partition("=")
        try:
            value = text if name in known and known[name] is str else json.loads(text)
            if not text or not _fits(value, known[name]):
                raise ValueError(pair)
        except (ValueError, KeyError) as error:
            raise click.BadParameter(
                f"'{pair}' is not NAME=VALUE with one of {', '.join(known)}; {_accepted(known)}",
                param_hint=hint,
            ) from error
        values[name] = value
    try:
        return of(**values)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from error


def _fields(kind: type, fixed: dict[str, Any]) -> Iterator[tuple[str, type]]:
    """List the fields and their types; annotations are strings, and other types count as str."""
    numbers = {"bool": bool, "int": int, "float": float}
    for name, field in kind.__dataclass_fields__.items():  # type: ignore[attr-defined]
        if name not in fixed:
            yield name, numbers.get(field.type, str)


def _fits(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _accepted(known: dict[str, type]) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return ", ".join(f"{name} takes {words[kind]}" for name, kind in known.items())


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Show a progress bar per step on standard error, if that is a terminal."""
    from tqdm import tqdm  # noqa: PLC0415 - of the offline extra

    bars: list[Any] = []

    def begin(name: str, total: int) -> Callable[[int], None]:
        bars.append(tqdm(total=total, desc=name, disable=None))
        return lambda done: (bars[-1].update(done), None)[1]

    try:
        yield begin
    finally:
        for bar in bars:
            bar.close()

"""The group of commands. Each imports its packages when it runs: --help needs no extra."""

from __future__ import annotations

import errno
from typing import Any

import click

from textcam_service.cli.audit import audit
from textcam_service.cli.bank.commands import bank
from textcam_service.cli.evaluate import evaluate
from textcam_service.cli.explain import explain
from textcam_service.cli.export import export
from textcam_service.cli.model import model
from textcam_service.cli.parity import parity
from textcam_service.cli.quantize import quantize
from textcam_service.cli.scenes import scenes
from textcam_service.cli.serve import serve
from textcam_service.cli.token import token
from textcam_service.errors import TextCamError
from textcam_service.version import __version__

_HELP = {"help_option_names": ["-h", "--help"]}
# Spellings that work too, and that help does not list.
_ALIASES = {"quantise": "quantize"}


class _Group(click.Group):
    """Group that turns errors of TextCAM and of the file system into one line and status 1."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return super().get_command(context, _ALIASES.get(name, name))

    def invoke(self, context: click.Context) -> Any:
        from textcam_client import TextCamClientError  # noqa: PLC0415 - light, but only here

        try:
            return super().invoke(context)
        except (TextCamError, TextCamClientError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader closed the pipe: click ends quietly
            text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise click.ClickException(text) from error


@click.group(cls=_Group, context_settings=_HELP)
@click.version_option(__version__, prog_name="textcam")
def main() -> None:
    """Explain image classifiers: where they look, and what they see there.

    \b
    From nothing to a first picture:
      textcam export --output build/backbone          the default network as ONNX
      textcam serve  --backbone build/backbone        a gRPC server on port 50051
      textcam explain cat.jpg --output explained/     a sentence and a picture per image

    To explain a network of your own, export it, then build its concept bank from
    images of your domain: textcam bank build --help.
    """


for _command in (
    audit,
    bank,
    evaluate,
    explain,
    export,
    model,
    parity,
    quantize,
    scenes,
    serve,
    token,
):
    main.add_command(_command)

"""The commands. Each imports what it needs when it runs, so that --help needs no extra."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import click

from textcam_service.cli.bank import bank
from textcam_service.cli.common import OUTPUT, need
from textcam_service.cli.evaluate import evaluate, scenes
from textcam_service.cli.explain import explain
from textcam_service.cli.model import model
from textcam_service.cli.parity import parity
from textcam_service.cli.quantise import quantise
from textcam_service.cli.serve import serve
from textcam_service.cli.token import token
from textcam_service.errors import TextCamError
from textcam_service.version import __version__

_HELP = {"help_option_names": ["-h", "--help"]}


class _Group(click.Group):
    """Turns the product's errors, and the file system's, into one line and exit status 1."""

    def invoke(self, context: click.Context) -> Any:
        from textcam_client import TextCamClientError  # noqa: PLC0415 - light, but only here

        try:
            return super().invoke(context)
        except (TextCamError, TextCamClientError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly where nobody reads on
            said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise click.ClickException(said) from error


@click.group(cls=_Group, context_settings=_HELP)
@click.version_option(__version__, prog_name="textcam")
def main() -> None:
    """Where an image classifier looked, and what it saw there.

    \b
    A first round, from nothing to a picture:
      textcam export --output build/backbone          the default network as ONNX
      textcam serve  --backbone build/backbone        a gRPC server on port 50051
      textcam explain cat.jpg --output explained/     a picture and a sentence per image

    To explain a network of your own, export it, then build its concept bank from
    images of your domain: textcam bank build --help.
    """


@main.command()
@click.option(
    "--model",
    default="efficientnet_lite0",
    show_default=True,
    help="efficientnet_lite0, efficientnet_lite2, torchvision:NAME, timm:NAME, "
    "import:package.module:attribute, onnx:FILE, scenes:classifier or scenes:biased.",
)
@click.option(
    "--weights",
    default=None,
    help="A weights tag, a local checkpoint, or 'none' for seeded random weights; "
    "default: the network's usual weights.",
)
@click.option(
    "--target-layer",
    default="",
    help="The layer whose maps are explained: a module's name, or 'input of NAME'; of an ONNX "
    "model a tensor or node; default: found by what the network computes, and printed.",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="A further layer, for methods over several layers (Integrative CAM); may be repeated.",
)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    default=None,
    help="Of an ONNX model: a file with a class name per line; default: those in its metadata.",
)
@click.option(
    "--input-size", type=int, default=224, show_default=True, help="Of an ONNX model: pixels."
)
@click.option(
    "--output",
    type=OUTPUT,
    default=Path("build/backbone"),
    show_default=True,
    help="Backbone folder to write; replaced if it is there.",
)
def export(
    model: str,
    weights: str | None,
    target_layer: str,
    layers: tuple[str, ...],
    classes: Path | None,
    input_size: int,
    output: Path,
) -> None:
    """Turn a classifier, of torch or in ONNX, into a backbone.

    It is cut at its target layer: one graph answers logits and activation maps, another the
    head's gradients (for a head of global average pooling and one linear layer, a closed form
    does). What they compute must agree with torch within 1e-4, or the network is refused.

    An ONNX model is fed as torchvision's networks usually are (resized to 8/7 of --input-size,
    centre crop, ImageNet's mean and deviation); a softmax at its end is cut off, and a fixed
    batch size made free. Without a linear head, it has no gradients.
    """
    need("offline")
    from textcam_service.artefact import require_replaceable  # noqa: PLC0415 - safetensors
    from textcam_service.graphs import FILES  # noqa: PLC0415

    require_replaceable(output, FILES)
    if model.startswith("onnx:"):
        from textcam_service.offline.networks import standard_preprocessing  # noqa: PLC0415
        from textcam_service.offline.onnx_cut import export_onnx  # noqa: PLC0415

        names = tuple(classes.read_text().splitlines()) if classes else ()
        made = export_onnx(
            Path(model.removeprefix("onnx:")),
            output,
            preprocessing=standard_preprocessing(input_size),
            class_names=names,
            target_layer=target_layer,
        )
        click.echo(f"{output}: {made}")
        return
    from textcam_service.offline.export import export_network  # noqa: PLC0415 - torch
    from textcam_service.offline.networks import load_network  # noqa: PLC0415 - torch

    network = load_network(model, weights)
    report = export_network(network, output, target_layer=target_layer, layers=layers)
    click.echo(f"{output}: {report}")


for _command in (bank, evaluate, explain, model, parity, quantise, scenes, serve, token):
    main.add_command(_command)

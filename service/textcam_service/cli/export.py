"""`textcam export`: a classifier as a backbone."""

from __future__ import annotations

from pathlib import Path

import click

from textcam_service.cli.common import OUTPUT, need


def _height_and_width(
    _: click.Context, parameter: click.Parameter, given: str | None
) -> tuple[int, int] | None:
    """Read "224" or "192,256", as a callback of click's."""
    if given is None:
        return None
    sides = given.split(",")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise click.BadParameter(
            f"'{given}' is neither a size in pixels nor a height and a width, such as 192,256",
            param=parameter,
        )
    return int(sides[0]), int(sides[-1])


@click.command()
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
    "--input-size",
    metavar="PIXELS",
    callback=_height_and_width,
    help="Of an ONNX model: 224, or height and width, 192,256.  [default: 224]",
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
    input_size: tuple[int, int] | None,
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
    from textcam_service.artefacts.backbone import FILES  # noqa: PLC0415
    from textcam_service.artefacts.files import require_replaceable  # noqa: PLC0415 - safetensors

    require_replaceable(output, FILES)
    _require_meant(model, weights, layers, classes, input_size)
    if model.startswith("onnx:"):
        from textcam_service.offline.export.onnx.export import export_onnx  # noqa: PLC0415
        from textcam_service.offline.networks.network import standard_preprocessing  # noqa: PLC0415

        made = export_onnx(
            Path(model.removeprefix("onnx:")),
            output,
            preprocessing=standard_preprocessing(*(input_size or (224, 224))),
            class_names=_read_classes(classes) if classes else (),
            target_layer=target_layer,
        )
        click.echo(f"{output}: {made}")
        return
    from textcam_service.offline.export.torch.export import export_network  # noqa: PLC0415 - torch
    from textcam_service.offline.networks.loading import load_network  # noqa: PLC0415 - torch

    network = load_network(model, weights)
    report = export_network(network, output, target_layer=target_layer, layers=layers)
    click.echo(f"{output}: {report}")


def _require_meant(
    model: str,
    weights: str | None,
    layers: tuple[str, ...],
    classes: Path | None,
    input_size: tuple[int, int] | None,
) -> None:
    """Refuse options that would say nothing.

    Raises:
        click.UsageError: One of an ONNX model is given for another, or the other way round.
    """
    kind = "ONNX models"
    meant: dict[str, object] = {"--classes": classes, "--input-size": input_size}
    if model.startswith("onnx:"):
        kind, meant = "networks of torch", {"--weights": weights, "--layer": layers}
    for name in filter(meant.get, meant):
        raise click.UsageError(f"{name} is for {kind}; leave it out")


def _read_classes(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise click.BadParameter(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8",
            param_hint="--classes",
        ) from error
    names = tuple(line.strip() for line in lines)
    if "" in names:
        raise click.BadParameter(
            f"line {names.index('') + 1} of {path} names no class", param_hint="--classes"
        )
    return names

"""`textcam export`: turn a classifier into a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from textcam_service.cli.shared.options import OUTPUT, require_extra
from textcam_service.cli.shared.parameters import height_and_width, model_options


@click.command(short_help="Turn a classifier into a backbone.")
@click.option(
    "--model",
    default="efficientnet_lite0",
    show_default=True,
    help="The classifier: efficientnet_lite0, efficientnet_lite2, torchvision:NAME, timm:NAME, "
    "import:package.module:attribute, onnx:FILE, scenes:classifier or scenes:biased.",
)
@click.option(
    "--weights",
    default=None,
    help="A weights tag, a local checkpoint, or 'none' for seeded random weights.  [default: the "
    "network's usual weights]",
)
@click.option(
    "--model-option",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    callback=model_options,
    help="An argument of the constructor of a network of timm, torchvision or your own, such as "
    "img_size=160 or global_pool=avgmax. May be given more than once.  [default: what a "
    "checkpoint's weights show, else the library's]",
)
@click.option(
    "--target-layer",
    default="",
    help="Layer with the maps to explain: a module's name, or 'input of NAME'; for an ONNX model, "
    "a tensor or node.  [default: found from the network, and printed]",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="A further layer, for methods over several layers (Integrative CAM). May be given more "
    "than once.",
)
@click.option(
    "--classes",
    metavar="FILE",
    default=None,
    help="File with a class name per line, or imagenet-1k for ImageNet's names.  [default: those "
    "that come with the library's weights, the checkpoint or the ONNX model; else numbers]",
)
@click.option(
    "--input-size",
    metavar="PIXELS",
    callback=height_and_width,
    help="For an ONNX model: size of its input, as 224, or height and width, as 192,256.  "
    "[default: 224]",
)
@click.option(
    "--output",
    type=OUTPUT,
    default=Path("build/backbone"),
    show_default=True,
    help="Backbone folder to write; an existing backbone is replaced.",
)
def export(
    model: str,
    weights: str | None,
    options: dict[str, Any],
    target_layer: str,
    layers: tuple[str, ...],
    classes: str | None,
    input_size: tuple[int, int] | None,
    output: Path,
) -> None:
    """Turn a classifier, of torch or in ONNX, into a backbone.

    The network is split at its target layer. One graph computes logits and activation maps;
    another computes the head's gradients, unless the head is global average pooling and one
    linear layer. The graphs must agree with torch within 1e-4, or the network is refused.

    An ONNX model's images are prepared as torchvision's networks expect them: resized to 8/7 of
    --input-size, cropped at the center, normalized by ImageNet's mean and deviation. A softmax at
    its end is removed, and a fixed batch size becomes dynamic. Unless its head is linear, it has
    no gradients.
    """
    require_extra("offline")
    from textcam_service.artefacts.backbone import FILES  # noqa: PLC0415
    from textcam_service.artefacts.files import require_replaceable  # noqa: PLC0415 - safetensors

    require_replaceable(output, FILES)
    _check_options(model, weights, options, layers, input_size)
    names = _read_classes(classes) if classes else ()
    if model.startswith("onnx:"):
        from textcam_service.offline.export.from_onnx.export import export_onnx  # noqa: PLC0415
        from textcam_service.offline.networks.network import standard_preprocessing  # noqa: PLC0415

        report = export_onnx(
            Path(model.removeprefix("onnx:")),
            output,
            preprocessing=standard_preprocessing(*(input_size or (224, 224))),
            class_names=names,
            target_layer=target_layer,
        )
        click.echo(f"{output}: {report}")
        return
    from textcam_service.offline.export.from_torch.export import export_network  # noqa: PLC0415 - torch
    from textcam_service.offline.networks.loading import load_network  # noqa: PLC0415 - torch

    network = load_network(model, weights, options, names)
    report = export_network(network, output, target_layer=target_layer, layers=layers)
    click.echo(f"{output}: {report}")


def _check_options(
    model: str,
    weights: str | None,
    options: dict[str, Any],
    layers: tuple[str, ...],
    input_size: tuple[int, int] | None,
) -> None:
    """Refuse options that have no effect on the model.

    Raises:
        click.UsageError: An option for ONNX models is given for a torch network, or the reverse.
    """
    kind = "ONNX models"
    without_effect: dict[str, object] = {"--input-size": input_size}
    if model.startswith("onnx:"):
        kind, without_effect = (
            "networks of torch",
            {
                "--weights": weights,
                "--model-option": options,
                "--layer": layers,
            },
        )
    for name in filter(without_effect.get, without_effect):
        raise click.UsageError(f"{name} is for {kind}; leave it out")


def _read_classes(given: str) -> tuple[str, ...]:
    """Read the names of classes from a file, or return a data set's.

    Raises:
        click.BadParameter: There is no such file, or it holds no names.
    """
    from textcam_service.offline.networks.network import IMAGENET, imagenet_names  # noqa: PLC0415

    path = Path(given)
    if given == IMAGENET and not path.exists():
        return imagenet_names()
    try:
        lines = path.read_text("utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise click.BadParameter(
            f"{path} cannot be read ({error.strerror}); give a file with a class name per line, "
            f"or {IMAGENET}",
            param_hint="--classes",
        ) from error
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

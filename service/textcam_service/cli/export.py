"""`textcam export`: turn a classifier into a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from textcam_service.cli.shared.options import OUTPUT, require_extra
from textcam_service.cli.shared.parameters import color_levels, height_and_width, model_options
from textcam_service.core.types import CropMode, Interpolation

if TYPE_CHECKING:
    from textcam_service.offline.export.from_onnx.feeding import InputLayout
    from textcam_service.offline.export.from_onnx.metadata import ChannelOrder
    from textcam_service.offline.export.report import ExportReport


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
    "--logits-output",
    metavar="NAME",
    default="",
    help="For an ONNX model of several outputs: the one with the logits; or a tensor inside of it.",
)
@click.option(
    "--layout",
    type=click.Choice(["NCHW", "NHWC"]),
    default=None,
    help="For an ONNX model: layout of its input.  [default: where its shape has the 3 colours]",
)
@click.option(
    "--channel-order",
    type=click.Choice(["RGB", "BGR"]),
    default=None,
    help="For an ONNX model: order of the colours in its input.  [default: from its metadata, else "
    "RGB]",
)
@click.option(
    "--multi-label",
    is_flag=True,
    help="The classes do not exclude each other: each gets a probability of its own, the sigmoid "
    "of its logit, in place of a softmax over all.  [default: what a module, checkpoint or ONNX "
    "model states, as by a sigmoid at its end]",
)
@click.option(
    "--input-size",
    metavar="PIXELS",
    callback=height_and_width,
    help="Size of the network's input, as 224, or height and width, as 192,256.",
)
@click.option(
    "--resize",
    type=click.IntRange(1),
    default=None,
    help="Pixels to which an image's shorter side is resized before the crop, or both with "
    "--crop-mode squash.",
)
@click.option(
    "--crop-mode",
    type=click.Choice(get_args(CropMode)),
    default=None,
    help="'center': resize in proportion and crop. 'squash': resize both sides. 'border': fit the "
    "whole image in, on the mean colour.",
)
@click.option(
    "--interpolation",
    type=click.Choice(get_args(Interpolation)),
    default=None,
    help="Filter of the resize.",
)
@click.option(
    "--mean",
    metavar="NUMBERS",
    callback=color_levels,
    help="Mean of red, green and blue that the network expects to be subtracted, of pixels scaled "
    "to 0..1: three numbers, or one for all; fractions are taken, as 127/255.",
)
@click.option(
    "--std",
    metavar="NUMBERS",
    callback=color_levels,
    help="Deviation that pixels are divided by after that, likewise. '--mean 0 --std 1/255' gives "
    "pixels of 0..255, '--mean 0.5 --std 0.5' gives -1..1.",
)
@click.option(
    "--check-images",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Photographs of things that the classes name, 16 or more: prints what the backbone "
    "answers to some of them, and says so where another preprocessing suits it better.",
)
@click.option(
    "--output",
    type=OUTPUT,
    default=Path("build/backbone"),
    show_default=True,
    help="Backbone folder to write; an existing backbone is replaced.",
)
def export(  # noqa: PLR0913, PLR0917 - one argument per option
    model: str,
    weights: str | None,
    options: dict[str, Any],
    target_layer: str,
    layers: tuple[str, ...],
    classes: str | None,
    logits_output: str,
    layout: InputLayout | None,
    channel_order: ChannelOrder | None,
    multi_label: bool,
    input_size: tuple[int, int] | None,
    resize: int | None,
    crop_mode: CropMode | None,
    interpolation: Interpolation | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    check_images: Path | None,
    output: Path,
) -> None:
    """Turn a classifier, of torch or in ONNX, into a backbone.

    The network is split at its target layer. One graph computes logits and activation maps;
    another computes the head's gradients, unless the head is global average pooling and one
    linear layer. The graphs must agree with torch within 1e-4, or the network is refused.

    How images are prepared is known of the packaged networks and of those of torchvision and timm.
    An ONNX model's metadata may state it, and a module of your own may. Whatever is stated nowhere
    is as for torchvision's networks: 224 pixels, resized to 8/7 of this, cropped at the center,
    normalized by ImageNet's mean and deviation. Options take the place of all of it, and the export
    prints what was assumed or replaced.

    A softmax or sigmoid at an ONNX model's end is removed, and a fixed batch size becomes dynamic.
    Unless its head is linear, it has no gradients.
    """
    require_extra("offline")
    from textcam_service.artefacts.backbone import FILES  # noqa: PLC0415
    from textcam_service.artefacts.files import require_replaceable  # noqa: PLC0415 - safetensors

    require_replaceable(output, FILES)
    of_onnx = {
        "--logits-output": logits_output,
        "--layout": layout,
        "--channel-order": channel_order,
    }
    of_torch = {"--weights": weights, "--model-option": options, "--layer": layers}
    _check_options(model, of_onnx, of_torch)
    names = _read_classes(classes) if classes else ()
    from textcam_service.offline.networks.network import StatedPreprocessing  # noqa: PLC0415 - torch

    stated = StatedPreprocessing(input_size, resize, interpolation, mean, std, crop_mode)
    if model.startswith("onnx:"):
        from textcam_service.offline.export.from_onnx.export import export_onnx  # noqa: PLC0415
        from textcam_service.offline.export.from_onnx.feeding import OnnxInterface  # noqa: PLC0415

        report = export_onnx(
            Path(model.removeprefix("onnx:")),
            output,
            preprocessing=stated,
            interface=OnnxInterface(layout, channel_order, logits_output),
            class_names=names,
            target_layer=target_layer,
            multi_label=multi_label,
        )
        _finish(report, output, check_images)
        return
    from textcam_service.offline.export.from_torch.export import export_network  # noqa: PLC0415 - torch
    from textcam_service.offline.networks.loading import load_network  # noqa: PLC0415 - torch

    network = load_network(model, weights, options, names, stated, multi_label=multi_label)
    report = export_network(network, output, target_layer=target_layer, layers=layers)
    _finish(report, output, check_images)


def _finish(report: ExportReport, output: Path, check_images: Path | None) -> None:
    """Print an export's report and, if photographs are given, the check on them."""
    click.echo(f"{output}: {report}")
    if check_images is None:
        return
    from textcam_service.offline.export.preprocessing_check import check_folder  # noqa: PLC0415

    for line in check_folder(output, check_images):
        click.echo(line)


def _check_options(
    model: str, of_onnx: Mapping[str, object], of_torch: Mapping[str, object]
) -> None:
    """Refuse options that have no effect on the model.

    Args:
        model: The model.
        of_onnx: Values of the options for ONNX models alone, by name.
        of_torch: The same for networks of torch.

    Raises:
        click.UsageError: An option for ONNX models is given for a torch network, or the reverse.
    """
    kind, without_effect = "ONNX models", of_onnx
    if model.startswith("onnx:"):
        kind, without_effect = "networks of torch", of_torch
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

"""`textcam quantize`: an int8 backbone for CPUs, if it explains like the float one."""

from __future__ import annotations

from pathlib import Path

import click

from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.cli.shared.options import (
    OUTPUT,
    backbone_option,
    comparison_options,
    progress_bars,
    require_extra,
)

_FOLDER = click.Path(path_type=Path)


@click.command(short_help="Make an int8 backbone for CPUs.")
@backbone_option
@comparison_options
@click.option(
    "--held-out",
    type=_FOLDER,
    multiple=True,
    help="Folder of images on which explanations are compared.  [default: the images of --images "
    "that are not used for calibration]",
)
@click.option(
    "--calibration",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Number of images of --images that are used for calibration.",
)
@click.option(
    "--float-layers",
    type=click.IntRange(0),
    default=6,
    show_default=True,
    help="Number of the first layers that stay float. More are slower and more accurate.",
)
@click.option(
    "--reduce-range",
    is_flag=True,
    help="Use 7-bit weights, for CPUs without VNNI; less accurate.",
)
@click.option(
    "--output",
    type=OUTPUT,
    required=True,
    help="Backbone folder to write; an existing backbone is replaced.",
)
def quantize(  # noqa: PLR0917 - one argument per option
    backbone: Path,
    bank: Path | None,
    images: tuple[Path, ...],
    held_out: tuple[Path, ...],
    calibration: int,
    float_layers: int,
    reduce_range: bool,
    min_top1: float,
    min_map_correlation: float,
    min_first_phrase: float,
    max_share_difference: float,
    output: Path,
) -> None:
    """Make an int8 backbone for CPUs, if it explains as the float one does.

    Both explain the held-out images with the bank. If the most probable class, the saliency map
    or the first phrase differ too often, nothing is written, and the measures are printed. The
    backbone is accepted with this bank only; parity.json in its folder holds the measures.

    \b
      textcam quantize --backbone build/backbone --images photos/ --output build/int8
      textcam serve --backbone build/int8
    """
    require_extra("offline")
    from textcam_service.core.agreement import AgreementThresholds  # noqa: PLC0415 - numpy
    from textcam_service.model.bundle import ModelBundle  # noqa: PLC0415 - onnxruntime
    from textcam_service.offline.dataset import ImageFolder  # noqa: PLC0415
    from textcam_service.offline.quantization import QuantizationSettings, split  # noqa: PLC0415 - onnx
    from textcam_service.offline.quantization import quantize as run  # noqa: PLC0415 - onnx

    folder = bank or PHOTOS
    cpu = ("CPUExecutionProvider",)
    bundle = ModelBundle.load("quantized", backbone, folder, providers=cpu)
    chosen, others = split(ImageFolder.find(images), calibration)
    with progress_bars() as progress:
        report = run(
            bundle,
            chosen,
            ImageFolder.find(held_out) if held_out else others,
            output,
            QuantizationSettings(float_layers, reduce_range),
            AgreementThresholds(
                min_top1, min_map_correlation, min_first_phrase, max_share_difference
            ),
            progress=progress,
        )
    click.echo(f"{output}: {report}")

"""`textcam parity`: compare explanations by a device or precision with the CPU's in fp32."""

from __future__ import annotations

from pathlib import Path

import click

from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.cli.shared.options import backbone_option, comparison_options, require_extra


@click.command(short_help="Compare explanations by a device or precision with the CPU's.")
@backbone_option
@comparison_options
@click.option(
    "--providers",
    multiple=True,
    required=True,
    help="As for `textcam serve`: tensorrt, cuda, openvino or cpu. May be given more than once.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "fp16", "bf16", "int8"]),
    default="fp32",
    show_default=True,
    help="Precision of products, as for `textcam serve`.",
)
@click.option(
    "--engine-cache",
    default="",
    help="As for `textcam serve`, which serves the compared engine if --max-batch is the same, and "
    "OpenVINO's bf16 and int8 only with the record that is kept there.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="As for `textcam serve`: most images of a batch.",
)
def parity(  # noqa: PLR0917 - one argument per option
    backbone: Path,
    bank: Path | None,
    images: tuple[Path, ...],
    providers: tuple[str, ...],
    precision: str,
    engine_cache: str,
    max_batch: int,
    min_top1: float,
    min_map_correlation: float,
    min_first_phrase: float,
    max_share_difference: float,
) -> None:
    """Compare a device's explanations with those of the CPU, and fail if they differ too much.

    Run it on the serving machine, before it serves in bf16, fp16 or tf32, or in int8 by OpenVINO.
    For OpenVINO what was found is kept in the folder of --engine-cache, for this backbone, bank,
    processor and version.

    \b
      textcam parity --images photos/ --providers tensorrt --precision fp16 --engine-cache engines/
      textcam serve --providers tensorrt --precision fp16 --engine-cache engines/
    """
    require_extra("service")
    from textcam_service.artefacts.parity import require_parity  # noqa: PLC0415
    from textcam_service.core.agreement import AgreementThresholds  # noqa: PLC0415
    from textcam_service.model.bundle import ModelBundle  # noqa: PLC0415 - onnxruntime
    from textcam_service.model.precision import keep_record, needs_record  # noqa: PLC0415 - onnxruntime
    from textcam_service.offline.dataset import ImageFolder  # noqa: PLC0415
    from textcam_service.offline.evaluation.parity import compare  # noqa: PLC0415
    from textcam_service.runtime.providers import DeviceOptions  # noqa: PLC0415

    folder = bank or PHOTOS
    options = DeviceOptions(precision, engine_cache, max_batch=max_batch, needs_record=False)
    own = ModelBundle.load("cpu", backbone, folder, providers=("cpu",))
    other = ModelBundle.load("device", backbone, folder, providers=providers, device=options)
    figures = compare(own, other, ImageFolder.find(images))
    wanted = AgreementThresholds(
        min_top1, min_map_correlation, min_first_phrase, max_share_difference
    )
    if needs_record(other.backbone) and engine_cache:
        keep_record(other.backbone, other.artefact, options, figures, wanted)
    device = f"{other.backbone.execution_provider}, {other.backbone.precision}"
    require_parity(figures, wanted, device)
    click.echo(f"{device}: {figures.compared_with(wanted)}")

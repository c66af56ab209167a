"""`textcam bank`: build, inspect and verify concept banks."""

from __future__ import annotations

import json
from pathlib import Path

import click

from textcam_service.cli.bank.build import bank_build
from textcam_service.cli.bank.report import summary
from textcam_service.cli.bank.vocabulary import bank_vocabulary
from textcam_service.cli.shared.options import require_extra


@click.group()
def bank() -> None:
    """Build, inspect and verify concept banks."""


bank.add_command(bank_build)
bank.add_command(bank_vocabulary)


@bank.command("inspect")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole manifest as JSON.")
def bank_inspect(folder: Path, as_json: bool) -> None:
    """Print what a bank folder holds."""
    require_extra("service")
    from textcam_service.artefacts.bank import read_bank  # noqa: PLC0415 - safetensors

    artefact = read_bank(folder)
    parameters = dict(artefact.bank.parameters)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "bank_digest": artefact.bank_digest,
                    "vocabulary_digest": artefact.vocabulary_digest,
                    "backbone_digest": artefact.bank.backbone_digest,
                    "embedder": artefact.bank.embedder,
                    "parameters": parameters,
                },
                indent=2,
            )
        )
        return
    click.echo(summary(artefact))
    click.echo(f"backbone   {artefact.bank.backbone_digest}")
    click.echo(f"embedder   {artefact.bank.embedder}")
    if artefact.bank.supports is not None:
        calibration = artefact.bank.supports.calibration
        click.echo(
            f"words      by supports, {int(calibration.grounded.sum())} phrases grounded, "
            f"probabilities by {calibration.source} of {calibration.images} images"
        )
    for key in ("command", "probing_images", "per_class", "channel_settings", "embedder_passes"):
        click.echo(f"{key:<10} {parameters.get(key)}")


@bank.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--backbone",
    type=click.Path(path_type=Path),
    default=None,
    help="Also check that the bank was built for this backbone.",
)
def bank_verify(folder: Path, backbone: Path | None) -> None:
    """Check a bank's digests, and that it fits a backbone; exit status 1 if not."""
    require_extra("service")
    from textcam_service.artefacts.bank import read_bank  # noqa: PLC0415 - safetensors
    from textcam_service.model.bundle import ModelBundle  # noqa: PLC0415 - onnxruntime

    if backbone is None:
        read_bank(folder)
    else:
        ModelBundle.load("verify", backbone, folder)
    click.echo(f"{folder}: sound" + (f", and fits {backbone}" if backbone else ""))

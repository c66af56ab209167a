"""`textcam bank vocabulary`: give a bank another vocabulary."""

from __future__ import annotations

from pathlib import Path

import click

from textcam_service.cli.bank.report import print_ungrounded, print_unused, summary
from textcam_service.cli.shared.options import OUTPUT, require_extra


@click.command("vocabulary", short_help="Give a bank another vocabulary.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--vocabulary",
    type=click.Path(path_type=Path),
    required=True,
    help="File with a phrase per line.",
)
@click.option(
    "--embedder",
    default="packaged",
    show_default=True,
    help="Embedder that the bank was built with.",
)
@click.option(
    "--backbone",
    type=click.Path(path_type=Path),
    default=None,
    help="Backbone that the bank was built for. With it, new phrases are grounded by the data of "
    "the probing images in the bank.",
)
@click.option(
    "--attributes",
    type=click.Path(path_type=Path),
    default=None,
    help="Table that grounds phrases, as for `textcam bank build`; needs --backbone.",
)
@click.option(
    "--output",
    type=OUTPUT,
    required=True,
    help="Bank folder to write; an existing bank is replaced.",
)
def bank_vocabulary(
    folder: Path,
    vocabulary: Path,
    embedder: str,
    backbone: Path | None,
    attributes: Path | None,
    output: Path,
) -> None:
    """Give a bank another vocabulary; needs no images.

    Phrases that the bank has keep their supports. Phrases that no source grounds are listed, and
    never chosen.
    """
    require_extra("offline")
    from textcam_service.offline.banks.attribute_tables import read_tables  # noqa: PLC0415 - torch
    from textcam_service.offline.banks.vocabulary import replace_vocabulary  # noqa: PLC0415 - torch
    from textcam_service.offline.dataset import read_vocabulary  # noqa: PLC0415
    from textcam_service.offline.embedders.loading import load_embedder  # noqa: PLC0415 - torch
    from textcam_service.runtime.backbone import Backbone  # noqa: PLC0415 - onnxruntime

    if attributes is not None and backbone is None:
        raise click.UsageError("--attributes needs --backbone, because the table names its classes")
    phrases, kinds = read_vocabulary(vocabulary)
    served = None if backbone is None else Backbone(backbone)
    tables = None
    if served is not None and attributes is not None:
        tables = read_tables(attributes, served.manifest.class_names)
    artefact, ungrounded = replace_vocabulary(
        folder,
        load_embedder(embedder),
        phrases,
        output,
        backbone=served,
        kinds=kinds,
        tables=tables,
    )
    click.echo(f"{output}: {summary(artefact)}")
    print_ungrounded(ungrounded)
    print_unused(tables, phrases)

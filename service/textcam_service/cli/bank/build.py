"""`textcam bank build`: build the concept bank of a backbone."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.cli.bank.report import print_calibration, print_unused, summary
from textcam_service.cli.shared.options import (
    OUTPUT,
    backbone_option,
    progress_bars,
    require_extra,
    settings_of,
)
from textcam_service.core.concepts.activated_regions import RegionSettings
from textcam_service.core.rationale.settings import RationaleSettings

if TYPE_CHECKING:
    from textcam_service.artefacts.bank import BankArtefact


@click.command("build", short_help="Build the concept bank of a backbone.")
@backbone_option
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Folder of the probing set's images. May be given more than once.",
)
@click.option(
    "--vocabulary",
    type=click.Path(path_type=Path),
    default=None,
    help="File with a phrase per line.  [default: the packaged vocabulary]",
)
@click.option(
    "--embedder",
    default="packaged",
    show_default=True,
    help="Embedder of images and phrases: 'packaged' (for images like ImageNet's), 'scenes' (the "
    "rendered world's CLIP), 'open_clip:MODEL:PRETRAINED', with a tag, a checkpoint's path or "
    "TAG@PATH, 'open_clip:local-dir:FOLDER' or 'open_clip:hf-hub:REPOSITORY'.",
)
@click.option(
    "--direction",
    type=click.Choice(
        ["lda", "mean_difference", "correlation", "top_mean", "contrast", "soft_wpmi"]
    ),
    default="lda",
    show_default=True,
    help="Method that turns a channel into a direction.",
)
@click.option(
    "--samples",
    type=click.IntRange(2),
    default=100,
    show_default=True,
    help="M: number of images that activate a channel most, and number that activate it least.",
)
@click.option(
    "--shrinkage",
    type=click.FloatRange(1e-6, 1),
    default=None,
    help="Fixed shrinkage of the covariance, at least 1e-6.  [default: Ledoit-Wolf]",
)
@click.option("--keep-common", is_flag=True, help="Keep the direction that the channels share.")
@click.option(
    "--per-class",
    type=click.IntRange(1),
    default=None,
    help="Most images per predicted class.  [default: all]",
)
@click.option(
    "--regions",
    type=click.Choice(["none", "crop", "mosaic", "dense"]),
    default="none",
    show_default=True,
    help="Embed the region of an image that activates a channel, not the whole image: 'crop' "
    "each region alone, 'mosaic' regions tiled, 'dense' by one pass per image. Better if images "
    "show many things.",
)
@click.option(
    "--region",
    multiple=True,
    metavar="NAME=VALUE",
    help="Setting of the regions: share, minimum, enlarge, tiles or negatives. May be given more "
    "than once.",
)
@click.option(
    "--rationale",
    multiple=True,
    metavar="NAME=VALUE",
    help="Setting of the choice of phrases with this bank. May be given more than once. By "
    "supports: min_probability, min_odds, min_new, min_more, join, repeat_class. By embeddings "
    "(wording=embeddings): sparsity, decorrelation, max_similarity, candidates, root, prior, "
    "min_support.  [default: the measured best, min_probability=0.78 min_odds=1.3; with a table of "
    "the backbone's own classes min_probability=0.5 min_odds=6]",
)
@click.option(
    "--attributes",
    type=click.Path(path_type=Path),
    default=None,
    help="Table that grounds phrases, in lines 'phrase: class, class, ...'. Classes are the "
    "backbone's or ImageNet's, by name or index. 'class' means nearly always, 'class?' often, "
    "'class 40%' this often.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV file of the images' true classes, with the columns file and label. Needs "
    "--attributes.",
)
@click.option(
    "--output",
    type=OUTPUT,
    required=True,
    help="Bank folder to write; an existing bank is replaced.",
)
@click.option(
    "--store", default=None, help="Publish the bank to this store too: a folder or fsspec URL."
)
@click.option("--name", default="photos", show_default=True, help="Model name in the store.")
def bank_build(  # noqa: PLR0913, PLR0917 - one argument per option
    backbone: Path,
    images: tuple[Path, ...],
    vocabulary: Path | None,
    embedder: str,
    direction: Any,
    samples: int,
    shrinkage: float | None,
    keep_common: bool,
    per_class: int | None,
    regions: str,
    region: tuple[str, ...],
    rationale: tuple[str, ...],
    attributes: Path | None,
    labels: Path | None,
    output: Path,
    store: str | None,
    name: str,
) -> None:
    """Build the concept bank of a backbone.

    Runs the probing set through the backbone and the embedder. Computes how far each channel
    supports each phrase, and how likely a phrase is true given the evidence. For `textcam serve
    --direction lda`, also computes the direction from the images that activate a channel least to
    those that activate it most. An interrupted build resumes. Phrases that no source grounds are
    listed, and never chosen.

    \b
      textcam bank build --images photos/ --vocabulary words.txt \\
          --embedder open_clip:ViT-B-32:laion2b_s34b_b79k --output build/bank
    """
    require_extra("offline")
    if labels is not None and attributes is None:
        raise click.UsageError(
            "--labels needs --attributes, the table of what is true of the classes"
        )
    chosen, phrasing = region_settings(regions, region), rationale_settings(rationale)
    from textcam_service.core.concepts.channel_embeddings import ChannelSettings  # noqa: PLC0415
    from textcam_service.offline.banks.attribute_tables import (  # noqa: PLC0415 - torch
        Tables,
        read_tables,
    )
    from textcam_service.offline.banks.build import (  # noqa: PLC0415 - torch
        BankSettings,
        build_bank,
        require_enough,
    )
    from textcam_service.offline.dataset import (  # noqa: PLC0415
        ImageFolder,
        read_labels,
        read_vocabulary,
    )
    from textcam_service.offline.embedders.loading import load_embedder  # noqa: PLC0415 - torch
    from textcam_service.runtime.backbone import Backbone  # noqa: PLC0415 - onnxruntime
    from textcam_service.store.names import checked_name  # noqa: PLC0415 - fsspec

    checked_name(name)
    words = vocabulary or PHOTOS / "vocabulary.txt"
    found, (phrases, phrase_kinds) = ImageFolder.find(images), read_vocabulary(words)
    require_enough(found, samples)
    served = Backbone(backbone, threads=1)  # batches run side by side
    names = served.manifest.class_names
    tables = read_tables(attributes, names) if attributes else None
    settings = BankSettings(
        ChannelSettings(direction, samples, shrinkage, not keep_common, chosen),
        per_class,
        phrasing,
        phrase_kinds if any(phrase_kinds) else (),
        tables or Tables(),
        read_labels(labels, images, names) if labels else {},
        shlex.join(["textcam", *sys.argv[1:]]),
    )
    with progress_bars() as progress:
        artefact, seen = build_bank(
            served, load_embedder(embedder), found, phrases, output, settings, progress
        )
    _print_build(output, artefact, seen.skipped)
    print_unused(tables, phrases)
    if store:
        _publish(store, name, output)


def _print_build(output: Path, artefact: BankArtefact, skipped: Sequence[tuple[str, str]]) -> None:
    for path, reason in skipped:
        click.echo(f"skipped {path}: {reason}", err=True)
    click.echo(f"{output}: {summary(artefact)}; {len(skipped)} images skipped")
    print_calibration(artefact)
    passes = artefact.bank.parameters["embedder_passes"]
    click.echo(f"embedder passes: {passes['images']} images, {passes['regions']} of regions")


def _publish(store: str, name: str, output: Path) -> None:
    """Publish a bank, unless the store has the version."""
    from textcam_service.errors import VersionExists  # noqa: PLC0415
    from textcam_service.store.banks import BankStore  # noqa: PLC0415 - fsspec

    try:
        click.echo(f"published as {name}@{BankStore(store).publish(name, output)}")
    except VersionExists as there:
        click.echo(f"not published again: {there}")


def rationale_settings(given: tuple[str, ...]) -> RationaleSettings | None:
    """Read the pairs of --rationale; None without any."""
    return settings_of(RationaleSettings, given, "--rationale") if given else None


def region_settings(regions: str, given: tuple[str, ...]) -> RegionSettings | None:
    """Read --regions and the pairs of --region; None for whole images."""
    if regions != "none":
        return settings_of(RegionSettings, given, "--region", kind=regions)
    if given:
        raise click.BadParameter("it has no meaning without --regions", param_hint="--region")
    return None

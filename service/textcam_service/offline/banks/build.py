"""Building a concept bank from images and phrases."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textcam_service.artefacts.bank import (
    WRITTEN,
    BankArtefact,
    ConceptBank,
    Vocabulary,
    read_bank,
    write_bank,
)
from textcam_service.artefacts.files import require_replaceable
from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.core.concepts.channel_embeddings import (
    TWO_CLASS,
    ChannelDirections,
    ChannelSettings,
    channel_directions,
)
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.types import Float32Array, IntArray
from textcam_service.errors import InvalidSettings, ProbingSetError
from textcam_service.offline.banks.attribute_tables import Tables, knows_imagenet
from textcam_service.offline.banks.extract import Extraction, extract
from textcam_service.offline.banks.grounding import recognition
from textcam_service.offline.banks.phrase_sources import PhraseSources
from textcam_service.offline.banks.phrase_supports import bank_supports
from textcam_service.offline.banks.probing import Probing
from textcam_service.offline.banks.region_samples import RegionSamples, region_samples
from textcam_service.offline.banks.vocabulary import embedded
from textcam_service.offline.dataset import ImageFolder, display_path, escape
from textcam_service.offline.embedders.base import (
    TEMPLATES,
    ClassifierEmbedder,
    Embedder,
    embed_with_templates,
    part_embedder,
)
from textcam_service.offline.threads import in_threads
from textcam_service.runtime.backbone import Backbone

Progress = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class BankSettings:
    """Settings of a bank, and what is known of its images and phrases.

    Attributes:
        channels: Settings of the channels' directions.
        per_class: Maximum number of images per class that the backbone predicts; None: all. It
            balances a set in which a few classes have most of the images.
        rationale: Settings of the choice of phrases with the bank; None: see default_rationale.
        kinds: Kind of each phrase, of PHRASE_KINDS or ""; empty: not known.
        tables: The user's tables of classes and phrases.
        labels: True classes of images, by path; those of other images are not known.
        command: The user's command line, for the manifest.
    """

    channels: ChannelSettings = field(default_factory=ChannelSettings)
    per_class: int | None = None
    rationale: RationaleSettings | None = None
    kinds: Sequence[str] = ()
    tables: Tables = field(default_factory=Tables)
    labels: Mapping[Path, int] = field(default_factory=dict)
    command: str = ""


def build_bank(
    backbone: Backbone,
    embedder: Embedder,
    images: Sequence[Path],
    phrases: Sequence[str],
    output: Path,
    settings: BankSettings,
    progress: Progress = lambda _name, _total: lambda _done: None,
) -> tuple[BankArtefact, Extraction]:
    """Build a bank and write it to a folder.

    Args:
        backbone: The backbone that will be served.
        embedder: Embedder of images and phrases.
        images: The probing set.
        phrases: The vocabulary.
        output: Folder of the bank; an existing bank is replaced.
        settings: Settings of the bank.
        progress: Called with a step's name and size; what it returns is called as work is done.

    Raises:
        ProbingSetError: Too few images for 2 M samples, or no channel distinguishes them.
        InvalidSettings: Regions with a direction that is not between two sets of samples.
        EmbedderError: Mosaics or dense regions are requested, but the embedder does not see parts.
        FolderTaken: `output` holds anything but a bank.
    """
    require_replaceable(output, WRITTEN)
    require_enough(images, settings.channels.samples)
    _require_regions(embedder, settings.channels)
    work = output.resolve()
    work = work.with_name(work.name + ".work")
    seen = extract(images, backbone, embedder, work, progress("probing images", len(images)))
    chosen = probing_order(seen.predicted, settings.per_class)
    if len(chosen) < 2 * settings.channels.samples:
        raise _too_few(len(chosen), len(seen.skipped), settings.channels.samples)
    paths = _readable(images, seen, chosen)
    probing = _probing(seen, chosen, paths, settings.labels)
    _require_live(probing.scores)
    texts = embedded(embedder, phrases, read_bank(PHOTOS).vocabulary)
    vocabulary = Vocabulary(tuple(phrases), texts, embedder.identity, tuple(settings.kinds))
    regions = None
    if settings.channels.regions is not None:
        own = backbone, embedder, settings.channels
        regions = region_samples(paths, probing.scores, *own, work, progress)
    directions = channel_directions(
        probing.scores,
        probing.embeddings if regions is None else regions.embeddings,
        settings.channels,
        progress("channel directions", probing.scores.shape[1]),
        texts,
        None if regions is None else (regions.low, regions.high),
        in_threads,
    )
    sources = PhraseSources(probing, backbone, embedder, settings.tables)
    bank = _bank(sources, vocabulary, settings, seen, directions, regions)
    manifest = {"images": len(chosen), "tables": settings.tables.manifest()}
    write_bank(output, bank, vocabulary, (probing.tensors(), manifest))
    shutil.rmtree(work, ignore_errors=True)
    return read_bank(output), seen


def default_rationale(tables: Tables, class_names: Sequence[str]) -> RationaleSettings:
    """Return the default settings of phrases for a bank.

    A table of the head's own classes is the truth about them, so a phrase may be chosen at even
    odds. But with few classes, channels correlate with phrases by chance, so the evidence must be
    stronger (measured on birds: tests/bench/RESULTS.md). ImageNet's many classes use the usual
    defaults.
    """
    if tables.own and not knows_imagenet(class_names):
        return RationaleSettings(min_probability=0.5, min_odds=6.0)
    return RationaleSettings()


def probing_order(predicted: IntArray, per_class: int | None) -> IntArray:
    """Choose and order the probing images: (N,) predicted classes -> indices.

    The images are shuffled in a fixed way, and the first `per_class` of each predicted class stay.
    ReLU channels tie at 0 and ties go by sample index; in the files' own order the same few
    neighbouring images would be the "least activating" ones of every channel.
    """
    count: Counter[int] = Counter()
    kept = []
    for index, cls in enumerate(predicted.tolist()):
        if per_class is None or count[cls] < per_class:
            count[cls] += 1
            kept.append(index)
    return np.asarray(kept, np.int64)[np.random.default_rng(0).permutation(len(kept))]


def require_enough(images: Sequence[Path], samples: int) -> None:
    """Require enough files before the work begins.

    Raises:
        ProbingSetError: Fewer than 2 M.
    """
    if len(images) < 2 * samples:
        count = sum(1 for _ in ImageFolder(images).read_images())
        raise _too_few(count, len(images) - count, samples)


def _too_few(count: int, unreadable: int, samples: int) -> ProbingSetError:
    beside = f" (unreadable: {unreadable})" if unreadable else ""
    return ProbingSetError(
        f"{count} images{beside} are too few: each channel needs its {samples} most and least "
        f"activating images; give {2 * samples} or more, or lower --samples"
    )


def _require_live(scores: Float32Array) -> None:
    if not np.ptp(scores, axis=0).any():
        raise ProbingSetError(
            f"no channel of the backbone responds to any of the {len(scores)} images more than to "
            "another, as with copies of a single image; give images that differ"
        )


def _readable(images: Sequence[Path], seen: Extraction, chosen: IntArray) -> list[Path]:
    """Return the images behind some rows of an extraction."""
    skipped = {skip.path for skip in seen.skipped}
    paths = [path for path in images if display_path(path) not in skipped]
    return [paths[index] for index in chosen.tolist()]


def _require_regions(embedder: Embedder, settings: ChannelSettings) -> None:
    """Refuse, before the work, settings that would fail after it."""
    if settings.regions is None:
        return
    if settings.direction not in TWO_CLASS:
        raise InvalidSettings(
            f"the direction '{settings.direction}' is of whole images; with regions there are "
            f"{' and '.join(TWO_CLASS)}"
        )
    if settings.regions.kind != "crop":
        part_embedder(embedder)


def _probing(
    seen: Extraction, chosen: IntArray, paths: Sequence[Path], labels: Mapping[Path, int]
) -> Probing:
    return Probing(
        seen.activation_scores[chosen],
        seen.evidence[chosen],
        seen.logits[chosen],
        seen.embeddings[chosen],
        seen.opinions[chosen],
        np.array([labels.get(path, -1) for path in paths], np.int64),
    )


def _bank(
    sources: PhraseSources,
    vocabulary: Vocabulary,
    settings: BankSettings,
    seen: Extraction,
    directions: ChannelDirections,
    regions: RegionSamples | None,
) -> ConceptBank:
    backbone, probing = sources.backbone, sources.probing
    names = backbone.manifest.class_names
    rationale = settings.rationale or default_rationale(settings.tables, names)
    mean = probing.embeddings.mean(axis=0)
    parameters: dict[str, Any] = {
        "command": escape(settings.command),
        "architecture": backbone.manifest.architecture,
        "channel_settings": asdict(settings.channels),
        "per_class": settings.per_class,
        "rationale": asdict(rationale),
        "probing_images": len(probing.scores),
        "skipped": len(seen.skipped),
        "embedder_passes": {
            "images": len(seen.predicted),
            "regions": regions.passes if regions else 0,
        },
        "templates": list(TEMPLATES),
        "recognition": _recognition(sources),
    }
    return ConceptBank(
        channel_embeddings=directions.embeddings,
        dead=directions.dead,
        mean_embedding=(mean / np.linalg.norm(mean)).astype(np.float32),
        fingerprint=backbone.fingerprint(),
        backbone_digest=backbone.manifest.weights_digest,
        embedder=vocabulary.embedder,
        parameters=parameters,
        supports=bank_supports(sources, vocabulary, rationale),
    )


def _recognition(sources: PhraseSources) -> float | None:
    """Measure grounding.recognition; None: the embedder knows images by classes in any case."""
    probing, embedder = sources.probing, sources.embedder
    names = sources.backbone.manifest.class_names
    if isinstance(embedder, ClassifierEmbedder) or len(names) < 2:
        return None
    texts = embed_with_templates(embedder, [name.split(",")[0] for name in names], TEMPLATES)
    return round(recognition(probing.embeddings, texts, probing.logits.argmax(axis=1)), 4)

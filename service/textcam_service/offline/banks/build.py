"""From images and phrases to a concept bank."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

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
from textcam_service.core.concepts.channel_embeddings import (
    TWO_CLASS,
    ChannelSettings,
    channel_directions,
)
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.types import Float32Array, IntArray
from textcam_service.errors import (
    BundleMismatch,
    InvalidSettings,
    ProbingSetError,
)
from textcam_service.offline.banks.extract import Extraction, extract
from textcam_service.offline.banks.grounding import recognition
from textcam_service.offline.banks.phrases import (
    Probing,
    Tables,
    bank_supports,
    chosen_phrases,
    default_rationale,
    read_probing,
    read_tables_of,
)
from textcam_service.offline.banks.region_samples import region_samples
from textcam_service.offline.dataset import printable, readable, stated
from textcam_service.offline.embedders.loading import (
    TEMPLATES,
    ClassifierEmbedder,
    Embedder,
    embed_with_templates,
    part_embedder,
)
from textcam_service.runtime.backbone import Backbone

Progress = Callable[[str, int], Callable[[int], None]]


def build_bank(
    backbone: Backbone,
    embedder: Embedder,
    images: Sequence[Path],
    phrases: Sequence[str],
    output: Path,
    settings: ChannelSettings,
    *,
    per_class: int | None = None,
    rationale: RationaleSettings | None = None,
    kinds: Sequence[str] = (),
    tables: Tables | None = None,
    labels: Mapping[Path, int] | None = None,
    command: str = "",
    progress: Progress = lambda _name, _total: lambda _done: None,
) -> tuple[BankArtefact, Extraction]:
    """Build a bank and write it to a folder.

    Args:
        backbone: The one that will be served.
        embedder: Of images and phrases.
        images: The probing set.
        phrases: The vocabulary.
        output: The bank's folder; replaced if it is there.
        settings: How channels become directions.
        per_class: At most so many images per class that the backbone predicts; None: all.
            Balances a set in which a few classes have most of the images.
        rationale: How phrases will be chosen with this bank; None: see default_rationale.
        kinds: What each phrase names, of PHRASE_KINDS or ""; empty: not known.
        tables: The user's, of classes and phrases; None: there are none.
        labels: True class of images, by path; None: not known.
        command: What the user typed, for the manifest.
        progress: Called with a step's name and size; what it returns is told of progress.

    Raises:
        ProbingSetError: Too few images for 2 M samples, or no channel tells them apart.
        InvalidSettings: Regions with a direction that is not between two sets of samples.
        EmbedderError: Mosaics or dense regions of an embedder that does not see parts.
        FolderTaken: `output` holds anything but a bank.
    """
    require_replaceable(output, WRITTEN)
    require_enough(images, settings.samples)
    _require_regions(embedder, settings)
    work = output.resolve()
    work = work.with_name(work.name + ".work")
    seen = extract(images, backbone, embedder, work, progress("probing images", len(images)))
    chosen = probing_order(seen.predicted, per_class)
    if len(chosen) < 2 * settings.samples:
        raise _too_few(len(chosen), len(seen.skipped), settings.samples)
    scores, embeddings = seen.activation_scores[chosen], seen.embeddings[chosen]
    _require_live(scores)
    texts = embed_with_templates(embedder, phrases, TEMPLATES)
    regions = None
    if settings.regions is not None:
        paths = _readable(images, seen, chosen)
        own = settings.regions, settings.samples, work, progress
        regions = region_samples(paths, scores, backbone, embedder, *own)
    directions = channel_directions(
        scores,
        embeddings if regions is None else regions.embeddings,
        settings,
        progress("channel directions", scores.shape[1]),
        texts,
        None if regions is None else (regions.low, regions.high),
    )
    mean = embeddings.mean(axis=0)
    probing = Probing(
        scores,
        seen.evidence[chosen],
        seen.logits[chosen],
        embeddings,
        seen.opinions[chosen],
        _labels_of(_readable(images, seen, chosen), labels or {}),
    )
    own_tables = tables or Tables()
    seen_by = probing, phrases, texts, backbone, embedder, own_tables
    rationale = rationale or default_rationale(own_tables, backbone.manifest.class_names)
    supports = bank_supports(*seen_by, kinds, rationale)
    bank = ConceptBank(
        channel_embeddings=directions.embeddings,
        dead=directions.dead,
        mean_embedding=(mean / np.linalg.norm(mean)).astype(np.float32),
        fingerprint=backbone.fingerprint(),
        backbone_digest=backbone.manifest.weights_digest,
        embedder=embedder.identity,
        parameters={
            "command": printable(command),
            "architecture": backbone.manifest.architecture,
            "channel_settings": asdict(settings),
            "per_class": per_class,
            "rationale": asdict(rationale),
            "probing_images": len(chosen),
            "skipped": len(seen.skipped),
            "embedder_passes": {
                "images": len(seen.predicted),
                "regions": regions.passes if regions else 0,
            },
            "templates": list(TEMPLATES),
            "recognition": _recognition(embedder, backbone, probing),
        },
        supports=supports,
    )
    vocabulary = Vocabulary(tuple(phrases), texts, embedder.identity, tuple(kinds))
    manifest = {"images": len(chosen), "tables": own_tables.manifest()}
    write_bank(output, bank, vocabulary, (probing.tensors(), manifest))
    shutil.rmtree(work, ignore_errors=True)
    return read_bank(output), seen


def _recognition(embedder: Embedder, backbone: Backbone, probing: Probing) -> float | None:
    """See grounding.recognition; None: the embedder knows images by classes in any case."""
    names = backbone.manifest.class_names
    if isinstance(embedder, ClassifierEmbedder) or len(names) < 2:
        return None
    texts = embed_with_templates(embedder, [name.split(",")[0] for name in names], TEMPLATES)
    return round(recognition(probing.embeddings, texts, probing.logits.argmax(axis=1)), 4)


def _labels_of(paths: Sequence[Path], labels: Mapping[Path, int]) -> IntArray:
    return np.array([labels.get(path, -1) for path in paths], np.int64)


def require_enough(images: Sequence[Path], samples: int) -> None:
    """Say before the work that there are too few files.

    Raises:
        ProbingSetError: Fewer than 2 M.
    """
    if len(images) < 2 * samples:
        count = sum(1 for _ in readable(images))
        raise _too_few(count, len(images) - count, samples)


def _too_few(count: int, unreadable: int, samples: int) -> ProbingSetError:
    beside = f" (unreadable: {unreadable})" if unreadable else ""
    return ProbingSetError(
        f"{count} images{beside} are too few for the {samples} most and least exciting ones of "
        f"each channel; give {2 * samples} or more, or lower --samples"
    )


def _require_live(scores: Float32Array) -> None:
    if not np.ptp(scores, axis=0).any():
        raise ProbingSetError(
            f"no channel of the backbone answers any of the {len(scores)} images more than "
            "another, as with copies of one image; give images that differ"
        )


def _readable(images: Sequence[Path], seen: Extraction, chosen: IntArray) -> list[Path]:
    """The images behind some rows of an extraction."""
    skipped = {path for path, _ in seen.skipped}
    paths = [path for path in images if stated(path) not in skipped]
    return [paths[index] for index in chosen.tolist()]


def _require_regions(embedder: Embedder, settings: ChannelSettings) -> None:
    """Say before the work what would fail after it."""
    if settings.regions is None:
        return
    if settings.direction not in TWO_CLASS:
        raise InvalidSettings(
            f"the direction '{settings.direction}' is of whole images; with regions there are "
            f"{' and '.join(TWO_CLASS)}"
        )
    if settings.regions.kind != "crop":
        part_embedder(embedder)


def replace_vocabulary(
    folder: Path,
    embedder: Embedder,
    phrases: Sequence[str],
    output: Path,
    *,
    backbone: Backbone | None = None,
    kinds: Sequence[str] = (),
    tables: Tables | None = None,
) -> tuple[BankArtefact, tuple[str, ...]]:
    """Write a bank with other phrases; needs no images.

    Phrases that the bank has keep what it knows of them. Others are grounded by what it kept of its
    probing images.

    Args:
        folder: The bank's.
        embedder: The one that it was built with.
        phrases: The vocabulary.
        output: The new bank's folder; replaced if it is there.
        backbone: The one that it was built for; needed for phrases that it has not.
        kinds: What each phrase names; empty: not known.
        tables: The user's, of classes and phrases; None: there are none.

    Returns:
        The new bank, and the phrases that it cannot ground: they are never said.

    Raises:
        BundleMismatch: The embedder or the backbone is another, or a table is given to a bank
            that kept nothing of its probing images.
    """
    artefact = read_bank(folder)
    bank = artefact.bank
    if embedder.identity != bank.embedder:
        raise BundleMismatch(
            f"the bank was built with {bank.embedder}, and this embedder is "
            f"{embedder.identity}; give the same, or build the bank again"
        )
    if backbone is not None and backbone.manifest.weights_digest != bank.backbone_digest:
        raise BundleMismatch(
            f"the bank was built for backbone {bank.backbone_digest}, and this one is "
            f"{backbone.manifest.weights_digest}; give the bank's own"
        )
    kept = None if bank.supports is None else read_probing(folder)
    if tables is not None and (kept is None or backbone is None):
        raise BundleMismatch(
            f"the bank in {folder} kept nothing of its probing images, as the package's own, so "
            "that no table can ground new phrases; build a bank with the table"
            if kept is None
            else "a table grounds phrases by the bank's backbone; give it"
        )
    texts = _embedded(embedder, phrases, artefact.vocabulary)
    if not any(kinds):
        known = zip(artefact.vocabulary.phrases, artefact.vocabulary.kinds, strict=False)
        kind = {phrase.casefold(): own for phrase, own in known}
        kinds = [kind.get(phrase.casefold(), "") for phrase in phrases]
    supports, all_tables = None, (tables or Tables())
    if kept is not None:
        all_tables = all_tables.over(read_tables_of(folder))
    if bank.supports is not None:
        if backbone is not None and kept is not None:
            own = kept, phrases, texts, backbone, embedder, all_tables
            supports = bank_supports(*own, kinds, bank.rationale)
        else:
            supports = chosen_phrases(bank.supports, artefact.vocabulary.phrases, phrases)
    vocabulary = Vocabulary(
        tuple(phrases), texts, embedder.identity, tuple(kinds) if any(kinds) else ()
    )
    manifest = {
        "images": 0 if kept is None else len(kept.scores),
        "tables": all_tables.manifest(),
    }
    write_bank(
        output,
        replace(bank, supports=supports),
        vocabulary,
        None if kept is None else (kept.tensors(), manifest),
    )
    ungrounded = () if supports is None else np.flatnonzero(~supports.calibration.grounded)
    return read_bank(output), tuple(phrases[place] for place in ungrounded)


def _embedded(embedder: Embedder, phrases: Sequence[str], known: Vocabulary) -> Float32Array:
    """Embed the phrases that a vocabulary has not; take the others from it."""
    rows = dict(zip(known.phrases, known.embeddings, strict=True))
    new = [phrase for phrase in phrases if phrase not in rows]
    if new:
        rows |= dict(zip(new, embed_with_templates(embedder, new, TEMPLATES), strict=True))
    return np.stack([rows[phrase] for phrase in phrases])


def probing_order(predicted: IntArray, per_class: int | None) -> IntArray:
    """Choose and order the probing images: (N,) predicted classes -> indices.

    The first `per_class` of each predicted class stay, in a fixed shuffle. ReLU channels tie
    at 0 and ties go by sample index; in the files' own order the same few neighbouring
    images would stand for "least exciting" in every channel.
    """
    count: Counter[int] = Counter()
    kept = []
    for index, cls in enumerate(predicted.tolist()):
        if per_class is None or count[cls] < per_class:
            count[cls] += 1
            kept.append(index)
    return np.asarray(kept, np.int64)[np.random.default_rng(0).permutation(len(kept))]

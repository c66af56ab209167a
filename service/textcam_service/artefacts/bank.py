"""Concept banks and vocabularies as artefacts.

A bank folder holds bank.safetensors + bank.json and vocabulary.safetensors +
vocabulary.json: the channels' directions and their supports for the phrases, and the phrases
in the same space. Where it was built, probing.safetensors + probing.json lie beside them: what
other phrases' supports are made of; nothing that serves reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textcam_service.artefacts.files import (
    Tensors,
    artefact_files,
    canonical_json,
    read_artefact,
    replaced_folder,
    sha256,
    write_artefact,
)
from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.phrases import centre_texts
from textcam_service.core.rationale.reliability import ReliabilityBin
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports
from textcam_service.core.types import PHRASE_KINDS, BoolArray, Float32Array, IntArray
from textcam_service.errors import ArtefactCorrupt, BundleMismatch

FILES = (*artefact_files("bank"), *artefact_files("vocabulary"))
WRITTEN = (*FILES, *artefact_files("probing"))
_PERCENT = 100


@dataclass(frozen=True)
class ConceptBank:
    """The channel embeddings of one backbone in one embedder's space.

    Attributes:
        channel_embeddings: (D, E) unit vectors; a dead channel's is 0.
        dead: (D,) channels whose score never varied over the probing set.
        mean_embedding: (E,) of the probing set's images.
        fingerprint: (D,) Backbone.fingerprint() at build time.
        backbone_digest: weights_digest of the backbone.
        embedder: Identity of the embedder.
        parameters: How it was built: command, probing set, channel settings.
        supports: What it knows of the vocabulary's phrases; None: it has channel embeddings alone.
    """

    channel_embeddings: Float32Array
    dead: BoolArray
    mean_embedding: Float32Array
    fingerprint: Float32Array
    backbone_digest: str
    embedder: str
    parameters: Mapping[str, Any]
    supports: PhraseSupports | None = None

    @property
    def rationale(self) -> RationaleSettings:
        """How phrases are chosen with it, as was decided when it was built."""
        return RationaleSettings(**self.parameters.get("rationale", {}))


@dataclass(frozen=True)
class Vocabulary:
    """Phrases and their embeddings.

    Attributes:
        phrases: V phrases.
        embeddings: (V, E) unit vectors, as the embedder gave them.
        embedder: Identity of the embedder.
        kinds: V of PHRASE_KINDS, or "" where it does not say; empty: it says of none.
    """

    phrases: tuple[str, ...]
    embeddings: Float32Array
    embedder: str
    kinds: tuple[str, ...] = ()

    def centred(self) -> Float32Array:
        """Embeddings without the vocabulary's mean direction: (V, E) unit vectors."""
        return centre_texts(self.embeddings)


@dataclass(frozen=True)
class BankArtefact:
    """A bank with its vocabulary, and the digests of both."""

    bank: ConceptBank
    vocabulary: Vocabulary
    bank_digest: str
    vocabulary_digest: str


def write_bank(
    folder: Path,
    bank: ConceptBank,
    vocabulary: Vocabulary,
    probing: tuple[Tensors, Mapping[str, Any]] | None = None,
) -> None:
    """Write a bank folder at once; replaced if it is there.

    Args:
        folder: Of the bank.
        bank: Its channels' part.
        vocabulary: Its phrases.
        probing: Tensors and manifest of the probing images, for other vocabularies; None: none.

    Raises:
        BundleMismatch: Bank and vocabulary are of different embedders.
        FolderTaken: The folder holds anything but a bank.
    """
    _require_same_space(bank, vocabulary)
    with replaced_folder(folder, WRITTEN) as staging:
        tensors: dict[str, np.ndarray[Any, Any]] = {
            "channel_embeddings": bank.channel_embeddings.astype(np.float16),
            "dead": bank.dead,
            "mean_embedding": bank.mean_embedding,
            "fingerprint": bank.fingerprint,
        }
        manifest = {
            "backbone_digest": bank.backbone_digest,
            "embedder": bank.embedder,
            "parameters": dict(bank.parameters),
        }
        if bank.supports is not None:
            tensors |= _supports_tensors(bank.supports)
            manifest["supports"] = _supports_manifest(bank.supports)
            manifest["phrases_digest"] = _phrases_digest(vocabulary.phrases)
        write_artefact(staging, "bank", tensors, manifest)
        texts = {"phrases": list(vocabulary.phrases), "embedder": vocabulary.embedder}
        if vocabulary.kinds:
            texts["kinds"] = list(vocabulary.kinds)
        embeddings = {"embeddings": vocabulary.embeddings.astype(np.float16)}
        write_artefact(staging, "vocabulary", embeddings, texts)
        if probing is not None:
            write_artefact(staging, "probing", *probing)


def read_bank(folder: Path) -> BankArtefact:
    """Read and verify a bank folder.

    Raises:
        ArtefactMissing: A file is not there.
        ArtefactCorrupt: A digest is another, a field is missing, a kind is unknown, or its settings
            are refused.
        BundleMismatch: Bank and vocabulary are of different embedders, or of different phrases.
    """
    tensors, manifest = read_artefact(folder, "bank")
    texts, text_manifest = read_artefact(folder, "vocabulary")
    try:
        supports = None
        if "supports" in manifest:
            supports = _read_supports(tensors, manifest["supports"], len(text_manifest["phrases"]))
        bank = ConceptBank(
            channel_embeddings=_unit(tensors["channel_embeddings"]),
            dead=tensors["dead"].astype(bool),
            mean_embedding=tensors["mean_embedding"],
            fingerprint=tensors["fingerprint"],
            backbone_digest=manifest["backbone_digest"],
            embedder=manifest["embedder"],
            parameters=manifest["parameters"],
            supports=supports,
        )
        vocabulary = Vocabulary(
            phrases=tuple(text_manifest["phrases"]),
            embeddings=_unit(texts["embeddings"]),
            embedder=text_manifest["embedder"],
            kinds=tuple(text_manifest.get("kinds", ())),
        )
        digest = manifest.get("phrases_digest")
    except (KeyError, TypeError) as error:
        raise ArtefactCorrupt(f"the bank in {folder} lacks {error}; build it again") from error
    _require_same_space(bank, vocabulary)
    if supports is not None and digest != _phrases_digest(vocabulary.phrases):
        raise BundleMismatch(
            f"the bank in {folder} has supports of other phrases than its vocabulary; use "
            "`textcam bank vocabulary`, which changes both"
        )
    _require_kinds(vocabulary, folder)
    _require_settings(bank, folder)
    return BankArtefact(bank, vocabulary, manifest["digest"], text_manifest["digest"])


def _supports_tensors(supports: PhraseSupports) -> dict[str, np.ndarray[Any, Any]]:
    calibration = supports.calibration
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "supports": supports.supports.astype(np.float16),
        "likeness": supports.likeness,
        "null_mean": calibration.mean,
        "phrase_prior": calibration.prior,
        "grounded": calibration.grounded,
        "apart": supports.apart.astype(np.int32),
        "repeats": supports.repeats.astype(np.int32),
    }
    if (table := supports.attributes) is not None:
        tensors |= {
            "attribute_classes": table.classes.astype(np.int32),
            "attribute_phrases": table.phrases.astype(np.int32),
            "attribute_percent": np.rint(table.values * _PERCENT).astype(np.uint8),
        }
    return tensors


def _supports_manifest(supports: PhraseSupports) -> dict[str, Any]:
    calibration = supports.calibration
    names = ("deviation", "slope", "prior_weight", "offset", "temperature", "source", "images")
    return {
        **{name: getattr(calibration, name) for name in names},
        "said": None if calibration.said is None else list(calibration.said),
        "bins": [asdict(each) for each in calibration.bins],
        "classes": None if supports.attributes is None else supports.attributes.shape[0],
    }


def _read_supports(
    tensors: Tensors, manifest: Mapping[str, Any], phrase_count: int
) -> PhraseSupports:
    calibration = Calibration(
        mean=tensors["null_mean"],
        deviation=manifest["deviation"],
        prior=tensors["phrase_prior"],
        grounded=tensors["grounded"].astype(bool),
        slope=manifest["slope"],
        prior_weight=manifest["prior_weight"],
        offset=manifest["offset"],
        temperature=manifest["temperature"],
        source=manifest["source"],
        images=manifest["images"],
        said=None if manifest["said"] is None else tuple(manifest["said"]),
        bins=tuple(ReliabilityBin(**each) for each in manifest["bins"]),
    )
    attributes = None
    if manifest["classes"] is not None:
        attributes = ClassAttributes(
            tensors["attribute_classes"].astype(np.int64),
            tensors["attribute_phrases"].astype(np.int64),
            np.asarray(tensors["attribute_percent"] / np.float32(_PERCENT), np.float32),
            (manifest["classes"], phrase_count),
        )
    found = PhraseSupports(
        supports=tensors["supports"].astype(np.float32),
        likeness=tensors["likeness"],
        calibration=calibration,
        apart=tensors["apart"].astype(np.int64),
        repeats=tensors["repeats"].astype(np.int64),
        attributes=attributes,
    )
    _require_shapes(found, len(tensors["dead"]), phrase_count)
    return found


def _require_shapes(supports: PhraseSupports, channels: int, phrases: int) -> None:
    """Refuse what would fail at the first request; raises ArtefactCorrupt."""
    calibration, table = supports.calibration, supports.attributes
    numbers = (calibration.deviation, calibration.slope, calibration.prior_weight,
               calibration.offset, calibration.temperature)  # fmt: skip
    own = (calibration.mean, calibration.prior, calibration.grounded)
    sound = (
        supports.supports.shape == (channels, phrases)
        and supports.likeness.shape == (phrases, phrases)
        and all(each.shape == (phrases,) for each in own)
        and all(isinstance(each, (int, float)) and np.isfinite(each) for each in numbers)
        and calibration.deviation > 0
        and bool(np.isfinite(supports.supports).all() and np.isfinite(calibration.mean).all())
        and bool(np.isfinite(calibration.prior).all())
        and _places(supports.apart, (phrases, phrases))
        and _places(supports.repeats, (None, phrases))
    )
    if sound and table is not None:
        sizes = {len(table.classes), len(table.phrases), len(table.values)}
        entries = np.stack([table.classes, table.phrases], axis=1) if len(sizes) == 1 else None
        sound = entries is not None and _places(entries, table.shape)
    if not sound:
        raise ArtefactCorrupt(
            "the bank's supports do not fit its channels and phrases, or are no numbers; build it "
            "again"
        )


def _places(pairs: IntArray, limits: tuple[int | None, int | None]) -> bool:
    """Whether all of (P, 2) places lie within their limits."""
    return pairs.ndim == 2 and pairs.shape[1] == 2 and all(
        not len(pairs)
        or (column.min() >= 0 and (limit is None or column.max() < limit))
        for column, limit in zip(pairs.T, limits, strict=True)
    )  # fmt: skip


def _phrases_digest(phrases: tuple[str, ...]) -> str:
    return sha256(canonical_json(list(phrases)))


def _require_same_space(bank: ConceptBank, vocabulary: Vocabulary) -> None:
    if bank.embedder != vocabulary.embedder:
        raise BundleMismatch(
            f"the bank was made with embedder {bank.embedder}, its vocabulary with "
            f"{vocabulary.embedder}; embed the vocabulary with the bank's embedder"
        )
    spaces = bank.channel_embeddings.shape[1], vocabulary.embeddings.shape[1]
    if spaces[0] != spaces[1] or len(vocabulary.phrases) != len(vocabulary.embeddings):
        raise BundleMismatch(
            f"bank and vocabulary have {spaces[0]} and {spaces[1]} dimensions, and "
            f"{len(vocabulary.phrases)} phrases have {len(vocabulary.embeddings)} embeddings"
        )
    if vocabulary.kinds and len(vocabulary.kinds) != len(vocabulary.phrases):
        raise BundleMismatch(
            f"{len(vocabulary.phrases)} phrases have {len(vocabulary.kinds)} kinds"
        )


def _require_kinds(vocabulary: Vocabulary, folder: Path) -> None:
    if unknown := sorted({*vocabulary.kinds} - {*PHRASE_KINDS, ""}):
        raise ArtefactCorrupt(
            f"the bank in {folder} has a kind of phrases that this version does not know: "
            f"{', '.join(unknown)}; use the version that built it"
        )


def _require_settings(bank: ConceptBank, folder: Path) -> None:
    try:
        _ = bank.rationale
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtefactCorrupt(
            f"the bank in {folder} states rationale settings that this version does not take "
            f"({error}); build it again, or use the version that built it"
        ) from error


def _unit(stored: np.ndarray[Any, Any]) -> Float32Array:
    """float16 on disk, unit float32 in use: rounding alters a cosine by under 1e-3."""
    vectors = stored.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)

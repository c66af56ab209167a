"""Concept banks and vocabularies as artefacts.

A bank folder holds bank.safetensors + bank.json and vocabulary.safetensors + vocabulary.json: the
channels' directions and their supports for the phrases, and the phrases in the same space.
probing.safetensors + probing.json beside them hold data of the probing images, from which supports
of other phrases are made. The server does not read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from textcam_service.artefacts.supports import (
    read_supports,
    supports_manifest,
    supports_tensors,
)
from textcam_service.core.rationale.phrases import center_texts
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports
from textcam_service.core.types import PHRASE_KINDS, BoolArray, Float32Array
from textcam_service.errors import ArtefactCorrupt, BundleMismatch

FILES = (*artefact_files("bank"), *artefact_files("vocabulary"))
WRITTEN = (*FILES, *artefact_files("probing"))


@dataclass(frozen=True)
class ConceptBank:
    """The channel embeddings of one backbone in one embedder's space.

    Attributes:
        channel_embeddings: (D, E) unit vectors; a dead channel's is 0.
        dead: (D,) True for channels with a constant score over the probing set.
        mean_embedding: (E,) mean embedding of the probing set's images.
        fingerprint: (D,) Backbone.fingerprint() at build time.
        backbone_digest: weights_digest of the backbone.
        embedder: Identity of the embedder.
        parameters: Parameters of the build: command, probing set, channel settings.
        supports: Each channel's support for the vocabulary's phrases; None: the bank has channel
            embeddings alone.
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
        """Settings of the choice of phrases, as decided at build time."""
        return RationaleSettings(**self.parameters.get("rationale", {}))


@dataclass(frozen=True)
class Vocabulary:
    """Phrases and their embeddings.

    Attributes:
        phrases: V phrases.
        embeddings: (V, E) unit vectors, as returned by the embedder.
        embedder: Identity of the embedder.
        kinds: V of PHRASE_KINDS, "" where unknown; empty: unknown for all.
    """

    phrases: tuple[str, ...]
    embeddings: Float32Array
    embedder: str
    kinds: tuple[str, ...] = ()

    def centred(self) -> Float32Array:
        """Remove the vocabulary's mean direction from the embeddings: (V, E) unit vectors."""
        return center_texts(self.embeddings)


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
    """Write a bank folder as a whole; an existing bank is replaced.

    Args:
        folder: Folder of the bank.
        bank: Embeddings and supports of the channels.
        vocabulary: The phrases and their embeddings.
        probing: Tensors and manifest of the probing images, for other vocabularies; None: none.

    Raises:
        BundleMismatch: Bank and vocabulary were made with different embedders.
        FolderTaken: The folder holds files that do not belong to a bank.
    """
    _check_same_space(bank, vocabulary)
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
            tensors |= supports_tensors(bank.supports)
            manifest["supports"] = supports_manifest(bank.supports)
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
        ArtefactMissing: A file is missing.
        ArtefactCorrupt: A digest does not match, a field is missing, a kind is unknown, or the
            settings are invalid.
        BundleMismatch: Bank and vocabulary were made with different embedders, or for different
            phrases.
    """
    tensors, manifest = read_artefact(folder, "bank")
    texts, text_manifest = read_artefact(folder, "vocabulary")
    try:
        supports = None
        if "supports" in manifest:
            supports = read_supports(tensors, manifest["supports"], len(text_manifest["phrases"]))
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
    _check_same_space(bank, vocabulary)
    if supports is not None and digest != _phrases_digest(vocabulary.phrases):
        raise BundleMismatch(
            f"the bank in {folder} has supports of other phrases than its vocabulary; use "
            "`textcam bank vocabulary`, which changes both"
        )
    _check_kinds(vocabulary, folder)
    _check_settings(bank, folder)
    return BankArtefact(bank, vocabulary, manifest["digest"], text_manifest["digest"])


def _phrases_digest(phrases: tuple[str, ...]) -> str:
    return sha256(canonical_json(list(phrases)))


def _check_same_space(bank: ConceptBank, vocabulary: Vocabulary) -> None:
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


def _check_kinds(vocabulary: Vocabulary, folder: Path) -> None:
    if unknown := sorted({*vocabulary.kinds} - {*PHRASE_KINDS, ""}):
        raise ArtefactCorrupt(
            f"the bank in {folder} has a kind of phrases that this version does not know: "
            f"{', '.join(unknown)}; use the version that built it"
        )


def _check_settings(bank: ConceptBank, folder: Path) -> None:
    try:
        _ = bank.rationale
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtefactCorrupt(
            f"the bank in {folder} states rationale settings that this version does not take "
            f"({error}); build it again, or use the version that built it"
        ) from error


def _unit(stored: np.ndarray[Any, Any]) -> Float32Array:
    """Convert stored float16 to float32 unit vectors; rounding alters a cosine by under 1e-3."""
    vectors = stored.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)

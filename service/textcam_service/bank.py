"""Concept banks and vocabularies as artefacts.

A bank folder holds bank.safetensors + bank.json and vocabulary.safetensors +
vocabulary.json: the channels' directions, and the phrases in the same space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textcam_service.artefact import artefact_files, read_artefact, replaced_folder, write_artefact
from textcam_service.core.phrases import centre_texts
from textcam_service.core.types import BoolArray, Float32Array, RationaleSettings
from textcam_service.errors import ArtefactCorrupt, BundleMismatch

FILES = (*artefact_files("bank"), *artefact_files("vocabulary"))


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
    """

    channel_embeddings: Float32Array
    dead: BoolArray
    mean_embedding: Float32Array
    fingerprint: Float32Array
    backbone_digest: str
    embedder: str
    parameters: Mapping[str, Any]

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
    """

    phrases: tuple[str, ...]
    embeddings: Float32Array
    embedder: str

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


def write_bank(folder: Path, bank: ConceptBank, vocabulary: Vocabulary) -> None:
    """Write a bank folder at once; replaced if it is there.

    Raises:
        BundleMismatch: Bank and vocabulary are of different embedders.
        FolderTaken: The folder holds anything but a bank.
    """
    _require_same_space(bank, vocabulary)
    with replaced_folder(folder, FILES) as staging:
        write_artefact(
            staging,
            "bank",
            {
                "channel_embeddings": bank.channel_embeddings.astype(np.float16),
                "dead": bank.dead,
                "mean_embedding": bank.mean_embedding,
                "fingerprint": bank.fingerprint,
            },
            {
                "backbone_digest": bank.backbone_digest,
                "embedder": bank.embedder,
                "parameters": dict(bank.parameters),
            },
        )
        write_artefact(
            staging,
            "vocabulary",
            {"embeddings": vocabulary.embeddings.astype(np.float16)},
            {"phrases": list(vocabulary.phrases), "embedder": vocabulary.embedder},
        )


def read_bank(folder: Path) -> BankArtefact:
    """Read and verify a bank folder.

    Raises:
        ArtefactMissing: A file is not there.
        ArtefactCorrupt: A digest is another, a field is missing, or its settings are refused.
        BundleMismatch: Bank and vocabulary are of different embedders.
    """
    tensors, manifest = read_artefact(folder, "bank")
    texts, text_manifest = read_artefact(folder, "vocabulary")
    try:
        bank = ConceptBank(
            channel_embeddings=_unit(tensors["channel_embeddings"]),
            dead=tensors["dead"].astype(bool),
            mean_embedding=tensors["mean_embedding"],
            fingerprint=tensors["fingerprint"],
            backbone_digest=manifest["backbone_digest"],
            embedder=manifest["embedder"],
            parameters=manifest["parameters"],
        )
        vocabulary = Vocabulary(
            phrases=tuple(text_manifest["phrases"]),
            embeddings=_unit(texts["embeddings"]),
            embedder=text_manifest["embedder"],
        )
    except KeyError as error:
        raise ArtefactCorrupt(f"the bank in {folder} lacks {error}; build it again") from error
    _require_same_space(bank, vocabulary)
    _require_settings(bank, folder)
    return BankArtefact(bank, vocabulary, manifest["digest"], text_manifest["digest"])


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

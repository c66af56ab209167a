"""Extraction: the probing set through the served backbone and the embedder, each image once.

Batches are decoded and seen side by side, each in a thread of its own: a processor that decodes
leaves none idle that could compute.

Memory grows by N x (2 D + E) floats, and N x 1000 where the embedder is a classifier. Finished
chunks are kept in a work folder, so an interrupted extraction resumes where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from textcam_service.core.cam import activation_scores
from textcam_service.core.types import Float32Array, IntArray
from textcam_service.errors import ProbingSetError
from textcam_service.imaging.decoding import prepare
from textcam_service.model.explainer import predicted_evidence
from textcam_service.offline.chunks import Chunk, ChunkStore
from textcam_service.offline.dataset import ImageFolder, SkippedImage
from textcam_service.offline.embedders.base import ClassifierEmbedder, Embedder
from textcam_service.offline.threads import in_threads
from textcam_service.runtime.backbone import Backbone

_CHUNK = 128
_CLASSES = 1000  # ImageNet's, of a classifier's opinions
_BATCH = 8  # larger ones do not fit into a processor's cache, and take longer
_TENSORS = ("activation_scores", "logits", "evidence", "embeddings", "opinions")


@dataclass(frozen=True)
class Extraction:
    """Result of an extraction: N readable images of the probing set.

    Attributes:
        activation_scores: (N, D).
        embeddings: (N, E) unit vectors.
        logits: (N, C) of the backbone.
        evidence: (N, D) each channel's evidence for the most probable class, by the default method.
        opinions: (N, 1000) logits of the embedder's classifier; (N, 0) where it has none.
        skipped: The images that could not be read.
    """

    activation_scores: Float32Array
    embeddings: Float32Array
    logits: Float32Array
    evidence: Float32Array
    opinions: Float32Array
    skipped: tuple[SkippedImage, ...]

    @property
    def predicted(self) -> IntArray:
        """(N,) the backbone's most probable class."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)


def extract(
    images: Sequence[Path],
    backbone: Backbone,
    embedder: Embedder,
    work: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> Extraction:
    """Run the probing set, resuming an interrupted run from its chunks in `work`.

    Args:
        images: The probing set.
        backbone: The served backbone.
        embedder: Embedder that defines the bank's space.
        work: Folder for finished chunks; the caller removes it when the bank is written.
        progress: Called with the number of images finished since the last call.

    Raises:
        ProbingSetError: There is no image, or none could be read.
    """
    if not images:
        raise ProbingSetError("the probing set holds no image")
    store = ChunkStore(work, "extraction", _TENSORS)
    chunks = _parts(ImageFolder(images), _CHUNK)
    networks = backbone.manifest.weights_digest, embedder.identity
    identities = [[some.stamps(), *networks] for some in chunks]
    done = [store.load(identity) for identity in identities]
    batches = (
        batch
        for some, chunk in zip(chunks, done, strict=True)
        if chunk is None
        for batch in _parts(some, _BATCH)
    )
    seen = in_threads(partial(_extract_batch, backbone, embedder), batches)
    parts = [_nothing(backbone, embedder)]
    for some, identity, chunk in zip(chunks, identities, done, strict=True):
        if chunk is None:
            part = _joined([parts[0], *islice(seen, math.ceil(len(some) / _BATCH))])
            store.save(identity, _chunk(part))
        else:
            part = _extraction(chunk)
        parts.append(part)
        progress(len(some))
    result = _joined(parts)
    if not len(result.logits):
        raise ProbingSetError(f"none of the {len(images)} images could be read")
    return result


def _parts(images: ImageFolder, size: int) -> list[ImageFolder]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def _extract_batch(backbone: Backbone, embedder: Embedder, images: ImageFolder) -> Extraction:
    """Decode a few images and run both networks on them."""
    skipped: list[SkippedImage] = []
    pictures = [picture for _, picture in images.read_images(skipped.append)]
    inputs = [prepare(picture, backbone.manifest.preprocessing)[0] for picture in pictures]
    if not pictures:
        return replace(_nothing(backbone, embedder), skipped=tuple(skipped))
    scores, logits, evidence = _seen(backbone, np.stack(inputs))
    embeddings, opinions = _embedded(embedder, pictures)
    return Extraction(scores, embeddings, logits, evidence, opinions, tuple(skipped))


def _joined(parts: Sequence[Extraction]) -> Extraction:
    tensors = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _TENSORS}
    return Extraction(**tensors, skipped=tuple(skip for part in parts for skip in part.skipped))


def _chunk(part: Extraction) -> Chunk:
    tensors = {name: getattr(part, name) for name in _TENSORS}
    return Chunk(tensors, {"skipped": [*map(list, part.skipped)]})


def _extraction(chunk: Chunk) -> Extraction:
    skipped = tuple(SkippedImage(*skip) for skip in chunk.manifest["skipped"])
    return Extraction(**chunk.tensors, skipped=skipped)


def _seen(backbone: Backbone, images: Float32Array) -> tuple[Float32Array, ...]:
    """Compute activation scores, logits and evidence for the most probable class."""
    if backbone.is_linear:
        logits, maps = backbone.run(images)
        scores = maps.mean(axis=(2, 3))
        return scores, logits, backbone.head_weights[logits.argmax(axis=1)] * scores
    seen = backbone.forward(images)
    scores = np.stack([activation_scores(own.activation_maps) for own in seen])
    logits = np.stack([own.logits for own in seen])
    evidence = [
        predicted_evidence(backbone, own, image) for own, image in zip(seen, images, strict=True)
    ]
    return scores.astype(np.float32), logits, np.stack(evidence).astype(np.float32)


def _embedded(embedder: Embedder, pictures: Sequence[Image.Image]) -> tuple[Float32Array, ...]:
    """Compute embeddings, and the logits they were made of if the embedder is a classifier."""
    if isinstance(embedder, ClassifierEmbedder):
        opinions = embedder.classify(pictures)
        return embedder.embed_logits(opinions), opinions
    return embedder.embed_images(pictures), np.zeros((len(pictures), 0), np.float32)


def _nothing(backbone: Backbone, embedder: Embedder) -> Extraction:
    """Return the extraction of no image, for chunks in which all files are damaged."""
    channels, classes = backbone.manifest.channel_count, len(backbone.manifest.class_names)
    opinions = _CLASSES if isinstance(embedder, ClassifierEmbedder) else 0
    widths = (channels, embedder.dimension, classes, channels, opinions)
    scores, embeddings, logits, evidence, seen = (np.zeros((0, own), np.float32) for own in widths)
    return Extraction(scores, embeddings, logits, evidence, seen, ())

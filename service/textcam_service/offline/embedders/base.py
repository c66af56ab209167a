"""Embedders' protocols: images and text in one space of unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image

from textcam_service.core.types import Float32Array, FloatArray, UInt8Array
from textcam_service.errors import BundleMismatch, EmbedderError

Picture: TypeAlias = "Image.Image | UInt8Array"
_PHRASES = 2048  # embedded at a time, in all templates

TEMPLATES = (
    "{}",
    "a {}",
    "a photo of a {}",
    "a kind of {}",
    "a photo of a {}, a type of object",
    "this is a {}",
    "something that is a {}",
    "{}s",
    "a picture of a {}",
    "type of {}",
    "an example of a {}",
    "a close-up of a {}",
    "the {}",
)


class Embedder(Protocol):
    """Embedder of images and text into one space: E dimensions, cosine similarity.

    Images are embedded from several threads at a time.
    """

    @property
    def identity(self) -> str:
        """Name and digest of what defines the space: "NAME@sha256:<hex>"."""

    @property
    def dimension(self) -> int:
        """E."""

    @property
    def logit_scale(self) -> float:
        """Factor of image-text cosines before a softmax."""

    def embed_images(self, images: Sequence[Picture]) -> Float32Array:
        """Embed N upright RGB images (PIL, or uint8 (h, w, 3)): (N, E) unit vectors."""

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """Embed N texts: (N, E) unit vectors."""


@runtime_checkable
class PartEmbedder(Embedder, Protocol):
    """An embedder that sees parts of a picture in one pass, out of its dense map."""

    @property
    def part_size(self) -> tuple[int, int]:
        """(height, width) of its input, pixels.

        Raises:
            EmbedderError: Its image tower has no dense map that this package can pool.
        """

    def embed_parts(self, pictures: Sequence[Picture], parts: Sequence[FloatArray]) -> Float32Array:
        """Embed parts of pictures, each picture in one pass.

        Args:
            pictures: Upright RGB; stretched to the embedder's input, not cropped.
            parts: Per picture (P, 4): left, top, right, bottom, as shares of its sides.

        Returns:
            (sum of P, E) unit vectors; the whole picture's part has the picture's embedding.
        """


@runtime_checkable
class ClassifierEmbedder(Embedder, Protocol):
    """An embedder that knows images by a classifier's logits of ImageNet's classes."""

    def classify(self, images: Sequence[Picture]) -> Float32Array:
        """Classify N upright RGB images: (N, 1000) logits."""

    def embed_logits(self, logits: FloatArray) -> Float32Array:
        """Embed images by their logits (N, 1000): (N, E) unit vectors, as embed_images does."""


def part_embedder(embedder: Embedder) -> PartEmbedder:
    """Return an embedder as one that sees parts of a picture.

    Raises:
        EmbedderError: It does not see parts.
    """
    if not isinstance(embedder, PartEmbedder):
        raise EmbedderError(
            f"{embedder.identity} gives one embedding per picture and none of its parts; "
            "--regions crop needs none"
        )
    _ = embedder.part_size  # raises now, not after hours of extraction, if its tower cannot
    return embedder


def require_embedder(embedder: Embedder, identity: str) -> None:
    """Require that an embedder is the one that a bank names.

    Raises:
        BundleMismatch: It is another, or the same weights with something else around them.
    """
    if embedder.identity == identity:
        return
    weights = getattr(embedder, "weights_digest", None)
    why = (
        " (the weights are the same; its activation, preprocessing or tokenizer differ, or it "
        "was built when banks did not tell them)"
        if weights is not None and identity.endswith(f"@{weights}")
        else ""
    )
    raise BundleMismatch(
        f"the bank was built with {identity}, and this embedder is {embedder.identity}{why}; "
        "give the same, or build the bank again"
    )


def embed_with_templates(
    embedder: Embedder, phrases: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Float32Array:
    """Embed phrases, each as the normalised mean of its templates' embeddings: (V, E) unit.

    Args:
        embedder: Embedder that defines the space.
        phrases: The V phrases.
        templates: Each with one "{}" for the phrase; at least one.
    """
    found = [np.zeros((0, embedder.dimension), np.float64)]
    for start in range(0, len(phrases), _PHRASES):
        some = phrases[start : start + _PHRASES]
        # All templates at a time, because embedders sort texts by length.
        texts = [template.format(phrase) for template in templates for phrase in some]
        rows = embedder.embed_texts(texts).reshape(len(templates), len(some), -1)
        found.append(rows.sum(axis=0, dtype=np.float64))
    total = np.concatenate(found)
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True), np.float32)


def as_pillow(picture: Picture) -> Image.Image:
    """Convert a picture to Pillow's."""
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)

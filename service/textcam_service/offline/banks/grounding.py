"""Grounding: soft labels of each phrase in each probing image, and how common it is.

Each phrase is grounded by the best source at hand: a user's table of the backbone's own classes,
with the images' labels where they are given; the packaged table of ImageNet's classes through an
independent classifier; or a CLIP's image-text scores. A phrase that none of them knows is not
grounded, and never chosen.

Letters in shapes: N probing images, V phrases, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textcam_service.core.concepts.soft_labels import soft_labels
from textcam_service.core.concepts.supports import correlations
from textcam_service.core.probability import softmax
from textcam_service.core.types import BoolArray, Float32Array, FloatArray, IntArray
from textcam_service.core.vectors import unit
from textcam_service.offline.banks.attribute_tables import Table, matrix

# At this temperature the packaged classifier's confidence equals its accuracy (0.87 on 800
# photographs).
_RIGHT = 0.6
# Its second and third classes say more about an image than its first, so correlations use softened
# probabilities.
_SOFT = 3.0
_SAME_TEXT = 0.6  # cosine of sentence embeddings above which two phrases say the same
_SAME_AS_CLASS = 0.65
_LETTERS = 3  # shorter words identify no class
BY_SCORES = "image_text_scores"


@dataclass(frozen=True)
class Grounding:
    """Grounding of V phrases in N images by one source.

    Attributes:
        values: (N, V) in any unit: what channels are correlated with.
        labels: (N, V) soft labels, 0..1: what probabilities are fitted on.
        prior: (V,) how common each phrase is; 0: not grounded.
        source: "labels", "class_table" or "image_text_scores"; "+" between several.
        alike: (V, V) correlation of phrases over the images or the table's classes.
        table: (C, V) of the head's own classes; None: the table's classes are not the head's.
        reference: (N, C) probabilities of another, well calibrated classifier of the same classes;
            None: there is none.
    """

    values: Float32Array
    labels: Float32Array
    prior: Float32Array
    source: str
    alike: Float32Array
    table: Float32Array | None = None
    reference: Float32Array | None = None

    @property
    def grounded(self) -> BoolArray:
        """(V,) True if anything is known of the phrase."""
        return np.asarray(self.prior > 0)


def by_class_table(
    logits: FloatArray, table: Table, phrases: Sequence[str], *, of_head: bool
) -> Grounding:
    """Ground phrases by a classifier of the table's classes.

    Args:
        logits: (N, C) logits of a classifier other than the explained one.
        table: Table of its classes.
        phrases: The V phrases.
        of_head: True if the head's classes are the table's.
    """
    rows = matrix(table, phrases, logits.shape[1])
    sure = softmax(np.asarray(logits) / _RIGHT).astype(np.float32)
    labels = sure @ rows
    values = softmax(np.asarray(logits) / _SOFT).astype(np.float32) @ rows
    prior = (labels.mean(axis=0) + rows.mean(axis=0)) / 2
    own = (rows, sure) if of_head else (None, None)
    return Grounding(values, labels, prior, "class_table", _columns_alike(rows), *own)


def by_labels(
    shares: FloatArray,
    table: Table,
    phrases: Sequence[str],
    *,
    labelled: bool,
    multi_label: bool = False,
) -> Grounding:
    """Ground phrases by the images' own classes.

    Args:
        shares: (N, C) weights of the backbone's classes: 1 at an image's label, or the backbone's
            own probabilities if there are no labels.
        table: Table of the backbone's classes.
        phrases: The V phrases.
        labelled: True if `shares` are labels.
        multi_label: The classes do not exclude each other: a phrase is true of an image if it is
            true of any class in it.
    """
    rows = matrix(table, phrases, shares.shape[1])
    if multi_label:
        values = np.stack([1 - np.prod(1 - row[:, None] * rows, axis=0) for row in shares])
    else:
        values = np.asarray(shares, np.float32) @ rows
    prior = np.where(rows.any(axis=0), values.mean(axis=0), 0)
    source = "labels" if labelled else "own_predictions"
    return Grounding(values, values, prior, source, _columns_alike(rows), rows)


def by_scores(image_embeddings: FloatArray, text_embeddings: FloatArray, scale: float) -> Grounding:
    """Ground phrases by a CLIP that multiplies cosines by `scale`: (N, E), (V, E) unit vectors."""
    values = np.asarray(image_embeddings @ text_embeddings.T, np.float32)
    labels = soft_labels(values, scale)
    return Grounding(values, labels, labels.mean(axis=0), BY_SCORES, correlations(values, values))


def recognition(
    image_embeddings: FloatArray, name_embeddings: FloatArray, predicted: IntArray
) -> float:
    """Measure how well an embedder recognises a network's classes by their names.

    Args:
        image_embeddings: (N, E) unit vectors of the probing images.
        name_embeddings: (C, E) unit vectors of the classes' names.
        predicted: (N,) the network's class of each image.

    Returns:
        How often an image is nearer to the name of its class than to another class's name: 1
        always, 0.5 by chance. Each name's mean over the images is subtracted first. If it is near
        chance although the names are plain words, the embedder's scores of phrases mean nothing.
    """
    near = np.asarray(image_embeddings @ name_embeddings.T, np.float32)
    near = near - near.mean(axis=0)
    own = near[np.arange(len(near)), predicted][:, None]
    wins = (own > near).sum(axis=1) + ((own == near).sum(axis=1) - 1) / 2
    return float(wins.mean() / max(1, near.shape[1] - 1))


def first_grounded(sources: Sequence[Grounding]) -> Grounding:
    """Take each phrase from the first source that knows it."""
    found = sources[0]
    for other in sources[1:]:
        known = found.grounded
        if not (other.grounded & ~known).any():
            continue
        values = np.where(known, found.values, other.values)
        found = Grounding(
            values,
            np.where(known, found.labels, other.labels),
            np.where(known, found.prior, other.prior),
            f"{found.source}+{other.source}" if known.any() else other.source,
            correlations(values, values),
            _first_table(found.table, other.table, known),
            found.reference if found.reference is not None else other.reference,
        )
    return found


def _first_table(
    one: Float32Array | None, other: Float32Array | None, known: BoolArray
) -> Float32Array | None:
    """Take columns of the first table if it knows them, else of the other; both of one head."""
    if one is None or other is None:
        return other if one is None else one
    return np.asarray(np.where(known, one, other), np.float32)


def same_text(text_embeddings: FloatArray) -> IntArray:
    """Find pairs of phrases that say the same: (V, E) unit vectors of sentences -> (P, 2)."""
    alike = np.triu(np.asarray(text_embeddings @ text_embeddings.T) > _SAME_TEXT, 1)
    return np.argwhere(alike)


def repeated_names(
    class_names: Sequence[str],
    phrases: Sequence[str],
    name_embeddings: FloatArray | None = None,
    text_embeddings: FloatArray | None = None,
) -> IntArray:
    """Find phrases that only repeat a class's name: (R, 2) of class and phrase.

    The name has all words of the phrase, or both mean the same by sentence embeddings.

    Args:
        class_names: The C names.
        phrases: The V phrases.
        name_embeddings: (C, E) unit vectors of a sentence encoder; None: words alone count.
        text_embeddings: (V, E) unit vectors of the phrases, by the same encoder.
    """
    words = [_words(phrase) for phrase in phrases]
    names = [_words(name) for name in class_names]
    same = np.array([[bool(word) and word <= name for word in words] for name in names])
    if name_embeddings is not None and text_embeddings is not None:
        same |= unit(name_embeddings) @ unit(text_embeddings).T > _SAME_AS_CLASS
    return np.argwhere(same).reshape(-1, 2)


def _words(text: str) -> frozenset[str]:
    found = re.findall(r"\w+", text.casefold())
    return frozenset(word.removesuffix("s") for word in found if len(word) >= _LETTERS)


def _columns_alike(table: Float32Array) -> Float32Array:
    return correlations(table, table)

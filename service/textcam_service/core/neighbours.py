"""Neighbours: what is true of the other classes that the same evidence would serve.

Evidence for a class would serve some other classes nearly as well: those whose head weights lie
along it. What a table holds of those is no lookup of the explained class, whose own row is left
out, and tells a black dog from a white one where the class does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textcam_service.core.supports import standardise
from textcam_service.core.types import Float32Array, Float64Array, FloatArray, IntArray
from textcam_service.core.vectors import unit


@dataclass(frozen=True)
class ClassAttributes:
    """A sparse table: how probably each phrase is visibly true of each class.

    Attributes:
        classes: (P,) class index of each entry, ascending.
        phrases: (P,) place in the vocabulary.
        values: (P,) probability, 0..1.
        shape: (C, V).
    """

    classes: IntArray
    phrases: IntArray
    values: Float32Array
    shape: tuple[int, int]

    @staticmethod
    def of(table: FloatArray) -> ClassAttributes:
        """Keep the entries above 0 of a table (C, V)."""
        classes, phrases = np.nonzero(table)
        values = np.asarray(table[classes, phrases], np.float32)
        return ClassAttributes(classes, phrases, values, (len(table), table.shape[1]))

    def dense(self) -> Float32Array:
        """The table (C, V), 0 where there is no entry."""
        table = np.zeros(self.shape, np.float32)
        table[self.classes, self.phrases] = self.values
        return table

    def mixed(self, weights: FloatArray) -> Float64Array:
        """Mix the classes' rows: (C,) weights -> (V,)."""
        share = self.values * np.asarray(weights, np.float32)[self.classes]
        mixed = np.bincount(self.phrases, share, minlength=self.shape[1])
        return np.asarray(mixed, np.float64)


class Neighbours:
    """Finds the classes that evidence would serve.

    Args:
        head_weights: (C, D) of a linear head.
        attributes: Of the same classes.
    """

    def __init__(self, head_weights: FloatArray, attributes: ClassAttributes) -> None:
        self._weights = standardise(head_weights)
        self._attributes = attributes

    def shares(self, evidence: FloatArray, classes: IntArray) -> Float64Array:
        """Weigh the classes: (N, D) evidence for classes (N,) -> (N, C), rows of sum 1.

        A softmax over how far each class's standardised weights lie along the evidence, itself
        standardised over classes; the explained class has no share.
        """
        along = unit(evidence).astype(np.float32) @ self._weights.T
        along = standardise(along, axis=1).astype(np.float64)
        along[np.arange(len(along)), classes] = -np.inf
        raised = np.exp(along - along.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def of(self, evidence: FloatArray, class_index: int) -> Float64Array:
        """What is true of the neighbours: (D,) -> (V,), 0..1."""
        shares = self.shares(evidence[None], np.array([class_index]))
        return self._attributes.mixed(shares[0])

    def of_many(self, evidence: FloatArray, classes: IntArray) -> Float32Array:
        """The same for many images: (N, D), (N,) -> (N, V)."""
        shares = self.shares(evidence, classes).astype(np.float32)
        return np.asarray(shares @ self._attributes.dense())

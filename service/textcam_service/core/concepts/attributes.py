"""Table of classes and phrases, and its mixture by a network's class probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textcam_service.core.types import Float32Array, Float64Array, FloatArray, IntArray


@dataclass(frozen=True)
class ClassAttributes:
    """Sparse table of the probability that a phrase is visibly true of a class.

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
        """Return the table (C, V), 0 where there is no entry."""
        table = np.zeros(self.shape, np.float32)
        table[self.classes, self.phrases] = self.values
        return table

    def mixed(self, weights: FloatArray) -> Float64Array:
        """Mix the classes' rows: (C,) weights -> (V,)."""
        share = self.values * np.asarray(weights, np.float32)[self.classes]
        mixed = np.bincount(self.phrases, share, minlength=self.shape[1])
        return np.asarray(mixed, np.float64)

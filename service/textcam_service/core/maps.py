"""Activation maps that may reside on a device; reductions run there."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from textcam_service.core.types import Float32Array, Float64Array, FloatArray


class RemoteMaps(Protocol):
    """Maps (D, H, W) outside this process's memory.

    numpy.asarray() copies them here. Avoid it: they are large, and their sums are small.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W)."""
        ...

    def scores(self) -> Float64Array:
        """Average each map over its positions: (D,)."""
        ...

    def weighted(self, weights: FloatArray) -> Float32Array:
        """Compute several weighted sums of the maps: (K, D) -> (K, H, W)."""
        ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Float32Array:
        """Copy the maps to this process."""
        ...


Maps: TypeAlias = Float32Array | RemoteMaps

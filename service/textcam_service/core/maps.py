"""Activation maps that may lie on a device: sums over them are had there, they themselves stay."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from textcam_service.core.types import Float32Array, Float64Array, FloatArray


class RemoteMaps(Protocol):
    """Maps (D, H, W) that are not in this process's memory.

    numpy.asarray() brings them here, which is what to avoid: they are large, their sums are small.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W)."""
        ...

    def scores(self) -> Float64Array:
        """Each map's mean over its positions: (D,)."""
        ...

    def weighted(self, weights: FloatArray) -> Float32Array:
        """Several weighted sums of the maps: (K, D) -> (K, H, W)."""
        ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Float32Array:
        """The maps, here."""
        ...


Maps: TypeAlias = Float32Array | RemoteMaps

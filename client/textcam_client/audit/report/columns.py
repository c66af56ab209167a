"""Columns of numbers and ragged lists, packed into one buffer that a browser reads in place."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = {"u1": "Uint8Array", "i2": "Int16Array", "i4": "Int32Array", "f4": "Float32Array"}
_ALIGNMENT = 8
_LARGEST = 32767


class Columns:
    """Columns by name, in order of their addition.

    Example:
        >>> columns = Columns()
        >>> columns.add("index", [3, 5], "i4")
        >>> columns.directory["index"]
        {'type': 'Int32Array', 'offset': 0, 'length': 2, 'scale': 1.0}
    """

    def __init__(self) -> None:
        self.directory: dict[str, dict[str, Any]] = {}
        self._buffer = bytearray()

    def add(self, name: str, values: Iterable[Any], dtype: str) -> None:
        """Add numbers; dtype is "u1", "i2", "i4" or "f4"."""
        self._append(name, np.asarray(list(values), dtype=f"<{dtype}"), dtype, 1.0)

    def add_fractions(self, name: str, values: Iterable[float]) -> None:
        """Add numbers in 16 bits with one scale, the largest exactly; NaN becomes -32768."""
        exact = np.asarray(list(values), dtype=np.float64)
        finite = np.abs(exact[np.isfinite(exact)])
        scale = float(finite.max()) / _LARGEST if finite.size and finite.max() > 0 else 1.0
        steps = np.where(np.isfinite(exact), np.round(exact / scale), -_LARGEST - 1)
        self._append(name, steps.astype("<i2"), "i2", scale)

    def add_starts(self, name: str, lists: Iterable[Sized]) -> None:
        """Add the places where lists begin in a flat column, with the end of the last."""
        lengths = [len(own) for own in lists]
        self.add(name, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), "i4")

    def _append(self, name: str, values: NDArray[Any], dtype: str, scale: float) -> None:
        self._buffer += bytes(-len(self._buffer) % _ALIGNMENT)
        self.directory[name] = {
            "type": _KINDS[dtype],
            "offset": len(self._buffer),
            "length": len(values),
            "scale": scale,
        }
        self._buffer += values.tobytes()

    def packed(self) -> str:
        """Return all numbers as text: base64 of gzip."""
        return packed(bytes(self._buffer))


def packed(data: bytes) -> str:
    """Return bytes as text: base64 of gzip, the same for the same bytes."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode("ascii")


def packed_json(value: Any) -> str:
    """Return a JSON value as text: base64 of gzip, which cannot close a script tag."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return packed(text.encode("utf-8", "replace"))

"""Types of arrays, and what results with arrays have in common."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

BoolArray: TypeAlias = NDArray[np.bool_]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
Int32Array: TypeAlias = NDArray[np.int32]
UInt8Array: TypeAlias = NDArray[np.uint8]


class ReadOnlyArrays:
    """Mixin that keeps arrays read-only in copies: pickle and deepcopy make writeable ones."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        self.__dict__.update(state)


def to_json_list(values: Float32Array | None) -> list[Any] | None:
    """Turn an array into nested lists; NaN and infinity, which JSON lacks, become None."""
    if values is None:
        return None
    if values.ndim > 1:
        return [to_json_list(row) for row in values]
    return [v if math.isfinite(v) else None for v in values.tolist()]

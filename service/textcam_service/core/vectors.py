"""Operations on vectors."""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import Float64Array, FloatArray


def unit(vectors: FloatArray) -> Float64Array:
    """Scale vectors (..., E) to length 1; a vector of length 0 stays."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), np.float64)

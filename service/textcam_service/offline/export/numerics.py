"""Running translated graphs, and comparing what they compute."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from textcam_service.core.types import FloatArray

LEAST_SCALE = 1e-30  # keeps a division by zero from failing


def cpu_session(graph: bytes) -> ort.InferenceSession:
    """Load a serialised graph on the CPU, without onnxruntime's warnings."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def relative_difference(found: FloatArray, wanted: FloatArray) -> float:
    """Return the largest absolute difference, relative to the largest wanted value."""
    scale = max(float(np.abs(wanted).max()), LEAST_SCALE)
    return float(np.abs(found - wanted).max() / scale)

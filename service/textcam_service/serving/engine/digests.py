"""Digests of intermediate values, which locate where two servers differ."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from textcam_service.core.cam import activation_scores
from textcam_service.core.maps import Maps

_STEPS = 1000


def pixels_digest(image: Image.Image) -> str:
    """Return "sha256:..." of an image's pixels, uint8 RGB, row-major."""
    return _digest(image.convert("RGB").tobytes())


def activations_digest(activation_maps: Maps) -> str:
    """Return "sha256:..." of the activation scores, in thousandths of the largest magnitude.

    Args:
        activation_maps: (D, H, W) of the target layer.
    """
    scores = activation_scores(activation_maps)
    largest = float(np.abs(scores).max(initial=0.0))
    steps = np.rint(scores * (_STEPS / largest)) if largest else np.zeros_like(scores)
    return _digest(steps.astype("<i4").tobytes())


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()

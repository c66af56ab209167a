"""Array operations that several methods share."""

from __future__ import annotations

import numpy as np

from textcam_service.core.interpolation import resample
from textcam_service.core.types import Float32Array, Float64Array, FloatArray

# Share of the mean eigenvalue of the positions' Gram matrix.
_RIDGE = 1e-7
# Share of the terms' energy. Networks answer in float32: its rounding has 1e-14 of the energy, and
# the mean of equal values has a relative error of 1e-16.
_NO_VARIANCE = 1e-12


def reproducing_weights(activation_maps: FloatArray, target: FloatArray) -> Float64Array:
    """Compute the least-norm weights with which the channels reproduce a map.

    w = A (A^T A + eps I)^-1 M over positions, or the same by the channels' Gram matrix where that
    matrix is smaller. Exact up to the small ridge eps where the positions' activations are
    linearly independent, which takes D >= H W; otherwise the nearest map in least squares. So
    text and groups work for methods that only give a map.

    Args:
        activation_maps: (D, H, W).
        target: (H, W) the map M.

    Returns:
        (D,), sum_j w_j A_j = M.
    """
    flat = activation_maps.reshape(len(activation_maps), -1).astype(np.float64)
    wanted = target.reshape(-1).astype(np.float64)
    channels, cells = flat.shape
    gram = flat.T @ flat if cells <= channels else flat @ flat.T
    energy = np.trace(gram) / len(gram)
    if energy <= 0:
        return np.zeros(channels)
    gram[np.diag_indices_from(gram)] += _RIDGE * energy
    if cells <= channels:
        return np.asarray(flat @ np.linalg.solve(gram, wanted), np.float64)
    return np.asarray(np.linalg.solve(gram, flat @ wanted), np.float64)


def principal_maps(
    channel_terms: FloatArray, reference: FloatArray, count: int
) -> tuple[Float64Array, Float64Array]:
    """Find the strongest principal components of maps, with positions as the samples.

    A component's sign is arbitrary. It is chosen so that the map is high where the reference is
    (their covariance is not negative). If they are uncorrelated, the stronger extreme is positive.

    Args:
        channel_terms: (D, H, W).
        reference: (H, W).
        count: Maximum number of components; those that vary by no more than rounding are left out.

    Returns:
        Directions (Q, D), unit vectors, and the maps (Q, H, W) that they make of the centred
        terms; the strongest first.
    """
    flat = channel_terms.reshape(len(channel_terms), -1).astype(np.float64)
    energy = float((flat**2).sum())
    flat -= flat.mean(axis=1, keepdims=True)
    channels, cells = flat.shape
    by_cells = cells <= channels
    variance, vectors = np.linalg.eigh(flat.T @ flat if by_cells else flat @ flat.T)
    least = max(1e-10 * float(variance[-1]), _NO_VARIANCE * energy, 1e-300)
    kept = np.flatnonzero(variance > least)[::-1][:count]
    directions = (flat @ vectors[:, kept] if by_cells else vectors[:, kept]).T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    maps = directions @ flat
    agreement = maps @ (reference.reshape(-1) - reference.mean(dtype=np.float64))
    scale = np.linalg.norm(maps, axis=1) * np.linalg.norm(reference) * 1e-9
    extremes = maps.max(axis=1, initial=0) + maps.min(axis=1, initial=0)
    turned = np.where(np.abs(agreement) > scale, agreement, extremes) < 0
    sign = np.where(turned, -1.0, 1.0)[:, None]
    shape = (len(kept), *channel_terms.shape[1:])
    return sign * directions, (sign * maps).reshape(shape)


def blur(images: FloatArray, share: float) -> Float32Array:
    """Blur images (..., h, w) by a Gaussian with sigma as a share of each side."""

    def smoothing(pixels: int) -> Float32Array:
        distance = np.subtract.outer(np.arange(pixels), np.arange(pixels)) / (share * pixels)
        weights = np.exp(-(distance**2) / 2)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)

    height, width = images.shape[-2:]
    return np.asarray(
        smoothing(height) @ images.astype(np.float32) @ smoothing(width).T, np.float32
    )


def unit_range(maps: FloatArray) -> Float32Array:
    """Scale each map (..., H, W) to 0..1; a map that never varies becomes 0."""
    low = maps.min(axis=(-2, -1), keepdims=True)
    high = maps.max(axis=(-2, -1), keepdims=True)
    # A range below what float32 resolves at this magnitude is no variation.
    varies = high - low > 1e-6 * np.maximum(np.abs(low), np.abs(high))
    return np.asarray((maps - low) * (varies / np.where(varies, high - low, 1)), np.float32)


def masks(maps: FloatArray, height: int, width: int) -> Float32Array:
    """Stretch maps (N, H, W) to masks (N, height, width) of an image, and scale them to 0..1."""
    return unit_range(resample(maps, height, width))

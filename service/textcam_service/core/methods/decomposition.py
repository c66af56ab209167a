"""Methods that split the maps into principal components.

A component's map is centred (0 is the average position), as other implementations draw it. Its
channels' terms are not: their sum differs from the map by a constant. Terms with the map's mean of
0 would be evidence of nothing, and the phrases would be noise.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.methods.arrays import blur, masks, principal_maps
from textcam_service.core.methods.base import (
    CamTerms,
    Gradient,
    MethodInput,
    MethodSettings,
    QueryGenerator,
)
from textcam_service.core.methods.perturbation import image_scores
from textcam_service.core.types import Float32Array

# Sigma of DecomCAM's reference image, as a share of its side: 14 of 224 pixels.
_BLUR = 1 / 16


def eigen_cam(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """Eigen-CAM: the first principal component of A (Muhammad and Yeasin 2020, arXiv 2008.00299).

    The map does not depend on a class. The decomposition leaves the sign open; it is chosen
    positive where activations are strong (covariance with sum_j A_j^2). No pass beyond the first.
    """
    maps = np.asarray(inputs.activation_maps).astype(np.float64)
    directions, components = principal_maps(maps, (maps**2).sum(axis=0), 1)
    return CamTerms(directions.sum(axis=0), components.sum(axis=0).astype(np.float32))
    yield  # a generator, as all methods are


def eigen_grad_cam(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """Eigen-Grad-CAM: the first principal component of g A, as grad-cam has it. One VJP.

    The sign is chosen positive where the score rises (covariance with sum_j g_j A_j).
    """
    gradient = np.asarray((yield Gradient(inputs.class_weights)))
    scaled = inputs.cells * gradient.astype(np.float64)
    terms = scaled * np.asarray(inputs.activation_maps)
    directions, components = principal_maps(terms, terms.sum(axis=0), 1)
    weights = directions.sum(axis=0)[:, None, None] * scaled
    return CamTerms(weights, components.sum(axis=0).astype(np.float32))


def decom_cam(inputs: MethodInput, settings: MethodSettings) -> QueryGenerator:
    """DecomCAM: sub-maps of g A, each as heavy as what it shows raises the score.

    Yang et al. 2024, arXiv 2405.18882, implemented from its abstract and summaries, without its
    code. Of the channels with the highest mean g (500), the principal components of g A (10) are
    the sub-maps S_q, their signs chosen as Eigen-Grad-CAM's. Read here as follows. The masks m_q
    are S_q, stretched and scaled to 0..1; B is the blurred image. Then alpha_q is score(X m_q + B
    (1 - m_q)) - score(B). The map is the sum of alpha_q S_q / (max S_q - min S_q). It is that of
    alpha_q m_q up to a constant, with 0 as the average position. One VJP and 11 passes.
    """
    gradient = np.asarray((yield Gradient(inputs.class_weights)))
    scaled = inputs.cells * gradient.astype(np.float64)
    highest = np.argsort(-scaled.mean(axis=(1, 2)), kind="stable")[: settings.decom_channels]
    terms = scaled[highest] * np.asarray(inputs.activation_maps)[highest]
    directions, components = principal_maps(terms, terms.sum(axis=0), settings.decom_maps)
    if not len(components):
        return CamTerms(np.zeros(len(scaled)))
    reference = blur(inputs.image, _BLUR)
    shown = np.concatenate([np.zeros_like(components[:1]), components])

    def mixed(part: slice) -> Float32Array:
        mask = masks(inputs.on_grid(shown[part]), *inputs.image.shape[1:])[:, None]
        return reference + mask * (inputs.image - reference)

    scores = yield from image_scores(inputs, len(shown), settings.chunk, mixed)
    spread = np.maximum(np.ptp(components, axis=(1, 2)), np.finfo(np.float64).tiny)
    share = (scores[1:] - scores[0]) / spread
    weights = np.zeros_like(scaled)
    weights[highest] = (share @ directions)[:, None, None] * scaled[highest]
    return CamTerms(weights, np.tensordot(share, components, axes=1).astype(np.float32))

"""Methods of one forward pass and, for heads other than GAP + linear, one of the head's VJP.

g = d score / d A. Weights are scaled by the number of positions H W, so that with a GAP + linear
head, where g = w / (H W), Grad-CAM's weights are CAM's.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.cam import activation_scores, head_row
from textcam_service.core.methods.base import (
    CamTerms,
    Gradient,
    MethodInput,
    MethodSettings,
    QueryGenerator,
)
from textcam_service.core.types import Float64Array, FloatArray


def cam(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """CAM: w_j of the head (Zhou et al. 2016, arXiv 1512.04150, eq. 2). One pass."""
    assert inputs.head_weights is not None  # noqa: S101 - Capability.LINEAR_HEAD
    return CamTerms(head_row(inputs.class_weights, inputs.head_weights))
    yield  # a generator, as all methods are


def grad_cam(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """Grad-CAM: mean of g (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1). One VJP."""
    gradient = yield Gradient(inputs.class_weights)
    return CamTerms(inputs.cells * activation_scores(gradient))


def grad_cam_plus_plus(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """Grad-CAM++: sum of alpha relu(g), alpha = g^2 / (2 g^2 + sum(A) g^3).

    Chattopadhay et al. 2018, arXiv 1710.11063, eq. 19. One VJP. It is meant for maps that are never
    negative; otherwise use HiResCAM. See plus_plus_weights().
    """
    gradient = np.asarray((yield Gradient(inputs.class_weights)))
    return CamTerms(plus_plus_weights(np.asarray(inputs.activation_maps), gradient))


def xgrad_cam(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """XGrad-CAM: sum(g A) / sum(A) (Fu et al. 2020, arXiv 2008.02312). One VJP.

    The logit is conserved: a channel's mean term is its sum of g A, so the terms add up to the
    logit if the head is linear. The method is meant for maps that are never negative. If a
    channel's activations nearly cancel out, as after a LayerNorm or a GELU, the denominator is
    nearly 0. The weight then grows without bound, and one such channel may hide the rest of the
    map; use HiResCAM there. A channel with activations that cancel out exactly has weight 0.
    """
    gradient = np.asarray((yield Gradient(inputs.class_weights)))
    maps = np.asarray(inputs.activation_maps)
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    taylor = (gradient.astype(np.float64) * maps).sum(axis=(1, 2))
    weights = np.divide(taylor, total, out=np.zeros_like(total), where=total != 0)
    return CamTerms(inputs.cells * weights)


def hires_cam(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """HiResCAM: g itself, position by position (Draelos and Carin 2020, arXiv 2011.08891). One VJP.

    First order of the score's Taylor series: the terms add up to the logit where the head is
    linear in the maps.
    """
    gradient = np.asarray((yield Gradient(inputs.class_weights)))
    return CamTerms(inputs.cells * gradient.astype(np.float64))


def layer_cam(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """LayerCAM: relu(g), position by position (Jiang et al. 2021, IEEE TIP 30). One VJP."""
    gradient = np.asarray((yield Gradient(inputs.class_weights)))
    return CamTerms(inputs.cells * np.maximum(gradient, 0).astype(np.float64))


def finer_cam(inputs: MethodInput, settings: MethodSettings) -> QueryGenerator:
    """Finer-CAM: Grad-CAM of y_c - gamma * mean of y_d over similar classes d.

    Zhang et al. 2025, arXiv 2501.11309; gamma = 0.6. The similar classes are the (3) classes with
    the logits nearest to the class's. A requested contrast is explained unchanged. One VJP. The
    evidence adds up to the explained contrast, not to the class's logit.
    """
    contrast = _finer_weights(inputs, settings)
    gradient = yield Gradient(contrast)
    return CamTerms(inputs.cells * activation_scores(gradient))


def vs_cam(inputs: MethodInput, settings: MethodSettings) -> QueryGenerator:
    """VS-CAM: semantic-probe maps times a semantic-base map, on the vertices of a vision graph.

    Feng et al. 2022, arXiv 2209.09104, as its abstract describes it. The vertices are the maps'
    cells, on a grid or at positions of their own (core.vertices). Read here as follows: the probes
    are the class's, Grad-CAM's terms w_j A_j; the base map does not depend on a class, it is the
    sum of a vertex's positive activations, scaled to at most 1. The heatmap is the sum of the
    products. One VJP.
    """
    probes: CamTerms = yield from grad_cam(inputs, settings)
    base = np.maximum(np.asarray(inputs.activation_maps), 0).sum(axis=0, dtype=np.float64)
    base /= base.max() or 1.0
    return CamTerms(probes.weights[:, None, None] * base)


def plus_plus_weights(activation_maps: FloatArray, gradient: FloatArray) -> Float64Array:
    """Compute Grad-CAM++'s weights (D,) of any layer.

    g^2 cancels out of alpha = 1 / (2 + sum(A) g). So a gradient with a square that underflows does
    no harm, without a small number in the denominator. If no activation is negative, the
    denominator is at least 2 wherever relu(g) counts. With signed activations, as after a LayerNorm
    or a GELU, it has a pole at sum(A) g = -2. Near the pole a weight grows without bound; beyond it
    the sign changes. One such channel may hide the rest of the map. On the pole itself alpha is 0.
    """
    positive = np.maximum(gradient, 0).astype(np.float64)
    total = activation_maps.sum(axis=(1, 2), dtype=np.float64)[:, None, None]
    denominator = 2 + total * positive
    alpha = np.divide(1, denominator, out=np.zeros_like(positive), where=denominator != 0)
    return np.asarray((alpha * positive).sum(axis=(1, 2)), np.float64)


def _finer_weights(inputs: MethodInput, settings: MethodSettings) -> Float64Array:
    weights = inputs.class_weights
    named = np.flatnonzero(weights)
    if len(named) != 1 or len(weights) < 2:
        return weights
    target = named[0]
    distance = np.abs(inputs.logits.astype(np.float64) - inputs.logits[target])
    distance[target] = np.inf
    count = min(settings.finer_classes, len(weights) - 1)
    similar = np.argsort(distance, kind="stable")[:count]
    contrast = np.array(weights, np.float64)
    contrast[similar] = -settings.finer_gamma * weights[target] / max(count, 1)
    return contrast

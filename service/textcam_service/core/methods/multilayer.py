"""Methods that read gradients at several layers of the network."""

from __future__ import annotations

import numpy as np

from textcam_service.core.interpolation import resample
from textcam_service.core.methods.arrays import reproducing_weights
from textcam_service.core.methods.base import (
    AttentionGradients,
    CamTerms,
    Gradient,
    LayerGradients,
    MethodInput,
    MethodSettings,
    QueryGenerator,
)
from textcam_service.core.methods.gradient import plus_plus_weights
from textcam_service.core.types import Float32Array, Float64Array


def integrative_cam(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """Integrative CAM: Grad-CAM++ maps of several layers, each with its bias, fused.

    Singh et al. 2024, arXiv 2412.01354, as its abstract describes it: layers are weighted by
    gradient and activation scores, the map has a bias term, and alpha is Grad-CAM++'s for any
    smooth function of the score. Read here as follows. Layer l's map is S_l = sum_j w_j A_j + b_l,
    with Grad-CAM++'s weights (the smooth function being exp) and b_l = score - sum(g A), what the
    biases above the layer add. The whole is sum_l lambda_l S_l / max|S_l| on the target layer's
    grid. There lambda_l = (G_l / sum G + F_l / sum F) / 2, with G_l = H W mean|g| and F_l =
    mean|A|. It takes the head's VJP and that of each layer; its channel weights reproduce the map.
    Like Grad-CAM++, it is meant for maps that are never negative.
    """
    gradients = [np.asarray((yield Gradient(inputs.class_weights)))]
    if inputs.layers:
        gradients = [*(yield LayerGradients(inputs.class_weights)), *gradients]
    layers = [np.asarray(own) for own in (*inputs.layers, inputs.activation_maps)]
    score = float(inputs.score(inputs.logits))
    maps = [
        _with_bias(layer, gradient, score)
        for layer, gradient in zip(layers, gradients, strict=True)
    ]
    slopes = [np.abs(gradient).sum(axis=(1, 2)).mean() for gradient in gradients]
    levels = [np.abs(layer).mean() for layer in layers]
    importance = (_shares(slopes) + _shares(levels)) / 2
    height, width = inputs.activation_maps.shape[1:]
    fused = sum(
        share * resample(layer_map, height, width)
        for share, layer_map in zip(importance, maps, strict=True)
    )
    saliency = np.asarray(fused, np.float32)
    return CamTerms(reproducing_weights(np.asarray(inputs.activation_maps), saliency), saliency)


def legrad(inputs: MethodInput, _: MethodSettings) -> QueryGenerator:
    """LeGrad: mean over layers, heads and queries of relu(d score / d attention).

    Bousselham et al. 2024, arXiv 2404.03214, simplified: the score is always the network's, not
    one read out of each layer's own tokens. It takes the head's VJP down to its attention; its
    channel weights reproduce the map. The map is never negative.
    """
    risen = yield AttentionGradients(inputs.class_weights)
    saliency = np.asarray(risen.mean(axis=0, dtype=np.float64), np.float32)
    return CamTerms(reproducing_weights(np.asarray(inputs.activation_maps), saliency), saliency)


def _with_bias(layer: Float32Array, gradient: Float32Array, score: float) -> Float64Array:
    """Compute Integrative CAM's map of one layer, at most 1 in size."""
    bias = score - float((gradient.astype(np.float64) * layer).sum())
    weights = plus_plus_weights(layer, gradient)
    saliency = np.tensordot(weights, layer, axes=1) + bias
    return np.asarray(saliency / (np.abs(saliency).max() or 1.0), np.float64)


def _shares(values: list[np.floating]) -> Float64Array:
    """Divide by the sum; all 0: equal shares."""
    numbers = np.asarray(values, np.float64)
    total = numbers.sum()
    return numbers / total if total > 0 else np.full(len(numbers), 1 / len(numbers))

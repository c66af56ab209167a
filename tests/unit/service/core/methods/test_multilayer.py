"""Methods that read gradients at several layers."""

import numpy as np
import pytest
from textcam_service.core.interpolation import resample
from textcam_service.core.methods import (
    Gradient,
    LayerGradients,
)
from tiny_network import Tiny


def test_integrative_cam_fuses_layers_by_slopes_and_activations():
    """Step by step, on grids of 6 x 8, 3 x 4 and the target's 3 x 4."""
    network = Tiny(seed=5)
    inputs = network.inputs(1)
    layers = [*network.layers, network.maps]
    weights = inputs.class_weights
    slopes = [*network.answer(LayerGradients(weights)), network.gradient(weights)]
    maps, gradients, activations = [], [], []
    for layer, slope in zip(layers, slopes, strict=True):
        rising = np.maximum(slope, 0)
        alpha = 1 / (2 + layer.sum(axis=(1, 2), keepdims=True) * rising)
        channel = (alpha * rising).sum(axis=(1, 2))
        found = np.tensordot(channel, layer, 1) + inputs.logits[1] - (slope * layer).sum()
        maps.append(resample(found / np.abs(found).max(), 3, 4))
        gradients.append(np.abs(slope).mean() * slope[0].size)
        activations.append(np.abs(layer).mean())
    share = (gradients / np.sum(gradients) + activations / np.sum(activations)) / 2
    terms = network.explain("integrative_cam", inputs)
    np.testing.assert_allclose(terms.saliency_map, np.tensordot(share, maps, 1), atol=1e-5)


def test_integrative_cam_of_the_target_layer_alone_asks_for_no_other():
    network = Tiny()
    network.layers = ()
    terms = network.explain("integrative_cam")
    assert [type(ask) for ask in network.asks] == [Gradient]
    assert np.abs(terms.saliency_map).max() == pytest.approx(1, rel=1e-6)


def test_legrad_is_the_mean_over_layers():
    network = Tiny()
    terms = network.explain("legrad", network.inputs(2))
    expected = np.maximum(network.attention[2], 0).mean(axis=0)
    np.testing.assert_allclose(terms.saliency_map, expected, atol=1e-6)

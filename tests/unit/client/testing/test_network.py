"""The made-up classifier: its maps follow the image, and its head explains its logits."""

from __future__ import annotations

import numpy as np
import pytest
from client_samples import make_pixels
from PIL import Image
from textcam_client._heatmaps.geometry import Crop
from textcam_client.testing._network import CELLS, CHANNELS, FakeNetwork

NETWORK = FakeNetwork(("a", "b", "c"))


def forward(pixels):
    return NETWORK.forward(Image.fromarray(pixels), "raw")


def test_logits_are_the_head_over_the_mean_of_the_maps():
    output = forward(make_pixels())
    assert output.activation_maps.shape == (CHANNELS, CELLS, CELLS)
    for index in range(3):
        weights, bias = NETWORK.head(index, None)
        logit = weights @ output.activation_maps.mean(axis=(1, 2)) + bias
        assert logit == pytest.approx(output.logits[index])
    weights, bias = NETWORK.head(0, 2)
    contrast = weights @ output.activation_maps.mean(axis=(1, 2)) + bias
    assert contrast == pytest.approx(output.logits[0] - output.logits[2])


@pytest.mark.parametrize(
    ("size", "crop"), [((40, 90), Crop(25, 0, 40, 40)), ((90, 40), Crop(0, 25, 40, 40))]
)
def test_the_square_in_the_middle_is_seen_alone(size, crop):
    pixels = make_pixels(*size)
    output = forward(pixels)
    assert output.crop == crop
    outside = pixels.copy()
    outside[:5, :5] = 0
    np.testing.assert_array_equal(forward(outside).logits, output.logits)
    assert not np.allclose(forward(255 - pixels).logits, output.logits)


def test_probabilities_are_the_softmax_of_the_logits():
    output = forward(make_pixels())
    predictions = [NETWORK.prediction(output, index) for index in range(3)]
    assert [p.class_name for p in predictions] == ["a", "b", "c"]
    assert sum(p.probability for p in predictions) == pytest.approx(1)
    ratio = np.exp(output.logits[0] - output.logits[1])
    assert predictions[0].probability / predictions[1].probability == pytest.approx(ratio, 1e-4)

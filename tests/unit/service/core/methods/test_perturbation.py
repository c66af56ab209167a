"""Methods of changed images and changed maps."""

import numpy as np
import pytest
from textcam_service.core.methods import (
    HeadPasses,
    ImagePasses,
    MethodInput,
    MethodSettings,
)
from textcam_service.core.probability import softmax
from tiny_network import Tiny, whole_map


def test_score_cam_is_the_softmax_of_masked_scores():
    """Maps as large as the image, so that masks are the maps scaled to 0..1."""
    network = Tiny()
    network.maps = np.random.default_rng(1).random((4, 9, 8)).astype(np.float32)
    inputs = MethodInput(network.maps, np.zeros(4), np.array([0, 1.0, -0.5, 0]), network.image)
    scaled = [(a - a.min()) / (a.max() - a.min()) for a in network.maps]
    images = np.stack([network.image * mask for mask in scaled])
    expected = softmax(inputs.score(network.answer(ImagePasses(images))))
    found = network.explain("score_cam", inputs).weights
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(found) > 0.05


@pytest.mark.parametrize(("name", "samples"), [("score_cam", 1), ("ss_cam", 3)])
def test_channels_that_never_vary_share_one_pass(name, samples):
    """Their masks are black: 20 channels, 4 of them dead, one of these not at 0."""
    network = Tiny()
    network.maps[[2, 5, 11]] = 0
    network.maps[17] = 0.7
    weights = network.explain(name).weights
    assert sum(network.passes(ImagePasses)) == 17 * samples
    assert len(set(weights[[2, 5, 11, 17]])) == 1
    alive = network.explain(name, settings=MethodSettings(chunk=1, smooth_samples=3)).weights
    assert len(set(alive)) == 17


def test_ss_cam_depends_on_its_seed_alone():
    def weights(seed, chunk):
        settings = MethodSettings(seed=seed, chunk=chunk, smooth_samples=3)
        return Tiny().explain("ss_cam", settings=settings).weights

    np.testing.assert_array_equal(weights(1, 5), weights(1, 5))
    np.testing.assert_allclose(weights(1, 5), weights(1, 7), rtol=1e-5)
    assert np.abs(weights(1, 5) - weights(2, 5)).max() > 1e-3


def test_ss_cam_without_noise_is_score_cam():
    quiet = MethodSettings(smooth_sigma=0, smooth_samples=2)
    np.testing.assert_allclose(
        Tiny().explain("ss_cam", settings=quiet).weights, Tiny().explain("score_cam").weights
    )


def test_ablation_cam_is_the_drop_of_the_score():
    network = Tiny(seed=4)
    network.maps[6] = 0
    inputs = network.inputs(class_weights=[0, 2.0, -1, 0])
    expected = []
    for channel in range(20):
        without = network.maps.copy()
        without[channel] = 0
        logits = network.logits(np.stack([network.maps, without])) @ inputs.class_weights
        expected.append(logits[0] - logits[1])
    found = network.explain("ablation_cam", inputs).weights
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[6] == 0
    assert sum(network.passes(HeadPasses)) == 19


def test_recipro_cam_is_the_score_of_single_positions():
    network = Tiny(seed=4)
    network.maps[:, 1, 2] = 0
    inputs = network.inputs(class_weights=[0, 2.0, -1, 0])
    expected = np.zeros((3, 4))
    for row, column in np.ndindex(3, 4):
        alone = np.zeros_like(network.maps)
        alone[:, row, column] = network.maps[:, row, column]
        expected[row, column] = network.logits(alone[None])[0] @ inputs.class_weights
    empty = network.logits(0 * network.maps[None])[0] @ inputs.class_weights
    found = network.explain("recipro_cam", inputs).saliency_map
    np.testing.assert_allclose(found, 12 * (expected - empty), atol=1e-5)
    assert sum(network.passes(HeadPasses)) == 12


@pytest.mark.parametrize("name", ["ablation_cam", "recipro_cam"])
def test_the_closed_form_of_a_linear_head_equals_the_passes(name):
    network = Tiny(linear=True)
    inputs = network.inputs(class_weights=[1.0, 0, -1, 0.5])
    closed = network.explain(name, inputs)
    assert not network.asks
    hidden = MethodInput(network.maps, inputs.logits, inputs.class_weights, network.image)
    passed = network.explain(name, hidden)
    assert network.asks
    np.testing.assert_allclose(
        whole_map(passed, network.maps), whole_map(closed, network.maps), atol=1e-4
    )
    if name == "ablation_cam":
        np.testing.assert_allclose(passed.weights, closed.weights, atol=1e-5)

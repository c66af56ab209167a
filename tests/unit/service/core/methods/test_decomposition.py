"""Methods of principal components."""

import numpy as np
import pytest
from textcam_service.core.interpolation import resample
from textcam_service.core.methods import (
    ImagePasses,
    MethodSettings,
)
from textcam_service.core.methods.arrays import blur
from tiny_network import Tiny, constant, explained_by, whole_map


@pytest.mark.parametrize("sign", [1, -1])
def test_eigen_cam_is_positive_where_activations_are_strong(sign):
    """Maps u and 2 u: the component is sqrt(5) (u - mean u), whatever the activations' sign."""
    shape = np.array([[0.0, 1], [0, 3]])
    terms = explained_by(sign * np.stack([shape, 2 * shape]), None, "eigen_cam")
    np.testing.assert_allclose(terms.saliency_map, np.sqrt(5) * (shape - 1), rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_eigen_grad_cam_is_positive_where_the_score_rises(sign):
    """g A is u where the slope is 1 and -u where it is -1."""
    shape = np.array([[0.0, 1], [0, 3]])
    terms = explained_by([shape, shape], sign * np.ones((2, 2, 2)), "eigen_grad_cam")
    np.testing.assert_allclose(terms.saliency_map, sign * 4 * np.sqrt(2) * (shape - 1), rtol=1e-6)


@pytest.mark.parametrize("name", ["eigen_cam", "eigen_grad_cam", "decom_cam"])
@pytest.mark.parametrize("channels", [8, 20])
def test_the_decompositions_whim_does_not_turn_a_map_over(name, channels, monkeypatch):
    """Fewer channels than positions, and more."""
    network = Tiny(channels=channels)
    before = whole_map(network.explain(name), network.maps)
    eigh = np.linalg.eigh

    def turned(matrix):
        values, vectors = eigh(matrix)
        return values, -vectors

    monkeypatch.setattr(np.linalg, "eigh", turned)
    after = whole_map(network.explain(name), network.maps)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert np.ptp(before) > 0.1


@pytest.mark.parametrize("channels", [8, 20])
def test_components_are_those_of_the_singular_value_decomposition(channels):
    network = Tiny(channels=channels)
    flat = network.maps.reshape(channels, -1).astype(np.float64)
    centred = flat - flat.mean(axis=1, keepdims=True)
    expected = np.linalg.svd(centred)[0][:, 0] @ centred
    found = network.explain("eigen_cam").saliency_map.ravel()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-5)


def test_decom_cam_adds_sub_maps_by_what_they_show():
    """Step by step, with the plain decomposition, 3 sub-maps of the 9 steepest channels."""
    network, settings = Tiny(seed=3), MethodSettings(decom_channels=9, decom_maps=3)
    inputs = network.inputs()
    gradient = network.gradient(inputs.class_weights).astype(np.float64)
    chosen = np.argsort(gradient.sum(axis=(1, 2)))[-9:]
    terms = (gradient * network.maps)[chosen].reshape(9, -1) * 12
    centred = terms - terms.mean(axis=1, keepdims=True)
    components = np.linalg.svd(centred)[0][:, :3].T @ centred
    components *= np.sign(components @ terms.sum(axis=0))[:, None]
    reference = blur(inputs.image, 1 / 16)

    def score(image):
        return inputs.score(network.answer(ImagePasses(image[None].astype(np.float32))))[0]

    expected = 0
    for component in components.reshape(3, 3, 4):
        mask = resample(component, *inputs.image.shape[1:])
        mask = (mask - mask.min()) / np.ptp(mask)
        shown = score(inputs.image * mask + reference * (1 - mask)) - score(reference)
        expected = expected + shown * component / np.ptp(component)
    found = network.explain("decom_cam", settings=settings)
    np.testing.assert_allclose(found.saliency_map, expected, atol=1e-4)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("name", ["eigen_cam", "eigen_grad_cam", "decom_cam"])
def test_what_never_varies_has_no_components(name):
    network = constant(linear=True)
    shaken = np.random.default_rng(2).choice([1 - 1e-7, 1, 1 + 1e-7], network.maps.shape)
    for maps in (network.maps, (network.maps * shaken).astype(np.float32)):
        terms = explained_by(maps, network.gradient(np.eye(4)[0]), name)
        assert not terms.weights.any()
        assert not whole_map(terms, maps).any()

"""Methods of one pass and one VJP, by hand."""

import numpy as np
from textcam_service.core.methods import (
    METHODS,
    MethodInput,
    MethodSettings,
    run_method,
)
from tiny_network import A, G, Tiny, explained_by, spatial


def test_grad_cam_takes_the_mean_slope():
    weights = explained_by(A, G, "grad_cam").weights
    np.testing.assert_allclose(weights, [-0.25, 0], atol=1e-7)


def test_grad_cam_plus_plus_weighs_positive_slopes_by_alpha():
    """Channel 0: sum(A) = 4, so alpha is 1 / (2 + 4 * 0.5) and 1 / (2 + 4 * 0.25)."""
    weights = explained_by(A, G, "grad_cam_plus_plus").weights
    second = 0.1 / 2.4 + 0.2 / 2.8 + 0.3 / 3.2
    np.testing.assert_allclose(weights, [0.5 / 4 + 0.25 / 3, second], rtol=1e-6)


def test_grad_cam_plus_plus_survives_slopes_whose_square_underflows():
    weights = explained_by(A, 1e-30 * G, "grad_cam_plus_plus").weights
    np.testing.assert_allclose(weights, [0.375e-30, 0.3e-30], rtol=1e-6)


def test_xgrad_cam_weighs_slopes_by_activation():
    """(0.5 + 0.5) / 4 and (0.3 - 0.6) / 4, times the 4 positions; a dead channel has 0."""
    maps, gradient = np.concatenate([A, 0 * A[:1]]), np.concatenate([G, G[:1]])
    weights = explained_by(maps, gradient, "xgrad_cam").weights
    np.testing.assert_allclose(weights, [1.0, -0.3, 0], rtol=1e-6)


def test_hires_cam_and_layer_cam_keep_positions():
    np.testing.assert_allclose(explained_by(A, G, "hires_cam").weights, 4 * G, rtol=1e-6)
    layer = explained_by(A, G, "layer_cam").weights
    np.testing.assert_allclose(layer, [[[2, 0], [0, 1]], [[0.4, 0.8], [1.2, 0]]], rtol=1e-6)


def test_vs_cam_multiplies_the_classes_probes_by_the_vertices_base():
    """Base (4, 1, 0, 3) / 4; probes -0.25 A_0 and 0 A_1."""
    weights = explained_by(A, G, "vs_cam").weights
    np.testing.assert_allclose(weights[0], [[-0.25, -0.0625], [0, -0.1875]], rtol=1e-6)
    np.testing.assert_allclose(weights[1], 0, atol=1e-7)


def test_finer_cam_asks_for_a_class_rather_than_the_nearest_ones():
    """Of logits 5, 4.9, 1, 5.2, 4 the nearest to class 0's are those of 1, 3 and 4."""
    logits = np.array([5, 4.9, 1, 5.2, 4], np.float32)

    def asked(class_weights, **given):
        asks = []

        def answer(ask):
            asks.append(ask.class_weights)
            return G.astype(np.float32)

        inputs = MethodInput(A.astype(np.float32), logits, np.array(class_weights), np.zeros(1))
        run_method(METHODS["finer_cam"].queries(inputs, MethodSettings(**given)), answer)
        return asks[0]

    np.testing.assert_allclose(asked([1.0, 0, 0, 0, 0]), [1, -0.2, 0, -0.2, -0.2])
    one = asked([0, 0, 1.0, 0, 0], finer_classes=1, finer_gamma=0.5)
    np.testing.assert_allclose(one, [0, 0, 1, 0, -0.5])
    everyone = asked([0, 0, 1.0, 0, 0], finer_classes=9, finer_gamma=1)
    np.testing.assert_allclose(everyone, [-0.25, -0.25, 1, -0.25, -0.25])
    np.testing.assert_allclose(asked([0, 1.0, 0, -1, 0]), [0, 1, 0, -1, 0])


def test_finer_cam_does_not_account_for_a_single_classes_logit():
    network = Tiny(linear=True)
    inputs = network.inputs()
    terms = network.explain("finer_cam", inputs)
    evidence = (spatial(terms.weights) * network.maps).mean(axis=(1, 2)).sum()
    assert abs(evidence + network.bias[0] - inputs.logits[0]) > 0.05

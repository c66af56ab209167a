"""Heads measured as functions of maps: closed forms, and maps whose positions matter."""

import numpy as np
import pytest
from textcam_service.offline.export.from_onnx.split import closed_form, is_spatial

RNG = np.random.default_rng(1)
WEIGHTS, BIAS = RNG.normal(size=(5, 4)), RNG.normal(size=5)
SHAPE = (4, 3, 3)


def pooled(maps):
    return (maps.mean(axis=(2, 3)) @ WEIGHTS.T + BIAS).astype(np.float32)


def test_weights_and_bias_of_a_linear_head_are_measured():
    weights, bias = closed_form(pooled, SHAPE)
    np.testing.assert_allclose(weights, WEIGHTS, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(bias, BIAS, rtol=1e-6)


@pytest.mark.parametrize(
    "head",
    [
        lambda maps: np.tanh(pooled(maps)),
        lambda maps: pooled(np.maximum(maps, 0)),
        lambda maps: pooled(maps * np.arange(9).reshape(3, 3)),
        lambda maps: maps.max(axis=(2, 3)) @ WEIGHTS.T,
    ],
    ids=["not linear", "rectified", "weighted by position", "maximum"],
)
def test_other_heads_have_no_closed_form(head):
    assert closed_form(head, SHAPE) is None


@pytest.mark.parametrize(("read", "spatial"), [(9, True), (5, True), (4, False), (1, False)])
def test_maps_are_spatial_if_most_positions_matter(read, spatial):
    def head(maps):
        return maps.reshape(len(maps), 4, 9)[:, :, :read].sum(2) @ WEIGHTS.T

    assert is_spatial(head, RNG.normal(size=SHAPE)) == spatial

"""Closed forms of a linear head, and the feeds of a head's graph."""

from types import SimpleNamespace

import numpy as np
import pytest
from textcam_service.artefacts.backbone import FORWARD, GRADIENT
from textcam_service.runtime.heads import (
    graph_logits,
    head_inputs,
    layer_inputs,
    linear_gradients,
    linear_logits,
    vjp,
)
from textcam_service.runtime.output import BackboneOutput

RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(size=(4, 3)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)


class Session:
    """Records its feeds; returns the names that are asked for."""

    def run(self, names, feeds, _options):
        self.names, self.feeds = names, feeds
        return [np.full(1, index) for index in range(len(names))]


def output(value=1.0):
    maps = np.full((3, 2, 2), value, np.float32)
    further = {"tokens": np.full((5,), value, np.float32), "layer_0": maps[:2], "layer_1": maps[:1]}
    return BackboneOutput(np.zeros(4, np.float32), maps, further)


def test_closed_form_gradients_are_those_of_the_closed_form_logits():
    maps = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    class_weights = RNG.normal(size=(2, 4))
    gradients = linear_gradients(maps.shape[1:], class_weights, WEIGHTS)
    assert gradients.shape == maps.shape
    step = RNG.normal(size=maps.shape).astype(np.float32)
    change = linear_logits(maps + step, WEIGHTS, BIAS) - linear_logits(maps, WEIGHTS, BIAS)
    np.testing.assert_allclose(
        (change * class_weights).sum(axis=1), (gradients * step).sum(axis=(1, 2, 3)), rtol=1e-3
    )


@pytest.mark.parametrize("kind", [GRADIENT, FORWARD])
def test_other_maps_run_with_the_image_s_further_inputs_and_no_gradients(kind):
    session, manifest = Session(), SimpleNamespace(head_inputs=("tokens",), head_kind=kind)
    graph_logits(session, manifest, np.zeros((6, 3, 2, 2)), output(9.0))
    assert session.names == ["logits"]
    assert session.feeds["tokens"].shape == (6, 5)
    assert (session.feeds["tokens"] == 9).all()
    weights = session.feeds.get("class_weights")
    if kind == GRADIENT:
        assert weights.shape == (6, 4)
        assert not weights.any()
    else:
        assert weights is None


def test_inputs_are_gathered_by_the_manifest_s_names():
    manifest = SimpleNamespace(head_inputs=("tokens",), layers_inputs=("layer_1",))
    outputs = [output(1.0), output(2.0)]
    assert set(head_inputs(outputs, manifest)) == {"activation_maps", "tokens"}
    layers = layer_inputs(outputs, manifest)
    assert set(layers) == {"activation_maps", "layer_1"}
    assert [maps.shape for maps in layers["activation_maps"]] == [(2, 2, 2)] * 2


def test_vector_jacobian_products_take_float32_batches():
    session = Session()
    found = vjp(
        session, {"activation_maps": [np.ones((3, 2, 2))] * 2}, np.eye(2), ["gradient", "t"]
    )
    assert session.feeds["class_weights"].dtype == np.float32
    assert session.feeds["activation_maps"].shape == (2, 3, 2, 2)
    assert [int(array[0]) for array in found] == [0, 1]

"""All CAM methods: theory, costs and units that they share."""

import re

import numpy as np
import pytest
from textcam_service.core.methods import (
    METHODS,
    HeadPasses,
    ImagePasses,
    MethodSettings,
)
from tiny_network import (
    HEADS,
    NAMES,
    OTHERS,
    Tiny,
    constant,
    rescaled,
    spatial,
    whole_map,
)


def test_all_methods_are_listed_in_order_by_their_names():
    assert tuple(METHODS) == NAMES
    assert all(method.name == name for name, method in METHODS.items())


@pytest.mark.parametrize("name", NAMES)
def test_each_method_names_its_source_and_its_cost(name):
    text = METHODS[name].algorithm.__doc__
    assert re.search(r"arXiv \d{4}\.\d{5}|IEEE TIP|WACV|grad-cam", text)
    assert re.search(r"pass|VJP", text)


# Theory


@pytest.mark.parametrize("class_weights", [[1.0, 0, 0, 0], [0, 1, -1, 0.3]])
def test_on_gap_and_linear_the_linear_methods_are_one(class_weights):
    network = Tiny(linear=True)
    inputs = network.inputs(class_weights=class_weights)
    expected = whole_map(network.explain("cam", inputs), network.maps)
    for name in ("grad_cam", "hires_cam", "xgrad_cam", "recipro_cam"):
        found = whole_map(network.explain(name, inputs), network.maps)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_exact_methods_account_for_the_logit_and_others_do_not(name):
    network = Tiny(linear=True)
    inputs = network.inputs(class_weights=[0, 1.0, -1, 0])
    terms = network.explain(name, inputs)
    evidence = (spatial(terms.weights) * network.maps).mean(axis=(1, 2)).sum()
    bias = inputs.class_weights @ network.bias
    accounted = evidence + bias == pytest.approx(float(inputs.score(inputs.logits)), abs=1e-5)
    # Finer-CAM takes this contrast as it is; of a single class it explains another score.
    assert accounted == (METHODS[name].complete or name == "finer_cam")


@pytest.mark.parametrize(("name", "linear"), HEADS)
def test_a_contrast_is_explained_as_a_class_of_that_score(name, linear):
    weights = np.array([0, 1.0, -0.5, 0.25])
    network = Tiny(linear=linear)
    twin = network.contrasted(weights)
    of_class = twin.explain("grad_cam" if name == "finer_cam" else name, twin.inputs(0))
    of_contrast = network.explain(name, network.inputs(class_weights=weights))
    np.testing.assert_allclose(
        whole_map(of_contrast, network.maps), whole_map(of_class, network.maps), atol=1e-5
    )


@pytest.mark.parametrize(("name", "linear"), HEADS)
def test_groups_add_up_to_the_map(name, linear):
    """Also where the map is not the plain sum of the method's own terms; here D > H W.

    Centred maps, those of principal components, miss the sum by a constant.
    """
    network = Tiny(linear=linear)
    terms = network.explain(name)
    whole = whole_map(terms, network.maps)
    groups = np.random.default_rng(2).integers(0, 3, len(network.maps))
    parts = [
        (spatial(terms.weights) * network.maps)[groups == group].sum(axis=0) for group in range(3)
    ]
    missed = sum(parts) - whole
    if name in {"eigen_cam", "eigen_grad_cam", "decom_cam"}:
        missed -= missed.mean()
    assert np.abs(missed).max() < 1e-3 * np.abs(whole).max()


# Costs


@pytest.mark.parametrize("chunk", [1, 5, 64])
@pytest.mark.parametrize(("name", "linear"), HEADS)
def test_passes_are_bounded_and_come_in_chunks(name, linear, chunk):
    settings = MethodSettings(chunk=chunk, smooth_samples=3)
    network = Tiny(linear=linear, channels=14)
    network.explain(name, settings=settings)
    method = METHODS[name]
    for kind, bound in ((ImagePasses, method.image_passes), (HeadPasses, method.head_passes)):
        passes = network.passes(kind)
        most = bound(14, 12, settings)
        assert sum(passes) <= most
        assert max(passes, default=0) <= chunk
        # Not bounds of thin air: reached where nothing can be left out.
        if not (linear and kind is HeadPasses):
            assert sum(passes) == most


def test_asks_are_float32_and_leave_the_inputs_alone():
    network = Tiny()
    inputs = network.inputs()
    before = inputs.activation_maps.copy(), inputs.image.copy()
    for name in OTHERS:
        network.explain(name, inputs)
    for ask in network.asks:
        if isinstance(ask, ImagePasses):
            assert ask.images.dtype == np.float32
        if isinstance(ask, HeadPasses):
            assert ask.activation_maps.dtype == np.float32
    np.testing.assert_array_equal(inputs.activation_maps, before[0])
    np.testing.assert_array_equal(inputs.image, before[1])


@pytest.mark.parametrize("name", OTHERS)
def test_dead_maps_and_flat_scores_give_finite_maps(name):
    dead = Tiny(maps=np.zeros((5, 3, 4)))
    flat = Tiny()
    flat.readout[:] = 0
    for network in (dead, flat, constant(), constant(linear=True)):
        terms = network.explain(name)
        assert np.isfinite(terms.weights).all()
        assert np.isfinite(whole_map(terms, network.maps)).all()


# Units


@pytest.mark.parametrize("name", OTHERS)
def test_a_map_in_logit_units_follows_the_logits_scale_and_no_other(name):
    """Grad-CAM++'s alpha counts the score in natural units: doubled, its map grows, not twofold.

    LeGrad's slopes scale as a logit does, but they are by attention, of which no amount is told.
    """
    network, method = Tiny(), METHODS[name]
    wanted = whole_map(network.explain(name), network.maps)
    other = rescaled(network, activations=4.0)
    as_before = np.allclose(whole_map(other.explain(name), other.maps), wanted, rtol=1e-3)
    twice = rescaled(network, scores=2.0)
    doubled = np.allclose(whole_map(twice.explain(name), twice.maps), 2 * wanted, rtol=1e-3)
    if name == "grad_cam_plus_plus":
        assert as_before
        assert not doubled
    elif name != "legrad":
        assert (as_before and doubled) == method.in_logit_units
    assert network.explain(name).in_logit_units == method.in_logit_units


def test_the_methods_that_have_a_scale_of_their_own():
    own = {name for name, method in METHODS.items() if not method.in_logit_units}
    assert own == {
        "score_cam", "ss_cam", "eigen_cam", "ablation_cam", "integrative_cam", "legrad",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_terms_add_up_to_the_map_but_where_the_contract_says_otherwise(name):
    """Centred maps differ from the terms' sum by a constant; fitted terms reproduce the map."""
    network = Tiny(linear=name == "cam")
    terms = network.explain(name)
    total = (spatial(terms.weights) * network.maps).sum(axis=0)
    off = whole_map(terms, network.maps) - total
    if name in {"eigen_cam", "eigen_grad_cam", "decom_cam"}:
        assert abs(terms.saliency_map.mean()) < 1e-6 * np.abs(terms.saliency_map).max()
        assert np.ptp(off) < 1e-5 * np.abs(total).max() < abs(off.mean())
    else:
        np.testing.assert_allclose(off, 0, atol=1e-4 * np.abs(total).max())

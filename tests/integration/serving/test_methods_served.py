"""Every CAM method through the client to a real server, on heads with and without closed forms."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import running
from textcam_client import Client, Contrast, DeadlineExceeded, InvalidRequest
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.core.methods import METHODS, MethodSettings
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.evaluation.cases import observe, scene_truth
from textcam_service.offline.evaluation.localization import heat_of, judge_localization
from textcam_service.offline.evaluation.run import evaluate
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.probing import render_probing_set
from textcam_service.scenes.world import vocabulary

EXACT = {name for name, method in METHODS.items() if method.complete}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return render_probing_set(tmp_path_factory.mktemp("scenes"), 150, seed=5)


def bundle(folder, scenes, *, target_layer="", layers=()):
    """The scenes' classifier, cut at a layer, with a small bank of its own."""
    network = load_network("scenes:classifier")
    export_network(network, folder / "backbone", target_layer=target_layer, layers=layers)
    build_bank(
        Backbone(folder / "backbone"),
        load_embedder("scenes"),
        scenes,
        sorted(vocabulary()),
        folder / "bank",
        BankSettings(ChannelSettings(samples=30)),
    )
    return ("--backbone", str(folder / "backbone"), "--bank", str(folder / "bank"))


@pytest.fixture(scope="module")
def linear(tmp_path_factory, scenes):
    flags = bundle(tmp_path_factory.mktemp("linear"), scenes)
    with running(*flags, "--max-passes", "250") as server, Client(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def cut_deeper(tmp_path_factory, scenes):
    """Cut before the last stage, so that the head is a network with gradients."""
    folder = tmp_path_factory.mktemp("deeper")
    return bundle(folder, scenes, target_layer="blocks.1", layers=("blocks.0",))


@pytest.fixture(scope="module")
def deeper(cut_deeper):
    flags = (*cut_deeper, "--max-passes", "100000")
    with running(*flags) as server, Client(server.address) as client:
        yield client


def total(explanation):
    parts = [*explanation.groups, explanation.rest]
    return explanation.bias + explanation.gap + sum(part.evidence for part in parts)


def require_words(explanation):
    """A group for each phrase; where the evidence speaks for none, a sentence that says so."""
    assert len(explanation.phrases) == len(explanation.groups)
    least = RationaleSettings().min_probability
    assert all(least <= phrase.probability <= 1 for phrase in explanation.phrases)
    if not explanation.phrases:
        assert "none of the words that may be said is likely enough" in explanation.sentence


def test_the_default_methods_have_words(linear, deeper, scenes):
    for client in (linear, deeper):
        said = [client.explain(scene).phrases for scene in scenes[:10]]
        assert sum(map(bool, said)) >= 5


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"ss_cam", "integrative_cam", "legrad"}))
def test_a_linear_head_answers_each_method_and_says_its_passes(linear, scenes, name):
    answer = linear.explain(scenes[0], method=name)
    explanation = answer.explanations[0]
    assert answer.provenance.method == name
    assert total(explanation) == pytest.approx(explanation.logit, abs=1e-3)
    assert np.isfinite(explanation.saliency_map).all()
    assert np.ptp(explanation.saliency_map) > 0
    require_words(explanation)
    if name in EXACT:
        assert explanation.gap == pytest.approx(0, abs=1e-3)
    size = (192, 144, MethodSettings())
    assert explanation.network_passes <= METHODS[name].image_passes(*size)
    assert explanation.head_passes == 0  # closed forms
    assert (explanation.network_passes > 0) == (name in {"score_cam", "decom_cam"})


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"cam", "ss_cam", "legrad"}))
def test_a_head_of_its_own_graph_answers_each_method(deeper, scenes, name):
    answer = deeper.explain(scenes[0], method=name)
    further = ("blocks.0",) if name == "integrative_cam" else ()
    assert answer.provenance.layers == ("blocks.1", *further)
    assert answer.provenance.head_kind == "gradient"
    explanation = answer.explanations[0]
    assert explanation.in_logit_units == METHODS[name].in_logit_units
    assert ("not of the logit" in explanation.sentence) != explanation.in_logit_units
    assert total(explanation) == pytest.approx(explanation.logit, abs=1e-3)
    assert np.isfinite(explanation.saliency_map).all()
    assert np.ptp(explanation.saliency_map) > 0
    require_words(explanation)
    expected = {"ablation_cam": 96, "recipro_cam": 145, "eigen_cam": 0, "integrative_cam": 2}
    if name in expected:
        assert explanation.head_passes == expected[name]


def test_where_theory_says_that_methods_coincide_they_do(linear, scenes):
    maps = {
        name: linear.explain(scenes[1], method=name).saliency_map
        for name in ("cam", "grad_cam", "hires_cam", "xgrad_cam", "recipro_cam")
    }
    for name, found in maps.items():
        np.testing.assert_allclose(found, maps["cam"], atol=1e-3, err_msg=name)


def test_the_default_is_cam_for_a_linear_head_and_grad_cam_for_another(linear, deeper, scenes):
    assert linear.explain(scenes[0]).provenance.method == "cam"
    assert deeper.explain(scenes[0]).provenance.method == "grad_cam"
    methods = deeper.model().methods
    assert set(methods) == set(METHODS) - {"cam", "legrad"}


def test_a_contrast_holds_for_gradient_methods(deeper, scenes):
    pair = deeper.explain(scenes[0], target=[0, 3], method="hires_cam").explanations
    contrast = deeper.explain(scenes[0], target=Contrast(0, 3), method="hires_cam")
    difference = pair[0].saliency_map - pair[1].saliency_map
    np.testing.assert_allclose(contrast.saliency_map, difference, atol=1e-3)
    assert contrast.logit == pytest.approx(pair[0].logit - pair[1].logit, abs=1e-4)


def test_an_unsupported_pair_is_refused_with_the_supported_methods(deeper, linear, scenes):
    with pytest.raises(InvalidRequest, match=r"CAM needs a head of global.*supports grad_cam, gr"):
        deeper.explain(scenes[0], method="cam")
    with pytest.raises(InvalidRequest, match="LeGrad needs attention") as refused:
        linear.explain(scenes[0], method="legrad")
    assert refused.value.reason == "UNSUPPORTED_METHOD"
    with pytest.raises(ValueError, match="method is one of cam, grad_cam"):
        linear.explain(scenes[0], method="gradcam")


def test_more_passes_than_allowed_are_refused_before_the_first(linear, scenes):
    started = time.monotonic()
    with pytest.raises(InvalidRequest, match=r"SS-CAM takes up to 6720 passes .* allows 250"):
        linear.explain(scenes[0], method="ss_cam")
    with pytest.raises(InvalidRequest, match="384 passes for 2 target"):
        linear.explain(scenes[0], method="score_cam", target=[0, 1])
    assert time.monotonic() - started < 2


def test_many_requests_at_once_get_each_their_own_answer(deeper, scenes):
    """Gradients of several requests run as one batch; passes of others go in between."""
    names = ["grad_cam", "layer_cam", "recipro_cam", "eigen_grad_cam"]
    asked = [(scenes[place], names[place % 4]) for place in range(24)]
    alone = [deeper.explain(image, method=name) for image, name in asked]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda one: deeper.explain(one[0], method=one[1]), asked))
    for own, answer in zip(alone, together, strict=True):
        (found,) = answer.explanations
        assert [p.text for p in found.phrases] == [p.text for p in own.phrases]
        scale = np.abs(own.saliency_map).max()
        np.testing.assert_allclose(found.saliency_map, own.saliency_map, atol=1e-4 * scale)


def test_a_method_of_many_passes_obeys_the_deadline_and_leaves_room_for_others(deeper, scenes):
    with pytest.raises(DeadlineExceeded):
        deeper.explain(scenes[0], method="ss_cam", timeout=0.5)
    started = time.monotonic()
    assert deeper.explain(scenes[1]).explanations
    assert time.monotonic() - started < 2  # what was given up does not go on


def test_explanations_under_any_head_and_method_are_judged_by_truth(cut_deeper):
    _, backbone, _, bank = cut_deeper
    made = ModelBundle.load("deeper", Path(backbone), Path(bank))
    truth = scene_truth(20, seed=6)
    report = evaluate(made, truth)
    place = report["place"]
    assert place["TextCAM"]["pointing"] > place["control: centred Gaussian"]["pointing"] + 0.2
    # The last stage is no linear head: what a group's channels do is not just their evidence.
    assert report["counterfactual"]["TextCAM"]["ablation_error"] > 1e-3
    assert report["randomisation"]["all layers"]["map_absolute"] < 0.7
    seen = observe(made, truth.cases)
    other = judge_localization(seen, heat_of(replace(made, method_name="eigen_cam")))
    assert other.energy != judge_localization(seen, heat_of(made)).energy
    made.backbone.manifest = replace(made.backbone.manifest, head_kind="none")
    without_head = evaluate(made, scene_truth(10, seed=6))
    assert np.isnan(without_head["counterfactual"]["TextCAM"]["ablation_error"])
    kept = "the controls keep the bank's calibration, for the bank has no probing images beside it"
    assert without_head["notes"] == [
        kept,
        "ablation_error is left out: it takes a head that can run by itself, and this one's is "
        "'none'",
    ]
    assert report["notes"] == [kept]

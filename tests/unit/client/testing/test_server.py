"""The server that users' tests stand on."""

from __future__ import annotations

import math

import grpc
import numpy as np
import pytest
from client_samples import QUICK, make_pixels
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_client import InvalidRequest, TopK, Unavailable
from textcam_client.errors import from_rpc_error
from textcam_client.testing import serve_in_memory


def test_answers_are_the_same_from_server_to_server_and_follow_the_image():
    answers = []
    for seed in (0, 0, 1):
        with serve_in_memory() as server, server.client() as client:
            answers.append(client.explain(make_pixels(seed=seed)))
    np.testing.assert_array_equal(answers[0].saliency_map, answers[1].saliency_map)
    assert answers[0].sentence == answers[1].sentence
    assert not np.allclose(answers[0].saliency_map, answers[2].saliency_map)


def test_failures_are_scripted_in_turn_and_used_up(server, png):
    server.fail_with("UNAVAILABLE", "ONE", times=2)
    server.fail_with("INVALID_ARGUMENT", "TWO", violations=[("image", "bad")])
    with server.client(retry=None) as client:
        for expected, reason in (
            (Unavailable, "ONE"),
            (Unavailable, "ONE"),
            (InvalidRequest, "TWO"),
        ):
            with pytest.raises(expected) as caught:
                client.explain(png)
            assert caught.value.reason == reason
        assert client.explain(png)
    assert len(server.requests) == 4


def test_an_unknown_code_is_refused_at_once(server):
    with pytest.raises(KeyError):
        server.fail_with("OVERLOADED", "X")


def test_own_classes_phrases_and_model_are_served():
    with (
        serve_in_memory(
            model="mine", version="3", class_names=["a", "b"], vocabulary=["red", "blue", "round"]
        ) as server,
        server.client(model="mine", version="3") as client,
    ):
        answer = client.explain(make_pixels(), target=TopK(2))
        described = client.model()
    assert {p.class_name for p in answer.predictions} == {"a", "b"}
    assert sum(p.probability for p in answer.predictions) == pytest.approx(1)
    assert {p.text for p in answer.explanations[0].phrases} <= {"red", "blue", "round"}
    assert described.summary.name == "mine"
    assert answer.provenance.model_version == "3"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_phrases": 0}, "max_phrases"),
        ({"max_phrases": 21}, "max_phrases"),
        ({"target": TopK(0)}, "target.top_k.k"),
        ({"target": TopK(11)}, "target.top_k.k"),
        ({"min_probability": -0.01}, "min_probability"),
        ({"min_probability": 1.01}, "min_probability"),
        ({"min_probability": float("nan")}, "min_probability"),
    ],
)
def test_ranges_are_checked_as_the_contract_says(client, options, field):
    with pytest.raises(InvalidRequest) as caught:
        client.explain(make_pixels(), **options)
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize("kind", [types_pb.PHRASE_KIND_UNSPECIFIED, 99])
def test_a_kind_that_is_none_is_refused(server, png, kind):
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        explainer_pb2_grpc.ExplainerServiceStub(channel).Explain(
            pb.ExplainRequest(encoded=png, kinds=[types_pb.PHRASE_KIND_PART, kind])
        )
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidRequest)
    assert [violation.field for violation in error.violations] == ["kinds"]


def test_phrases_are_said_from_the_threshold_on_the_most_probable_first(client):
    image = make_pixels()
    answer = client.explain(image, max_phrases=20)
    usual, least = (
        given.phrases
        for given in (answer, client.explain(image, max_phrases=20, min_probability=0))
    )
    default = answer.provenance.calibration.min_probability
    chances = [phrase.probability for phrase in least]
    assert chances == sorted(chances, reverse=True)
    assert 0 < chances[-1] < default <= chances[0] < 1
    assert min(phrase.evidence for phrase in least) > 0
    assert [p.text for p in usual] == [p.text for p in least if p.probability >= default]
    middle = (chances[0] + chances[1]) / 2
    (first,) = client.explain(image, min_probability=middle).phrases
    assert first == least[0]
    (nothing,) = client.explain(image, min_probability=1).explanations
    assert nothing.phrases == nothing.groups == ()
    assert nothing.rest.evidence + nothing.bias == pytest.approx(nothing.logit, abs=1e-5)


def test_phrases_of_the_kinds_that_are_asked_for_are_said_alone(client):
    image = make_pixels()
    every = client.explain(image, max_phrases=20).phrases
    kinds = {phrase.kind for phrase in every}
    assert {"part", "material"} < kinds
    some = client.explain(image, max_phrases=20, kinds=["material", "part"]).phrases
    assert some == tuple(p for p in every if p.kind in {"material", "part"})
    assert client.explain(image, max_phrases=20, kinds=[]).phrases == every


def test_what_only_repeats_the_class_is_said_if_asked_for():
    with (
        serve_in_memory(
            class_names=["Tabby cat"],
            vocabulary=["cat", "tabby cat", "sleepy tabby cat", "cat flap"],
        ) as server,
        server.client() as client,
    ):
        images = [make_pixels(seed=seed) for seed in range(4)]
        said, repeated = (
            {
                phrase.text
                for image in images
                for phrase in client.explain(image, min_probability=0, repeat_class=repeat).phrases
            }
            for repeat in (False, True)
        )
    assert said <= {"cat flap"}
    assert repeated & {"cat", "tabby cat", "sleepy tabby cat"}


def test_a_bank_without_calibration_has_no_probabilities_and_refuses_thresholds():
    with serve_in_memory(calibrated=False) as server, server.client() as client:
        answer = client.explain(make_pixels(), min_probability=0)
        with pytest.raises(InvalidRequest) as caught:
            client.explain(make_pixels(), min_probability=0.5)
    assert answer.provenance.calibration is None
    assert {phrase.probability for phrase in answer.phrases} == {None}
    assert [violation.field for violation in caught.value.violations] == ["min_probability"]


def test_classes_of_a_multi_label_model_have_sigmoids_of_their_own():
    with serve_in_memory(multi_label=True) as server, server.client() as client:
        assert client.model().multi_label
        found = client.explain(make_pixels(), prediction_count=3).predictions
    assert [each.probability for each in found] == pytest.approx(
        [1 / (1 + math.exp(-each.logit)) for each in found]
    )
    with serve_in_memory() as server, server.client() as client:
        assert not client.model().multi_label


def test_a_vocabulary_of_ones_own_has_no_kinds_and_refuses_them():
    with serve_in_memory(vocabulary=["red", "blue"]) as server, server.client() as client:
        answer = client.explain(make_pixels())
        with pytest.raises(InvalidRequest) as caught:
            client.explain(make_pixels(), kinds=["colour"])
    assert {phrase.kind for phrase in answer.phrases} == {None}
    assert [violation.field for violation in caught.value.violations] == ["kinds"]


def test_effects_overlap_and_relative_maps_are_what_a_phrase_has_beyond_its_share(client):
    (target,) = client.explain(make_pixels(), max_phrases=20).explanations
    effects = [phrase.effect for phrase in target.phrases]
    shares = [phrase.evidence for phrase in target.phrases]
    assert not np.allclose(effects, shares)
    maps = np.stack([group.relative_map for group in target.groups])
    assert maps.dtype == np.float32
    assert maps.shape[1:] == target.saliency_map.shape
    between = np.corrcoef(maps.reshape(len(maps), -1))[~np.eye(len(maps), dtype=bool)]
    additive = np.stack([group.saliency_map for group in target.groups])
    alike = np.corrcoef(additive.reshape(len(maps), -1))[~np.eye(len(maps), dtype=bool)]
    assert between.mean() < alike.mean()
    assert target.rest.relative_map is None
    (without,) = client.explain(make_pixels(), heatmap="none").explanations
    assert {group.relative_map is None for group in without.groups} == {True}


def test_heatmaps_are_those_that_the_client_draws_also_of_a_target_without_support(client, png):
    answer = client.explain(png, target=list(range(8)), heatmap="image")
    supported = [bool(target.saliency_map.max() > 0) for target in answer.explanations]
    assert any(supported)
    assert not all(supported)
    for target in answer.explanations:
        for part in (target, *target.groups, target.rest):
            levels = np.rint(part.heatmap() * 255)
            np.testing.assert_allclose(part.server_heatmap, levels, atol=1)


def test_two_servers_stand_side_by_side():
    with serve_in_memory(model="one") as one, serve_in_memory(model="two") as two:
        assert one.address != two.address
        with one.client() as first, two.client(retry=QUICK) as second:
            assert first.models()[0].name == "one"
            assert second.models()[0].name == "two"

"""The server that users' tests stand on."""

from __future__ import annotations

import numpy as np
import pytest
from client_samples import QUICK, make_pixels
from textcam_client import InvalidRequest, TopK, Unavailable
from textcam_client.testing import serve_in_memory


def test_answers_are_the_same_from_server_to_server_and_follow_the_image():
    answers = []
    for seed in (0, 0, 1):
        with serve_in_memory() as server, server.client() as client:
            answers.append(client.explain(make_pixels(seed=seed)).explanations[0])
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
            model="mine", version="3", class_names=["a", "b"], phrases=["red", "blue", "round"]
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
    "options", [{"phrases": 0}, {"phrases": 21}, {"target": TopK(0)}, {"target": TopK(11)}]
)
def test_ranges_are_checked_as_the_contract_says(client, options):
    with pytest.raises(InvalidRequest) as caught:
        client.explain(make_pixels(), **options)
    assert caught.value.violations


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

"""Which phrases are asked for, and what an answer says of each."""

from __future__ import annotations

import json

import numpy as np
import pytest
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client import CalibrationBin, draw_figure
from textcam_client._convert.requests import PHRASE_KINDS
from textcam_client._convert.responses import explain_result
from textcam_client.images import ImageSource
from textcam_client.testing._bank import PHRASES
from textcam_client.testing._explainer import FakeExplainer
from textcam_client.testing._network import CLASS_NAMES


def test_what_phrases_are_wanted_reaches_the_server_and_unset_stays_unset(server, client, png):
    client.explain(png, min_probability=0.25, kinds=("part", "colour"), repeat_class=True)
    sent = server.requests[-1]
    assert (sent.min_probability, sent.repeat_class) == (0.25, True)
    assert list(sent.kinds) == [types_pb.PHRASE_KIND_PART, types_pb.PHRASE_KIND_COLOUR]
    client.explain(png, min_probability=0)
    assert server.requests[-1].HasField("min_probability")
    client.explain(png)
    sent = server.requests[-1]
    assert not sent.HasField("min_probability")
    assert not sent.kinds
    assert not sent.repeat_class
    wanted = {"min_probability": 0.25, "kinds": ["shape"], "repeat_class": True}
    list(client.explain_many([png], **wanted))
    sent = server.requests[-1]
    assert (sent.min_probability, list(sent.kinds)) == (0.25, [types_pb.PHRASE_KIND_SHAPE])
    assert sent.repeat_class


async def test_the_event_loops_client_asks_for_phrases_alike(server, png):
    async with server.async_client() as client:
        answer = await client.explain(png, min_probability=0.25, kinds=["scene"], repeat_class=True)
    assert {phrase.kind for phrase in answer.phrases} <= {"scene"}
    sent = server.requests[-1]
    assert (sent.min_probability, list(sent.kinds)) == (0.25, [types_pb.PHRASE_KIND_SCENE])
    assert sent.repeat_class


def test_every_kind_of_the_contract_has_a_name_here():
    kinds = ["thing", "part", "material", "texture", "colour", "shape", "scene", "category"]
    assert list(PHRASE_KINDS) == kinds
    assert set(PHRASE_KINDS.values()) == set(types_pb.PhraseKind.values()) - {0}


def test_kinds_that_are_none_are_refused_before_anything_is_sent(server, client, png):
    with pytest.raises(ValueError, match=r"a kind is one of thing, part, .*, not 'color'"):
        client.explain(png, kinds=["part", "color"])
    with pytest.raises(TypeError, match=r"a list of names; for one write kinds=\['part'\]"):
        client.explain_many([png], kinds="part")
    assert server.requests == []


def test_phrases_groups_and_provenance_hold_what_the_contract_says(client, png):
    answer = client.explain(png)
    (target,) = answer.explanations
    for phrase, group in zip(target.phrases, target.groups, strict=True):
        assert 0.5 <= phrase.probability < 1
        assert phrase.kind in PHRASE_KINDS
        assert phrase.effect != 0
        assert group.relative_map.shape == target.saliency_map.shape
        with pytest.raises(ValueError, match="read-only"):
            group.relative_map[0, 0] = 1
    calibration = answer.provenance.calibration
    assert (calibration.source, calibration.images) == ("labels", 500)
    assert calibration.min_probability == 0.5
    assert calibration.bins[2] == CalibrationBin(0.2, pytest.approx(0.3), 0.25, 0.23, 820)
    errors = [abs(b.probability - b.observed) * b.count for b in calibration.bins]
    mean = sum(errors) / sum(b.count for b in calibration.bins)
    assert calibration.expected_calibration_error == pytest.approx(mean)
    assert client.model().provenance.calibration == calibration
    told = json.loads(json.dumps(answer.to_dict(arrays=True)))
    phrase = told["explanations"][0]["phrases"][0]
    assert phrase["probability"] == target.phrases[0].probability
    assert phrase["effect"] == target.phrases[0].effect
    assert phrase["kind"] == target.phrases[0].kind
    (first, *_), rest = told["explanations"][0]["groups"], told["explanations"][0]["rest"]
    np.testing.assert_allclose(first["relative_map"], target.groups[0].relative_map)
    assert rest["relative_map"] is None
    assert told["provenance"]["calibration"]["bins"][2]["count"] == 820
    bare = answer.to_dict()["explanations"][0]["groups"][0]
    assert "relative_map" not in bare


def test_an_older_servers_answer_has_no_probabilities_and_no_effects(server, client, png):
    """And a newer one's kind, which this client does not know, has no name."""
    message = FakeExplainer(["fake"], "1", CLASS_NAMES, PHRASES, calibrated=False).explain(
        pb.ExplainRequest(encoded=png)
    )
    for target in message.explanations:
        for phrase in target.phrases:
            phrase.ClearField("effect")
            phrase.ClearField("kind")
        for group in target.groups:
            group.ClearField("relative_map")
    older = explain_result(message, ImageSource(png))
    assert older.provenance.calibration is None
    assert older.phrases
    for phrase in older.phrases:
        assert (phrase.probability, phrase.effect, phrase.kind) == (None, 0.0, None)
    assert {group.relative_map is None for group in older.groups} == {True}
    assert draw_figure(older).width > 0
    message.explanations[0].phrases[0].kind = 99
    newer = explain_result(message, None).phrases
    assert newer[0].kind is None

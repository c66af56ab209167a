"""Responses become results, or errors if they break the contract."""

from __future__ import annotations

import json

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client import (
    MalformedResponse,
    MethodIgnored,
    TopK,
)
from textcam_client._convert.responses import explain_result, tensor
from textcam_client.testing import server
from textcam_client.testing._explainer import FakeExplainer


@pytest.fixture
def old_server(monkeypatch):
    """It does not know the field `method`, so it passes over it."""

    class Old(FakeExplainer):
        def explain(self, request):
            request.ClearField("method")
            return super().explain(request)

    monkeypatch.setattr(server, "FakeExplainer", Old)
    with server.serve_in_memory() as running:
        yield running


async def test_answer_has_all_its_parts_and_adds_up(connect, png):
    async with connect() as client:
        answer = await client.call("explain", png, target=TopK(2), request_id="mine")
    assert answer.request_id == "mine"
    assert answer.image_size == (60, 90)
    assert (answer.crop.left, answer.crop.top) == (15.0, 0.0)
    assert (answer.crop.width, answer.crop.height) == (60.0, 60.0)
    assert len(answer.predictions) == 5
    probabilities = [p.probability for p in answer.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert [e.target for e in answer.explanations] == list(answer.predictions[:2])
    for target in answer.explanations:
        groups = [*target.groups, target.rest]
        assert [g.phrase for g in target.groups] == list(target.phrases)
        assert target.rest.phrase is None
        total = target.bias + sum(group.evidence for group in groups)
        assert total == pytest.approx(target.logit, rel=1e-5)
        maps = sum(group.saliency_map for group in groups)
        np.testing.assert_allclose(maps, target.saliency_map, atol=1e-5)
        assert target.saliency_map.mean() == pytest.approx(target.logit - target.bias, rel=1e-5)
        channels = np.concatenate([group.channel_ids for group in groups])
        assert sorted(channels) == list(range(24))
        assert target.rest.channel_ids.dtype == np.int32
        for group in groups:
            assert group.evidence_for + group.evidence_against == pytest.approx(group.evidence)
    assert answer.provenance.decoder == "pillow/PNG"
    assert answer.provenance.parameters == {"groups": "greedy"}


def test_what_the_server_tells_without_order_is_sorted(client, png):
    """Else the same answer is another line of an audit log from process to process."""
    names = ("groups", "bank", "method", "alpha")
    for order in (names, names[::-1]):
        provenance = types_pb.Provenance(parameters=dict.fromkeys(order, ""))
        told = explain_result(pb.ExplainResponse(provenance=provenance), None).to_dict()
        assert list(told["provenance"]["parameters"]) == sorted(names)


def test_seconds_come_by_stage_and_a_stage_that_was_not_reached_is_left_out():
    timings = types_pb.Timings(inference=Duration(seconds=1, nanos=5 * 10**8), queue=Duration())
    told = explain_result(pb.ExplainResponse(timings=timings), None).stage_seconds
    assert list(told.items()) == [("queue", 0.0), ("inference", 1.5)]


def test_a_method_that_is_newer_than_the_client_is_told_by_its_number():
    for number, name in ((18, "18"), (0, ""), (types_pb.CAM_METHOD_LAYER_CAM, "layer_cam")):
        response = pb.ExplainResponse(provenance=types_pb.Provenance(method=number))
        assert explain_result(response, None).provenance.method == name


@pytest.mark.parametrize(
    "message",
    [
        types_pb.Tensor(dtype=types_pb.Tensor.D_TYPE_FLOAT32, shape=[2, 2], data=b"\0" * 15),
        types_pb.Tensor(dtype=types_pb.Tensor.D_TYPE_FLOAT32, shape=[2, 3], data=b"\0" * 16),
        types_pb.Tensor(dtype=types_pb.Tensor.D_TYPE_UNSPECIFIED, shape=[2], data=b"\0" * 2),
        types_pb.Tensor(dtype=9, shape=[2], data=b"\0" * 2),
    ],
)
def test_a_tensor_that_contradicts_itself_is_a_malformed_answer(message):
    with pytest.raises(MalformedResponse):
        tensor(message)


@pytest.mark.parametrize(
    "broken",
    [
        pb.Explanation(groups=[types_pb.SaliencyGroup(phrase_index=0)]),
        pb.Explanation(
            saliency_map=types_pb.Tensor(dtype=types_pb.Tensor.D_TYPE_FLOAT32, shape=[0, 7])
        ),
        pb.Explanation(
            saliency_map=types_pb.Tensor(
                dtype=types_pb.Tensor.D_TYPE_UINT8, shape=[1, 1], data=b"a"
            )
        ),
    ],
)
def test_an_answer_that_breaks_the_contract_is_malformed(broken):
    with pytest.raises(MalformedResponse):
        explain_result(pb.ExplainResponse(explanations=[broken]), None)


async def test_an_answer_by_another_method_than_asked_for_is_an_error(old_server, png):
    with old_server.client() as client:
        assert client.explain(png, method="cam").provenance.method == "cam"
        with pytest.raises(MethodIgnored, match=r"grad_cam was .* \(version fake\) used cam"):
            client.explain(png, method="grad_cam")
        asked = client.explain_many([png, png], method="grad_cam", on_error="return")
        assert [type(answer) for answer in asked] == [MethodIgnored, MethodIgnored]
        assert client.explain(png).provenance.method == "cam"
    async with old_server.async_client() as client:
        with pytest.raises(MethodIgnored):
            await client.explain(png, method="grad_cam")
        with pytest.raises(MethodIgnored):
            async for _ in client.explain_many([png], method="grad_cam"):
                pass


def test_an_answer_says_its_layers_head_and_units(client, png):
    answer = client.explain(png)
    assert (answer.provenance.layers, answer.provenance.head_kind) == (("pool",), "gap_linear")
    told = json.loads(json.dumps(answer.to_dict()))
    assert told["provenance"]["layers"] == ["pool"]
    assert told["explanations"][0]["in_logit_units"] is True

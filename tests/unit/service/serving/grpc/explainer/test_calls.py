"""One ExplainRequest from its envelope to its response."""

import math
from types import SimpleNamespace

import pytest
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.errors import InvalidArgument
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.grpc.explainer import calls
from textcam_service.serving.grpc.explainer.calls import ExplainCalls, envelope
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.settings import ServerSettings


class Plane:
    """Calls with an engine that notes what it was asked, as the data plane does."""

    def __init__(self):
        self.record, self.asked = RequestRecord("Explain"), None

    async def handle(self, request, call):
        self.record.stages["decode"] = (0.0, 0.25)
        return await call(self, self.record)

    bundle = "the bundle"

    async def explain(self, job, encoder, deadline, lane, record, max_wait_s):
        self.asked = SimpleNamespace(job=job, deadline=deadline, lane=lane, wait=max_wait_s)
        return pb.ExplainResponse(request_id="made")


@pytest.fixture
def plane(monkeypatch):
    monkeypatch.setattr(calls, "read_job", lambda message, bundle, _: (message, bundle))
    return Plane()


async def explain(plane, message, lane=Lane.INTERACTIVE):
    calls = ExplainCalls(plane, ServerSettings(max_wait_ms=500))
    return await calls.explain(message, envelope("Explain", message, 12.0, ()), lane)


def test_an_envelope_says_what_is_known_before_a_request_is_read():
    spec = types_pb.ModelSpec(name="m", version="2")
    message = pb.ExplainRequest(request_id="seven", model=spec, encoded=b"x" * 100)
    made = envelope("ExplainStream", message, 3.0, (("a", "b"),))
    assert (made.rpc, made.model, made.request_id) == ("ExplainStream", ModelRef("m", "2"), "seven")
    assert (made.size, made.deadline, made.metadata) == (message.ByteSize(), 3.0, (("a", "b"),))


async def test_a_response_comes_with_the_timings_of_its_record(plane):
    message = pb.ExplainRequest()
    response = await explain(plane, message)
    assert response.request_id == "made"
    assert response.timings.decode.ToMilliseconds() == 250
    assert (plane.asked.job, plane.asked.deadline) == ((message, "the bundle"), 12.0)


@pytest.mark.parametrize(
    ("named", "default", "lane", "wait_s"),
    [
        (types_pb.LANE_UNSPECIFIED, Lane.INTERACTIVE, "interactive", 0.5),
        (types_pb.LANE_UNSPECIFIED, Lane.AUDIT, "audit", math.inf),
        (types_pb.LANE_AUDIT, Lane.INTERACTIVE, "audit", math.inf),
        (types_pb.LANE_INTERACTIVE, Lane.AUDIT, "interactive", 0.5),
    ],
)
async def test_only_interactive_requests_are_bound_to_the_longest_wait(
    plane, named, default, lane, wait_s
):
    await explain(plane, pb.ExplainRequest(lane=named), default)
    assert (plane.record.lane, plane.asked.wait) == (lane, wait_s)


async def test_a_lane_that_is_none_is_refused_before_the_request_is_read(plane):
    with pytest.raises(InvalidArgument):
        await explain(plane, pb.ExplainRequest(lane=9))
    assert plane.asked is None

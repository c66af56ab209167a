"""Scripted failures are used up in order, and requests and streams are counted."""

from __future__ import annotations

import grpc
import pytest
from textcam.v1 import explainer_pb2 as pb
from textcam_client.testing._checks import Refused
from textcam_client.testing._script import Script


def raised(script):
    with pytest.raises(Refused) as caught:
        script._raise_scripted()
    return caught.value


def test_failures_come_in_order_as_often_as_they_were_scripted():
    script = Script(0.0)
    script.fail_with("UNAVAILABLE", "FIRST", times=2, retry_after=0.5)
    script.fail_with(grpc.StatusCode.NOT_FOUND, "LAST", violations=[("model", "unknown")])
    first, second, last = (raised(script) for _ in range(3))
    assert (first.code, first.reason, first.retry_after) == (
        grpc.StatusCode.UNAVAILABLE,
        "FIRST",
        0.5,
    )
    assert second.reason == "FIRST"
    assert (last.code, last.violations) == (grpc.StatusCode.NOT_FOUND, (("model", "unknown"),))
    script._raise_scripted()


def test_a_code_that_grpc_lacks_is_refused_as_the_script_is_written():
    with pytest.raises(KeyError):
        Script(0.0).break_stream("OVERLOADED")


def test_breaks_are_for_one_stream_each_and_streams_are_counted():
    script = Script(0.0)
    script.break_stream("INTERNAL", after=3)
    after, breach = script._stream_opened()
    assert (after, breach.code) == (3, grpc.StatusCode.INTERNAL)
    assert script._stream_opened() is None
    script._stream_closed()
    assert (script.streams, script.open_streams) == (2, 1)


def test_requests_are_kept_with_the_most_that_were_in_work_and_their_latency():
    script = Script(lambda request: float(len(request.request_id)))
    requests = [pb.ExplainRequest(request_id=own) for own in ("a", "bb", "ccc")]
    assert [script._begin(request) for request in requests[:2]] == [1.0, 2.0]
    script._end()
    assert script._begin(requests[2]) == 3.0
    assert script.requests == requests
    assert script.peak_in_flight == 2
    assert Script(0.25)._begin(requests[0]) == 0.25

"""One stream of a thread: requests in order, its end as an event, and no thread left over."""

from __future__ import annotations

import threading

import grpc
import pytest
from textcam.v1 import explainer_pb2 as pb
from textcam_client import CallError
from textcam_client._streaming.sync_call import Stream


class Peer:
    def failure(self, rpc_error):
        return CallError(rpc_error.args[0])


class Call:
    """Echoes requests, until it is cancelled or a request is named "break"."""

    def __init__(self, requests):
        self._requests, self.cancelled = requests, threading.Event()

    def __iter__(self):
        for request in self._requests:
            if request.request_id == "break":
                raise grpc.RpcError("broken")
            yield pb.ExplainStreamResponse(request_id=request.request_id)

    def cancel(self):
        self.cancelled.set()


def named(request_id):
    message = pb.ExplainStreamRequest()
    message.request.request_id = request_id
    return message


class Started:
    """A stream of items that are their own ids, and its call."""

    def __init__(self):
        self.stream = Stream(self._start, Peer())

    def _start(self, requests):
        self.call = Call(message.request for message in requests)
        return self.call


@pytest.fixture
def started():
    made = Started()
    yield made
    made.stream.close()


def test_responses_come_in_order_and_a_wait_ends_without_one(started):
    for own in ("a", "b"):
        started.stream.send(named(own))
    assert [started.stream.receive(5).request_id for _ in "ab"] == ["a", "b"]
    assert started.stream.receive(0.01) is None


def test_a_failure_of_the_call_comes_as_an_event(started):
    started.stream.send(named("break"))
    event = started.stream.receive(5)
    assert isinstance(event, CallError)
    assert "broken" in str(event)


def test_closing_cancels_the_call_and_ends_its_reader(started):
    reader = started.stream._reader
    assert reader.is_alive()
    started.stream.close()
    assert started.call.cancelled.is_set()
    assert not reader.is_alive()
    assert isinstance(started.stream.receive(5), CallError), "the stream's end is an event too"

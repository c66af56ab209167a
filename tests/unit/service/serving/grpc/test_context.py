"""Deadlines and failures of calls."""

import time

import grpc
import pytest
from google.rpc.status_pb2 import Status
from textcam_service.errors import QueueFull
from textcam_service.serving.grpc.context import abort, deadline_of


class Call:
    """A call with so much time left at each reading."""

    def __init__(self, *remaining):
        self._remaining = list(remaining)
        self.status = None

    def time_remaining(self):
        return self._remaining.pop(0)

    async def abort_with_status(self, status):
        self.status = status
        raise grpc.aio.AbortError


def test_a_deadline_is_on_the_monotonic_clock():
    assert deadline_of(Call(5.0)) == pytest.approx(time.monotonic() + 5, abs=1)
    assert deadline_of(Call(None)) is None


def test_a_deadline_of_now_is_read_again():
    """The wall clock may have been set between gRPC's two readings of it."""
    assert deadline_of(Call(0, 7.0)) == pytest.approx(time.monotonic() + 7, abs=1)
    assert deadline_of(Call(0, 0)) <= time.monotonic()


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (QueueFull("come again"), grpc.StatusCode.RESOURCE_EXHAUSTED, "come again"),
        (Status(code=5, message="image 2 of 3"), grpc.StatusCode.NOT_FOUND, "image 2 of 3"),
    ],
)
async def test_a_call_ends_with_the_status_of_its_error(failure, code, words):
    call = Call()
    with pytest.raises(grpc.aio.AbortError):
        await abort(call, failure)
    assert (call.status.code, call.status.details) == (code, words)

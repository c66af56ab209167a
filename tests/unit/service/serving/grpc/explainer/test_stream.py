"""A stream's items: ids, bounds, failures, and what is held until it is read."""

import asyncio
from types import SimpleNamespace

import pytest
from google.rpc import error_details_pb2
from textcam.v1 import explainer_pb2 as pb
from textcam_service.errors import QueueFull
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.grpc.explainer.stream import Stream
from textcam_service.settings import ServerSettings


class Held:
    """Counts undelivered items and their bytes."""

    def __init__(self):
        self.items = self.size = self.most = 0

    def add_undelivered(self, items, size):
        self.items, self.size = self.items + items, self.size + size
        self.most = max(self.most, self.items)


class Calls:
    """Explains each item once its gate is open; `error` fails all."""

    def __init__(self):
        self.asked, self.lanes, self.error, self.size = [], set(), None, 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def explain(self, message, request, lane):
        self.asked.append(message.request_id)
        self.lanes.add(lane)
        await self.gate.wait()
        if self.error:
            raise self.error
        return pb.ExplainResponse(request_id=message.request_id + "x" * self.size)


class Served(SimpleNamespace):
    """A stream's surroundings, and a client that sends and reads."""

    def stream(self, **settings):
        plane = SimpleNamespace(admission=self.held, reject=self.reject)
        return Stream(plane, self.calls, ServerSettings(**settings), None, ())

    def reject(self, request, error):
        self.rejected.append((request.rpc, request.request_id))
        return error

    async def answers(self, *ids, **settings):
        sent = self.send(*ids)
        return [answer async for answer in self.stream(**settings).responses(sent)]

    async def send(self, *ids):
        for own in ids:
            yield pb.ExplainStreamRequest(request=pb.ExplainRequest(request_id=own))


@pytest.fixture
def served():
    return Served(held=Held(), calls=Calls(), rejected=[])


def reason(answer):
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in answer.error.details)
    return info.reason


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_items_are_answered_each_under_its_id_as_audits(served):
    answers = await served.answers("a", "b", "c")
    assert {answer.request_id for answer in answers} == {"a", "b", "c"}
    assert all(answer.response.request_id == answer.request_id for answer in answers)
    assert served.calls.lanes == {Lane.AUDIT}
    assert (served.held.items, served.held.size) == (0, 0)


async def test_an_item_that_fails_gets_its_status_and_harms_no_other(served):
    served.calls.error = QueueFull("come again", retry_after_s=1)
    answers = await served.answers("a", "b")
    assert [reason(answer) for answer in answers] == ["QUEUE_FULL"] * 2


async def test_ids_that_are_missing_too_long_or_taken_are_rejected_and_a_freed_one_is_not(served):
    served.calls.gate.clear()
    answers = asyncio.create_task(served.answers("a", "", "x" * 200, "a"))
    await turns()
    assert served.calls.asked == ["a"]
    assert [own for _, own in served.rejected] == ["", "x" * 200, "a"]
    served.calls.gate.set()
    refused = [answer for answer in await answers if answer.HasField("error")]
    assert {answer.request_id for answer in refused} == {"", "x" * 128, "a"}
    served.rejected.clear()
    await served.answers("a")
    assert served.rejected == []


async def test_no_more_items_are_in_work_or_unread_than_the_settings_allow(served):
    stream = served.stream(stream_concurrency=3)
    responses = stream.responses(served.send(*map(str, range(9))))
    first = await anext(responses)
    await turns()
    assert len(served.calls.asked) == 3
    assert served.held.items == 3
    assert (await anext(responses)).request_id != first.request_id
    await turns()
    assert len(served.calls.asked) == 4
    await responses.aclose()
    assert (served.held.items, served.held.size) == (0, 0)


async def test_responses_that_are_not_read_are_bounded_by_their_bytes(served):
    """One stream may hold an eighth of all; the first four are taken to be of 2 KiB."""
    served.calls.size = 3000
    stream = served.stream(max_message_bytes=8192, max_bytes_in_work=8 * 10_000)
    responses = stream.responses(served.send(*map(str, range(9))))
    await anext(responses)
    await turns(50)
    assert len(served.calls.asked) == 4
    await anext(responses)
    await turns(50)
    assert len(served.calls.asked) == 4  # 9 kB are unread, and another would be 3 kB
    await anext(responses)
    await turns(50)
    assert len(served.calls.asked) == 5
    await responses.aclose()


async def test_a_client_that_leaves_ends_its_items(served):
    served.calls.gate.clear()
    responses = served.stream().responses(served.send("a", "b"))
    reading = asyncio.create_task(anext(responses))
    await turns()
    assert served.held.items == 2
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await turns()
    assert (served.held.items, served.held.size) == (0, 0)
    assert not [task for task in asyncio.all_tasks() if "_explain" in repr(task)]

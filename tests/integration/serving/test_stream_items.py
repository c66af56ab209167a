"""A stream's items: one refused for its id is counted and logged as any other, none for room."""

import asyncio
import io
import logging

import grpc
import numpy as np
import pytest
from model_callers import picture, publish, served, until
from PIL import Image
from small_models import write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.store.models import ModelStore

REFUSED = {"method": "ExplainStream", "code": "INVALID_ARGUMENT"}


def large(side):
    file = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def item(name, encoded=b"", **options):
    request = pb.ExplainRequest(request_id=name, encoded=encoded, **options)
    return pb.ExplainStreamRequest(request=request)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    store = ModelStore(folder / "store")
    publish(store, write_model(folder / "made", 0), "1")
    return store.root


async def test_an_id_may_be_used_again_once_its_item_was_answered(root):
    async with served(root) as caller:
        call = caller.explainer.ExplainStream(timeout=60)
        for seed in range(3):
            await call.write(item("again", picture(seed)))
            answer = await call.read()
            assert (answer.request_id, answer.WhichOneof("result")) == ("again", "response")
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_a_long_id_is_refused_and_neither_held_nor_echoed_in_full(root):
    name = "x" * 200_000
    async with served(root) as caller:
        items = (sent for sent in (item(name), item(name), item("x" * 128, picture(0))))
        answers = [answer async for answer in caller.explainer.ExplainStream(items, timeout=60)]
    refused = [answer for answer in answers if answer.HasField("error")]
    assert [answer.request_id for answer in answers] == ["x" * 128] * 3
    assert len(refused) == 2
    for answer in refused:
        assert answer.error.message == "a request id has at most 128 characters, not 200000"
        assert answer.ByteSize() < 1000


async def test_answers_that_nobody_takes_count_among_the_bytes_in_work(root):
    """And one stream of them leaves room for others."""
    limits = {"max_message_bytes": 2**25, "max_bytes_in_work": 2**25}
    async with served(root, **limits) as caller:
        admission, image = caller.server._dataplane.admission, large(1500)
        call = caller.explainer.ExplainStream()

        async def send():
            for number in range(6):  # some 14 MB of heatmaps each; gRPC takes a few on its way
                await call.write(item(str(number), image, heatmap=types_pb.HEATMAP_FORM_IMAGE))

        sending = asyncio.create_task(send())
        await until(
            lambda: admission._undelivered and not admission._in_flight, "an answer that waits"
        )
        assert 2**23 < admission._bytes_in_work < 2**24
        await caller.explain()
        admission.add_undelivered(0, 2**25)  # as if there were many such streams
        code, words = await caller.refused()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "responses that streams' clients have not read yet" in words
        admission.add_undelivered(0, -(2**25))
        sending.cancel()
        call.cancel()
        await until(lambda: not admission._bytes_in_work, "what was held is given back")


async def test_items_without_an_id_of_their_own_are_counted_and_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    store = ModelStore(tmp_path / "store")
    publish(store, write_model(tmp_path / "made", 0), "1")
    # The first is long in work: its id is still taken when the third comes.
    images = {"1": large(2000), "": picture(0), "2": picture(0)}
    sent = [
        pb.ExplainRequest(request_id=name, encoded=images[name]) for name in ("1", "", "1", "2")
    ]
    async with served(store.root, log_format="json") as caller:
        items = (pb.ExplainStreamRequest(request=request) for request in sent)
        answers = [answer async for answer in caller.explainer.ExplainStream(items, timeout=60)]
        refused = [answer for answer in answers if answer.HasField("error")]
        assert sorted(answer.request_id for answer in refused) == ["", "1"]
        assert caller.metric("textcam_requests_total", **REFUSED) == 2
        assert caller.metric("textcam_request_duration_seconds_count", **REFUSED) == 2
        answered = {"method": "ExplainStream", "code": "OK"}
        assert caller.metric("textcam_requests_total", **answered) == 2
    lines = [record.request for record in caplog.records if record.name == "textcam.access"]
    told = [line for line in lines if line["code"] == "INVALID_ARGUMENT"]
    assert sorted(line.get("request_id", "") for line in told) == ["", "1"]
    for line in told:
        assert line["reason"] == "INVALID_ARGUMENT"
        assert line["request_bytes"] in {request.ByteSize() for request in sent}
    assert len(lines) == 4


async def test_items_without_an_id_of_their_own_are_charged(root):
    async with served(root, rate=0.001, burst=1) as caller:
        call, codes = caller.explainer.ExplainStream(timeout=60), []
        for _ in range(2):
            await call.write(item("", picture(0)))
            codes.append((await call.read()).error.code)
        call.cancel()
    told = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert codes == [code.value[0] for code in told]


async def test_no_item_is_refused_because_of_the_streams_own(tmp_path):
    """However short the queue."""
    store = ModelStore(tmp_path / "store")
    publish(store, write_model(tmp_path / "made", 0), "1")
    image = picture(0)
    async with served(store.root, max_queue=2) as caller:
        items = (
            pb.ExplainStreamRequest(request=pb.ExplainRequest(request_id=str(n), encoded=image))
            for n in range(24)
        )
        answers = [answer async for answer in caller.explainer.ExplainStream(items, timeout=60)]
    assert sorted(int(answer.request_id) for answer in answers) == list(range(24))
    assert not [answer for answer in answers if answer.HasField("error")]

"""What one request, or a burst of them, may take of a server: time, memory and turns."""

import asyncio
import io
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from model_callers import until
from PIL import Image
from small_models import write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_service.errors import DeadlineExpired
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.batching.deadlines import BatchLimits
from textcam_service.serving.engine.method_runner import MethodRunner
from textcam_service.serving.server import Server
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings


def png(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 30, 60)).save(file, "PNG")
    return file.getvalue()


def top(k):
    return types_pb.Target(top_k=types_pb.Target.TopK(k=k))


SMALL = pb.ExplainRequest(encoded=png(64, 64), heatmap=types_pb.HEATMAP_FORM_NONE)


class Caller:
    """Calls a server in this process over loopback, and asks its books."""

    def __init__(self, server, channel):
        self._server = server
        self._explain = explainer_pb2_grpc.ExplainerServiceStub(channel).Explain

    async def explain(self, request, timeout=60):
        return await self._explain(request, timeout=timeout)

    async def refused(self, request, timeout=60):
        """The code, reason and words of a refusal."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.explain(request, timeout)
        details = rpc_status.from_call(refused.value).details
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in details)
        return refused.value.code().name, info.reason, refused.value.details()

    def metric(self, name, **labels):
        return self._server._metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def inferences(self):
        return self.metric("textcam_batch_size_images_count")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), 1)


@pytest.fixture
def serving(model):
    @asynccontextmanager
    async def started(**settings):
        settings = {"port": 0, "metrics_port": -1, "decode_threads": 2, **settings}
        bundle = ModelBundle.load("small", model / "backbone", model / "bank", threads=1)
        server = Server(bundle, ServerSettings(name="small", **settings))
        await server.start()
        try:
            async with grpc.aio.insecure_channel(
                f"127.0.0.1:{server.port}", [("grpc.max_receive_message_length", -1)]
            ) as channel:
                yield Caller(server, channel)
        finally:
            await server.stop()

    return started


async def test_heatmaps_that_cannot_fit_a_message_are_refused_before_inference(serving, caplog):
    caplog.set_level("INFO")
    async with serving(log_format="json") as caller:
        before = caller.inferences
        request = pb.ExplainRequest(
            encoded=png(4000, 3000),
            heatmap=types_pb.HEATMAP_FORM_IMAGE,
            max_phrases=9,
            target=top(5),
        )
        code, reason, words = await caller.refused(request)
        assert (code, reason) == ("INVALID_ARGUMENT", "RESPONSE_TOO_LARGE")
        assert "5 target(s) of a 4000 x 3000 image takes at least 120000000 bytes" in words
        assert caller.inferences == before
        counted = {"method": "Explain", "code": "INVALID_ARGUMENT"}
        assert caller.metric("textcam_requests_total", **counted) == 1
    (line,) = [record.request for record in caplog.records if hasattr(record, "request")]
    assert line["reason"] == "RESPONSE_TOO_LARGE"
    assert (line["image_width"], line["image_height"]) == (4000, 3000)


async def test_once_the_groups_are_known_their_heatmaps_are_foretold_too(serving):
    """Two heatmaps fit, the whole and the rest; with those of the groups they do not."""
    async with serving(max_message_bytes=2_100_000) as caller:
        request = pb.ExplainRequest(
            encoded=png(1000, 1000), heatmap=types_pb.HEATMAP_FORM_IMAGE, max_phrases=9
        )
        before = caller.inferences
        _, reason, words = await caller.refused(request)
        assert reason == "RESPONSE_TOO_LARGE"
        assert caller.inferences == before + 1
        request.include_groups = False
        groups = (await caller.explain(SMALL)).explanations[0].phrases
        assert f"at least {(2 + len(groups)) * 1_000_000} bytes" in words
        assert (await caller.explain(request)).explanations[0].heatmap.image.shape == [1000, 1000]


async def test_an_answer_that_is_waited_for_no_more_is_drawn_no_further(serving):
    overlays = pb.ExplainRequest(
        encoded=png(2500, 2000), heatmap=types_pb.HEATMAP_FORM_OVERLAY, target=top(5), max_phrases=9
    )
    async with serving(decode_threads=1) as caller:
        one = pb.ExplainRequest(
            encoded=png(2500, 2000), heatmap=types_pb.HEATMAP_FORM_OVERLAY, include_groups=False
        )
        began = time.monotonic()
        await caller.explain(one)
        one_took = time.monotonic() - began
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await caller.explain(overlays, timeout=2 * one_took)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        began = time.monotonic()
        await caller.explain(SMALL)
        # The one thread was still at a map, and not at the fifteen or more that were asked for.
        assert time.monotonic() - began < 5 * one_took


def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def test_a_bursts_pixels_are_held_by_the_threads_that_decode_and_by_nothing_else(serving):
    """24 files of 10 megapixels: 30 MB each as bytes, and Pillow keeps 40."""
    request = pb.ExplainRequest(encoded=png(5000, 2000), heatmap=types_pb.HEATMAP_FORM_NONE)
    async with serving(decode_threads=2) as caller:
        await asyncio.gather(caller.explain(request), caller.explain(request))
        before, most = resident_mib(), 0.0
        burst = [asyncio.ensure_future(caller.explain(request)) for _ in range(24)]
        while not all(call.done() for call in burst):
            most = max(most, resident_mib() - before)
            await asyncio.sleep(0.01)
        await asyncio.gather(*burst)
    assert most < 250


def score_cam(k):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    pixels = types_pb.Tensor(
        dtype=types_pb.Tensor.D_TYPE_UINT8, shape=noise.shape, data=noise.tobytes()
    )
    return pb.ExplainRequest(pixels=pixels, method=types_pb.CAM_METHOD_SCORE_CAM, target=top(k))


async def test_a_request_of_many_passes_is_one_whatever_its_targets(serving):
    async with serving(max_long_requests=1) as caller:
        answer = await caller.explain(score_cam(5))
        assert len(answer.explanations) == 5
        assert all(explanation.network_passes > 1 for explanation in answer.explanations)


async def test_one_request_of_many_passes_too_many_is_refused_before_it_is_decoded(serving):
    async with serving(max_long_requests=1) as caller:
        before = caller.metric("textcam_images_decoded_total", decoder="raw")
        calls = [asyncio.ensure_future(caller.explain(score_cam(5))) for _ in range(6)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
        assert 1 <= len(refused) < 6
        assert {one.code() for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert caller.metric("textcam_rejected_total", reason="SERVER_BUSY") == len(refused)
        decoded = caller.metric("textcam_images_decoded_total", decoder="raw") - before
        assert decoded == 6 - len(refused)
        await caller.explain(score_cam(5))  # the permits were given back


async def test_gradients_that_come_too_late_are_counted_as_images_are(model):
    backbone = ModelBundle.load("small", model / "backbone", model / "bank", threads=1).backbone
    metrics = Metrics()
    with ThreadPoolExecutor(1) as thread:
        held = MethodRunner(backbone, thread, thread, BatchLimits(), 1, metrics)
        await held.start()
        with pytest.raises(DeadlineExpired):
            await held._gradients.submit(None, time.monotonic() - 1)
        await held.drain(10)
    assert metrics.registry.get_sample_value("textcam_expired_total") == 1


async def test_who_runs_out_of_time_and_who_leaves_are_told_apart(serving):
    """A caller's own clock ends the call before the server's does, most of the time."""
    long = pb.ExplainRequest(encoded=png(7000, 7000), heatmap=types_pb.HEATMAP_FORM_NONE)
    answers = "textcam_request_duration_seconds_count"
    async with serving() as caller:
        for _ in range(6):
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await caller.explain(long, timeout=0.1)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: not caller.metric("textcam_requests_in_flight"), "done with them")
        # On a slow machine some never come to the server's notice, or not as far as its queue.
        seen = caller.metric(answers, method="Explain", code="DEADLINE_EXCEEDED")
        expired = caller.metric("textcam_expired_total")
        assert 1 <= expired <= seen <= 6
        assert caller.metric(answers, method="Explain", code="CANCELLED") == 0
        assert caller.metric("textcam_cancelled_total") == 0
        task = asyncio.create_task(caller.explain(long))
        await until(lambda: caller.metric("textcam_requests_in_flight"), "in work")
        task.cancel()
        await until(lambda: not caller.metric("textcam_requests_in_flight"), "done with it")
        assert caller.metric(answers, method="Explain", code="CANCELLED") == 1
        assert caller.metric("textcam_cancelled_total") == 1
        assert caller.metric("textcam_expired_total") == expired


async def test_a_shape_of_millions_of_numbers_stops_nobody(serving):
    shape = types_pb.Tensor(dtype=types_pb.Tensor.D_TYPE_UINT8, shape=[1] * 5_000_000, data=b"a")
    request = pb.ExplainRequest(pixels=shape)
    async with serving() as caller:
        code, reason, words = await caller.refused(request)
        assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_TENSOR")
        assert "[h, w, 3], not one of 5,000,000 numbers" in words


async def test_nobody_but_audits_waits_longer_than_the_operator_allows(serving):
    async with serving(max_wait_ms=0.001) as caller:
        long = pb.ExplainRequest(encoded=png(7000, 7000), heatmap=types_pb.HEATMAP_FORM_NONE)
        patient = pb.ExplainRequest(lane=types_pb.LANE_AUDIT, encoded=SMALL.encoded)
        first = asyncio.create_task(caller.explain(long))
        await until(lambda: caller.metric("textcam_requests_in_flight"), "in work")
        code, reason, words = await caller.refused(SMALL)
        await caller.explain(patient)
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert "this server allows at most 0.000 s; retry later" in words
        await first
        await caller.explain(SMALL)  # nobody is ahead of it


async def test_slow_answers_take_no_time_from_quick_ones(serving):
    overlays = pb.ExplainRequest(
        encoded=png(1000, 800), heatmap=types_pb.HEATMAP_FORM_OVERLAY, target=top(2)
    )
    async with serving() as caller:
        for _ in range(3):
            began = time.monotonic()
            await caller.explain(overlays)
        too_little = (time.monotonic() - began) / 2
        for _ in range(20):
            await caller.explain(SMALL, timeout=too_little)

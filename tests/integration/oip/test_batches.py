"""Batches of the Open Inference Protocol: bounded, off the event loop, taken in as a whole."""

import asyncio
import io
import logging
import threading
import time

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from model_callers import picture, publish, served, until
from PIL import Image
from small_models import write_model
from textcam.oip import open_inference_pb2 as oip
from textcam_service.serving.grpc.oip import servicer
from textcam_service.store.models import ModelStore

BYTES, UINT8 = ("image", "BYTES"), ("pixels", "UINT8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    store = ModelStore(folder / "store")
    publish(store, write_model(folder / "made", 0), "1")
    return store.root


def batch(kind, shape, raw=(), outputs=(), **contents):
    name, datatype = kind
    tensor = oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if contents:
        tensor.contents.CopyFrom(oip.InferTensorContents(**contents))
    wanted = oip.ModelInferRequest.InferRequestedOutputTensor
    return oip.ModelInferRequest(
        model_name="m",
        inputs=[tensor],
        raw_input_contents=raw,
        outputs=[wanted(name=output) for output in outputs],
    )


async def refusal(caller, request):
    """Code, words and reason by which a batch is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.inference.ModelInfer(request, timeout=60)
    info = error_details_pb2.ErrorInfo()
    details = rpc_status.from_call(refused.value).details
    assert any(detail.Unpack(info) for detail in details)
    return refused.value.code(), refused.value.details(), info.reason


async def turns_beside(work):
    """Seconds between the event loop's turns while it awaits the work, and the work's result."""
    gaps, done = [], asyncio.Event()

    async def tick():
        while not done.is_set():
            began = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - began)

    ticking = asyncio.create_task(tick())
    try:
        result = await work
    finally:
        done.set()
        await ticking
    return gaps, result


async def test_a_batch_of_too_many_images_is_refused_by_its_shape_alone(root):
    many = 200_000
    request = batch(UINT8, [many, 1, 1, 3], [b"\1" * (3 * many)])
    async with served(root, max_concurrent=40) as caller:
        gaps, (code, words, reason) = await turns_beside(refusal(caller, request))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE")
        assert words.startswith("200000 images in one call, but this server takes at most 40; ")
        assert max(gaps) < 5  # it was 36 s
        answer = await caller.inference.ModelInfer(
            batch(BYTES, [40], bytes_contents=[picture(0)] * 40, outputs=["bias"]), timeout=60
        )
        assert list(answer.outputs[0].shape) == [40]
        refused = {"method": "ModelInfer", "code": "INVALID_ARGUMENT"}
        assert caller.metric("textcam_requests_total", **refused) == 1


async def test_the_rate_is_charged_before_contents_are_read(root):
    broken = batch(BYTES, [8], [b"\xff\xff\xff\xff" * 8])
    async with served(root, rate=0.001, burst=8) as caller:
        assert (await refusal(caller, broken))[2] == "INVALID_TENSOR"
        assert (await refusal(caller, broken))[2] == "RATE_LIMITED"


async def test_a_refused_batch_is_charged_and_one_beyond_the_burst_passes_a_full_bucket(root):
    async with served(root, rate=0.001, burst=2) as caller:
        three = batch(BYTES, [3], bytes_contents=[picture(0)] * 3, outputs=["bias"])
        assert (await caller.inference.ModelInfer(three, timeout=60)).outputs
    wrong = batch(BYTES, [1], bytes_contents=[picture(0)], outputs=["boxes"])
    for request in (wrong, oip.ModelInferRequest(model_name="m"), oip.ModelInferRequest()):
        async with served(root, rate=0.001, burst=1) as caller:
            reasons = [(await refusal(caller, request))[2] for _ in range(2)]
            assert reasons[0].startswith("INVALID_")
            assert reasons[1] == "RATE_LIMITED"


def padded(request):
    request.parameters["sequence_id"].string_param = "x" * 150_000
    return request


async def test_pixels_count_among_the_bytes_in_work_with_all_that_comes_along(root):
    """Typed ones as they are held: as uint32, and as the uint8 made of them."""
    shape = (100, 100, 3)
    raw, typed = (
        lambda: batch(UINT8, shape, [bytes(30_000)], outputs=["bias"]),
        lambda: batch(UINT8, shape, uint_contents=[1] * 30_000, outputs=["bias"]),
    )
    async with served(root, max_bytes_in_work=200_000) as caller:
        with caller.server._dataplane.admission.admit(100_000):
            assert (await caller.inference.ModelInfer(raw(), timeout=60)).outputs
            for request in (typed(), padded(raw()), padded(typed())):
                assert (await refusal(caller, request))[2] == "SERVER_BUSY"
        for request in (typed(), padded(raw()), padded(typed())):
            assert (await caller.inference.ModelInfer(request, timeout=60)).outputs


async def test_a_batchs_id_is_in_the_lines_of_its_images_and_of_its_refusals(root, caplog):
    caplog.set_level(logging.INFO)
    async with served(root, log_format="json") as caller:
        request = batch(BYTES, [2], bytes_contents=[picture(0)] * 2, outputs=["bias"])
        request.id = "seven"
        assert (await caller.inference.ModelInfer(request, timeout=60)).id == "seven"
        request.outputs[0].name = "boxes"
        await refusal(caller, request)
        request.id = "x" * 200_000
        await refusal(caller, request)
    lines = [record.request for record in caplog.records if record.name == "textcam.access"]
    assert [(line["code"], line["request_id"]) for line in lines] == [
        ("OK", "seven"),
        ("OK", "seven"),
        ("INVALID_ARGUMENT", "seven"),
        ("INVALID_ARGUMENT", "x" * 128),
    ]


async def test_typed_pixels_are_read_while_the_loop_goes_on(root, monkeypatch):
    """In a thread, and in pieces: one call of numpy's keeps all other threads waiting."""
    side, pieces, array = 1500, [], np.array

    def watched(values, *arguments):
        if arguments == (np.uint32,):
            pieces.append((len(values), threading.current_thread()))
        return array(values, *arguments)

    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3))
    request = batch(UINT8, [side, side, 3], uint_contents=pixels.ravel().tolist())
    async with served(root) as caller:
        with monkeypatch.context() as patched:
            patched.setattr(np, "array", watched)
            typed = await caller.inference.ModelInfer(request, timeout=60)
        raw = batch(UINT8, [side, side, 3], [pixels.astype(np.uint8).tobytes()])
        other = await caller.inference.ModelInfer(raw, timeout=60)
    assert sum(count for count, _ in pieces) == pixels.size
    assert max(count for count, _ in pieces) <= 2**16  # some 3 ms
    assert threading.current_thread() not in {thread for _, thread in pieces}
    logits = np.frombuffer(other.raw_output_contents[0], "<f4")
    np.testing.assert_allclose(typed.outputs[0].contents.fp32_contents, logits, rtol=1e-6)


async def test_an_answer_over_the_limit_says_what_to_leave_out(root):
    """By its numbers before any work, by its words after it."""
    refused = (grpc.StatusCode.INVALID_ARGUMENT, "RESPONSE_TOO_LARGE")
    async with served(root, max_message_bytes=2**16) as caller:
        in_all = await refusal(caller, batch(UINT8, [60, 1, 1, 3], [bytes(180)]))
        assert in_all[::2] == refused
        assert "send fewer images at a time, or name in 'outputs' only those" in in_all[1]
        assert caller.metric("textcam_requests_total", method="ModelInfer", code="OK") == 0
    async with served(root, max_message_bytes=2**13) as caller:
        small = batch(UINT8, [200, 1, 1, 3], [bytes(600)], outputs=["sentence"])
        assert (await refusal(caller, small))[::2] == refused
        assert caller.metric("textcam_requests_total", method="ModelInfer", code="OK") == 200


async def test_a_batch_in_work_is_finished_before_the_server_stops(root):
    file = io.BytesIO()
    Image.fromarray(np.zeros((1500, 1500, 3), np.uint8)).save(file, "PNG")
    request = batch(BYTES, [12], bytes_contents=[file.getvalue()] * 12)
    async with served(root, stream_concurrency=2, decode_threads=1) as caller:
        call = asyncio.ensure_future(caller.inference.ModelInfer(request, timeout=60))
        await until(lambda: caller.metric("textcam_requests_in_flight") == 2, "a batch in work")
        stopping = asyncio.create_task(caller.server.stop())
        await until(lambda: not caller.server._is_serving(), "a server that stops")
        late = await refusal(caller, batch(BYTES, [1], bytes_contents=[picture(0)]))
        assert late[::2] == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert not call.done()
        assert list((await call).outputs[0].shape) == [12, 5]
        await stopping
        assert caller.metric("textcam_requests_in_flight") == 0


async def test_a_batch_takes_as_many_places_as_it_works_on_images(root):
    async with served(root, stream_concurrency=4, max_concurrent=6) as caller:
        admission = caller.server._dataplane.admission
        with admission.admit(0, 3):
            request = batch(BYTES, [6], bytes_contents=[picture(0)] * 6)
            assert (await refusal(caller, request))[2] == "SERVER_BUSY"
        answer = await caller.inference.ModelInfer(request, timeout=60)
        assert list(answer.outputs[0].shape) == [6, 5]


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"max_queue": 2}, "cam"),
        ({"max_wait_ms": 0.001}, "cam"),
        ({"max_long_requests": 1}, "score_cam"),
    ],
)
async def test_no_batch_is_refused_because_of_its_own_images(root, settings, method):
    """However many are put through at a time, and whatever bounds them beside it."""
    request = batch(BYTES, [12], bytes_contents=[picture(0)] * 12, outputs=["logits"])
    request.parameters["method"].string_param = method
    async with served(root, **settings) as caller:
        answer = await caller.inference.ModelInfer(request, timeout=60)
        assert list(answer.outputs[0].shape) == [12, 5]
        for reason in ("QUEUE_FULL", "SERVER_BUSY"):
            assert caller.metric("textcam_rejected_total", reason=reason) == 0


async def test_a_fault_of_the_server_is_internal_logged_and_counted(root, monkeypatch, caplog):
    def broken(*_):
        raise ValueError("a secret of the inside")

    async with served(root) as caller:
        monkeypatch.setattr(servicer, "write_response", broken)
        code, words, reason = await refusal(caller, batch(BYTES, [1], bytes_contents=[picture(0)]))
        assert (code, reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert words == "internal server error; the server's log has the details"
        assert caller.metric("textcam_unexpected_errors_total") == 1
        counted = {"method": "ModelInfer", "code": "INTERNAL"}
        assert caller.metric("textcam_requests_total", **counted) == 1
    assert "a secret of the inside" in caplog.text


async def test_a_model_that_still_loads_is_not_ready(tmp_path):
    async with served(tmp_path / "store", store_models=("m",)) as caller:
        ready = await caller.inference.ModelReady(oip.ModelReadyRequest(name="m"))
        assert not ready.ready
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.inference.ModelReady(oip.ModelReadyRequest(name="other"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND

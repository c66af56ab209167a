"""Single calls, sync and asyncio, against a loopback server."""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from client_samples import InLoop, eventually, make_pixels
from grpc_health.v1 import health_pb2
from PIL import Image
from textcam_client import (
    AsyncClient,
    Cancelled,
    Client,
    ClientClosed,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Tls,
    Unavailable,
    Unimplemented,
)


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Guarded(grpc.ServerInterceptor):
    """A caller's rights are Explain and ExplainStream; health is open, as everywhere."""

    def __init__(self, status):
        self.status = status
        self.asked = []

    def intercept_service(self, _, details):
        method = details.method.rsplit("/")[-1]
        self.asked.append(method)

        def answer(_, context):
            if method != "Check":
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
            return health_pb2.HealthCheckResponse(status=self.status)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        )


async def test_file_path_array_and_pillow_image_have_one_explanation(
    connect, png, png_path, pixels
):
    async with connect() as client:
        answers = [
            await client.call("explain", image)
            for image in (png, png_path, str(png_path), pixels, Image.fromarray(pixels))
        ]
    assert [a.provenance.decoder for a in answers] == ["pillow/PNG"] * 3 + ["raw"] * 2
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.saliency_map, answers[0].saliency_map)
        overlay = answer.overlay()
        assert overlay.tobytes() == answers[0].overlay().tobytes()


async def test_bad_requests_say_which_field_and_why(connect, png):
    async with connect() as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.call("explain", b"not an image")
        assert caught.value.reason == "UNSUPPORTED_IMAGE"
        assert caught.value.violations[0].field == "encoded"
        with pytest.raises(NotFound) as caught:
            await client.call("explain", png, target="unicorn")
        assert caught.value.reason == "UNKNOWN_CLASS"
        assert caught.value.violations[0].field == "target.classes.classes[0].name"
        with pytest.raises(NotFound) as caught:
            await client.call("explain", png, model="other")
        assert caught.value.reason == "UNKNOWN_MODEL"
        assert caught.value.violations[0].field == "model.name"


async def test_the_clients_timeout_is_every_calls_deadline(connect, server, png):
    server.latency = 3.0
    async with connect(timeout=0.2) as client:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await client.call("explain", png, request_id="slow")
        assert 0.15 < time.monotonic() - start < 2.5
        server.latency = 0.3
        assert await client.call("explain", png, timeout=5)


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_a_timeout_that_is_none_is_refused(client, png, timeout):
    with pytest.raises(ValueError, match="above 0"):
        client.explain(png, timeout=timeout)
    with pytest.raises(ValueError, match="above 0"):
        Client("localhost:1", timeout=timeout)


async def test_infinity_is_no_limit(connect, png):
    async with connect(timeout=math.inf) as client:
        assert await client.call("explain", png)


def test_the_clients_model_and_version_go_with_calls_that_name_none(server, png):
    with server.client(model="fake", version="1") as client:
        client.explain(png)
        assert (server.requests[-1].model.name, server.requests[-1].model.version) == ("fake", "1")
        with pytest.raises(NotFound):
            client.explain(png, model="other")
        sent = server.requests[-1].model
        assert (sent.name, sent.version) == ("other", "")


async def test_models_and_model_describe_what_is_served(connect):
    async with connect() as client:
        (summary,) = await client.call("models")
        model = await client.call("model")
        with pytest.raises(NotFound) as caught:
            await client.call("model", "other")
    assert (summary.name, summary.version, summary.class_count) == ("fake", "1", 10)
    assert model.summary == summary
    assert model.class_names[9] == "daisy"
    assert len(model.vocabulary) == summary.phrase_count == 12
    assert (model.map_size, model.input_size, model.channel_count) == ((7, 7), (224, 224), 24)
    assert caught.value.reason == "UNKNOWN_MODEL"


def test_an_injected_channel_is_used_and_left_open(server, png):
    with grpc.insecure_channel(server.address) as channel:
        with Client("elsewhere:1", channel=channel) as client:
            assert client.explain(png)
        with Client("elsewhere:1", channel=channel) as client:
            assert client.explain(png)


def test_a_pem_file_that_is_missing_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        Client("localhost:1", tls=Tls(tmp_path / "ca.pem"))


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
@pytest.mark.parametrize("form", ["bytes", "path"])
def test_tls_reaches_a_server_whose_root_is_given_and_no_other(tmp_path, form):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    pair = (key.read_bytes(), certificate.read_bytes())
    grpc_server = grpc.server(ThreadPoolExecutor(2))
    port = grpc_server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    grpc_server.start()
    trusted = Tls(pair[1] if form == "bytes" else certificate)
    # The server has no methods: to be told so takes a connection.
    for tls, expected in ((trusted, Unimplemented), (Tls(), Unavailable), (None, Unavailable)):
        with Client(f"localhost:{port}", tls=tls, retry=None) as client, pytest.raises(expected):
            client.models()
    grpc_server.stop(None).wait()


def test_a_large_image_passes_where_grpcs_default_limit_would_stop_it(client):
    large = np.random.default_rng(0).integers(0, 255, (1400, 1400, 3), dtype=np.uint8)
    assert large.nbytes > 4 * 2**20
    answer = client.explain(large, heatmap="image")
    assert answer.image_size == (1400, 1400)


async def test_wait_ready_outlasts_a_warm_up_however_often_it_is_refused(connect, server):
    server.fail_with("UNAVAILABLE", "WARMING_UP", times=3)
    async with connect(retry=None) as client:
        await client.call("wait_ready", timeout=5)
        server.fail_with("UNAVAILABLE", "WARMING_UP")
        with pytest.raises(Unavailable):
            await client.call("models")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_wait_ready_gives_up_at_its_timeout(kind):
    alone = InLoop(kind(f"127.0.0.1:{free_port()}"))
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="no TextCAM server responded in time"):
        await alone.call("wait_ready", timeout=0.3)
    assert 0.2 < time.monotonic() - start < 10
    await alone.call("close")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_wait_ready_asks_the_open_health_alone_and_believes_nothing_but_serving(kind):
    guard = Guarded("NOT_SERVING")
    grpc_server = grpc.server(ThreadPoolExecutor(2), interceptors=[guard])
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    caller = InLoop(kind(f"127.0.0.1:{port}"))
    with pytest.raises(Unavailable, match="runs but does not serve"):
        await caller.call("wait_ready", timeout=1)
    threading.Timer(0.2, setattr, (guard, "status", "SERVING")).start()
    await caller.call("wait_ready", timeout=5)
    assert set(guard.asked) == {"Check"}
    await caller.call("close")
    grpc_server.stop(None).wait()


async def test_a_closed_client_says_so_and_may_be_closed_twice(connect, png):
    async with connect() as client:
        await client.call("explain", png)
        await client.call("close")
        await client.call("close")
        for call in (
            lambda: client.call("explain", png),
            lambda: client.call("models"),
            lambda: client.call("explain_many", [png]),
        ):
            with pytest.raises(ClientClosed):
                await call()


def test_closing_ends_a_call_in_flight_with_cancelled(server, png):
    server.latency = 5.0
    client = server.client()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.explain, png)
        assert eventually(lambda: bool(server.requests))
        client.close()
        with pytest.raises(Cancelled):
            future.result(timeout=2)


@pytest.mark.parametrize("call", ["explain", "explain_many"])
def test_a_call_that_begins_as_the_client_closes_is_told_so(server, png, monkeypatch, call):
    """gRPC says ValueError: Cannot invoke RPC: Channel closed!"""
    client = server.client()
    open_so_far = client._check_open

    def closed_by_another_thread() -> None:
        open_so_far()
        client.close()

    monkeypatch.setattr(client, "_check_open", closed_by_another_thread)
    if call == "explain":
        with pytest.raises(ClientClosed):
            client.explain(png)
    else:
        monkeypatch.undo()
        answers = client.explain_many([png])
        monkeypatch.setattr(client, "_check_open", closed_by_another_thread)
        with pytest.raises(ClientClosed):
            next(answers)


def test_threads_share_one_client(client):
    images = [make_pixels(20, 30, seed) for seed in range(12)]
    alone = [client.explain(image).logit for image in images]
    barrier = threading.Barrier(12)

    def explain(image):
        barrier.wait()
        return client.explain(image).logit

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(explain, images)) == alone

"""Single calls, sync and asyncio, against a loopback server."""

from __future__ import annotations

import asyncio
import copy
import inspect
import io
import json
import math
import pickle
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from client_samples import QUICK, eventually, make_pixels
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client import (
    AsyncClient,
    CallError,
    Cancelled,
    Client,
    ClientClosed,
    Contrast,
    DeadlineExceeded,
    InvalidRequest,
    MalformedResponse,
    MethodIgnored,
    NotFound,
    Overloaded,
    Retry,
    Tls,
    TopK,
    Unavailable,
    Unimplemented,
)
from textcam_client._convert.responses import explain_result, tensor
from textcam_client.testing import server
from textcam_client.testing._explainer import FakeExplainer


class InLoop:
    """An AsyncClient's coroutines awaited by `call`, a Client's methods just called."""

    def __init__(self, client):
        self.client = client

    async def call(self, name, *args, **kwargs):
        result = getattr(self.client, name)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result


@pytest.fixture(params=["sync", "async"])
def connect(request, server):
    """A context manager that gives either client of the server."""

    @asynccontextmanager
    async def connected(**settings):
        settings = {"retry": QUICK, "timeout": 5.0, **settings}
        if request.param == "sync":
            with server.client(**settings) as client:
                yield InLoop(client)
        else:
            async with server.async_client(**settings) as client:
                yield InLoop(client)

    return connected


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


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, types_pb.Target()),
        (TopK(3), types_pb.Target(top_k=types_pb.Target.TopK(k=3))),
        (4, types_pb.Target(classes=types_pb.Target.Classes(classes=[types_pb.ClassRef(index=4)]))),
        (
            np.int64(4),
            types_pb.Target(classes=types_pb.Target.Classes(classes=[types_pb.ClassRef(index=4)])),
        ),
        (
            "Daisy",
            types_pb.Target(
                classes=types_pb.Target.Classes(classes=[types_pb.ClassRef(name="Daisy")])
            ),
        ),
        (
            [0, "daisy"],
            types_pb.Target(
                classes=types_pb.Target.Classes(
                    classes=[types_pb.ClassRef(index=0), types_pb.ClassRef(name="daisy")]
                )
            ),
        ),
        (
            Contrast("daisy", 0),
            types_pb.Target(
                contrast=types_pb.Target.Contrast(
                    target=types_pb.ClassRef(name="daisy"), reference=types_pb.ClassRef(index=0)
                )
            ),
        ),
    ],
)
def test_each_form_of_a_target_is_sent_as_the_contract_has_it(
    server, client, png, target, expected
):
    client.explain(png, target=target)
    assert server.requests[-1].target == expected


def test_a_contrast_explains_the_difference_of_two_logits(client, png):
    one, other = client.explain(png, target=["daisy", "barn owl"]).explanations
    contrast = client.explain(png, target=Contrast("daisy", "barn owl"))
    assert contrast.logit == pytest.approx(one.logit - other.logit, abs=1e-5)
    assert contrast.reference == other.target
    assert one.reference is None
    np.testing.assert_allclose(
        contrast.saliency_map, one.saliency_map - other.saliency_map, atol=1e-5
    )


@pytest.mark.parametrize("target", [3.5, [None], object(), b"daisy"])
def test_what_names_no_target_is_a_type_error_before_anything_is_sent(server, client, png, target):
    with pytest.raises(TypeError):
        client.explain(png, target=target)
    assert server.requests == []


def test_an_unknown_heatmap_form_is_refused_with_the_forms_that_there_are(client, png):
    with pytest.raises(ValueError, match="'image', 'none', 'overlay', 'saliency'"):
        client.explain(png, heatmap="jet")


def test_options_reach_the_server_and_unset_ones_stay_unset(server, client, png):
    client.explain(
        png, max_phrases=2, include_groups=False, heatmap="none", prediction_count=0, model="fake"
    )
    sent = server.requests[-1]
    assert (sent.max_phrases, sent.include_groups, sent.prediction_count) == (2, False, 0)
    assert sent.model.name == "fake"
    assert sent.heatmap == types_pb.HEATMAP_FORM_NONE
    client.explain(png)
    sent = server.requests[-1]
    assert not sent.HasField("max_phrases")
    assert not sent.HasField("prediction_count")
    assert sent.heatmap == types_pb.HEATMAP_FORM_SALIENCY
    assert sent.request_id


def test_declined_groups_and_maps_are_absent(client, png):
    answer = client.explain(png, include_groups=False, heatmap="none")
    assert answer.groups == ()
    assert answer.phrases
    assert answer.saliency_map is None
    assert answer.rest.saliency_map is None


def test_the_servers_heatmap_agrees_with_the_one_made_here(client, png):
    answer = client.explain(png, heatmap="image")
    for part in (answer, *answer.groups):
        levels = part.server_heatmap
        assert levels.dtype == np.uint8
        assert np.abs(levels / 255 - part.heatmap()).max() <= 0.5 / 255 + 1e-5
    assert answer.server_overlay is None


def test_the_servers_overlay_is_kept_as_a_png(client, png):
    answer = client.explain(png, heatmap="overlay")
    assert Image.open(io.BytesIO(answer.server_overlay)).size == (90, 60)
    assert answer.server_heatmap is None


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


# --- retries and deadlines ------------------------------------------------------


async def test_unavailable_twice_then_success_is_success(connect, server, png):
    server.fail_with("UNAVAILABLE", "SHUTTING_DOWN", times=2)
    async with connect() as client:
        answer = await client.call("explain", png, request_id="same")
    assert answer.request_id == "same"
    assert [request.request_id for request in server.requests] == ["same"] * 3


async def test_unavailable_for_good_is_raised_after_the_last_attempt(connect, server, png):
    server.fail_with("UNAVAILABLE", "SHUTTING_DOWN", times=9)
    async with connect(retry=Retry(attempts=3, initial_backoff=0.01)) as client:
        with pytest.raises(Unavailable):
            await client.call("explain", png)
    assert len(server.requests) == 3


async def test_a_call_is_tried_again_until_its_deadline_unless_the_user_says_otherwise(
    connect, server, png
):
    server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", times=12, retry_after=0.01)
    async with connect(retry=Retry(max_backoff=0.02)) as client:
        assert await client.call("explain", png)
    assert len(server.requests) == 13
    server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", times=999, retry_after=0.01)
    async with connect(retry=Retry(max_backoff=0.02), timeout=0.5) as client:
        start = time.monotonic()
        # Deadline exceeded where the deadline meets the last try on its way.
        with pytest.raises((Overloaded, DeadlineExceeded)):
            await client.call("explain", png)
        assert 0.4 < time.monotonic() - start < 5


async def test_a_full_queue_is_tried_again_when_the_server_says_when(connect, server, png):
    server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=0.2)
    async with connect() as client:
        start = time.monotonic()
        await client.call("explain", png)
        took = time.monotonic() - start
    assert len(server.requests) == 2
    assert 0.2 <= took < 5


async def test_resource_exhausted_without_a_hint_is_not_tried_again(connect, server, png):
    server.fail_with("RESOURCE_EXHAUSTED", "IMAGE_TOO_LARGE")
    async with connect() as client:
        with pytest.raises(Overloaded) as caught:
            await client.call("explain", png)
    assert caught.value.retry_after is None
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "ABORTED"]
)
def test_nothing_else_is_tried_again(server, client, png, code):
    server.fail_with(code, "X", retry_after=0.01)
    with pytest.raises(Exception, match="scripted"):
        client.explain(png)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("timeout", "error"), [(10, Unavailable), (0.05, DeadlineExceeded)])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_call_that_ends_well_without_its_answer_is_no_answer(kind, timeout, error):
    """gRPC does so where a deadline passes while the server sends: once in 2,000, under load."""

    def nothing(request, **options):
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done if kind is AsyncClient else None

    client = kind("127.0.0.1:1", retry=None)
    try:
        client._stub = SimpleNamespace(ListModels=nothing)
        with pytest.raises(error, match="response"):
            await InLoop(client).call("models", timeout=timeout)
    finally:
        await InLoop(client).call("close")


async def test_a_hint_past_the_deadline_is_not_waited_for(connect, server, png):
    server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=30)
    async with connect(timeout=5) as client:
        start = time.monotonic()
        with pytest.raises(Overloaded):
            await client.call("explain", png)
        assert time.monotonic() - start < 4
    assert len(server.requests) == 1


async def test_the_clients_timeout_is_every_calls_deadline(connect, server, png):
    server.latency = 3.0
    async with connect(timeout=0.2) as client:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await client.call("explain", png, request_id="slow")
        assert 0.15 < time.monotonic() - start < 2.5
        server.latency = 0.3
        assert await client.call("explain", png, timeout=5)


def test_backoff_grows_is_bounded_and_at_most_half_is_random():
    retry = Retry(attempts=10, initial_backoff=0.1, multiplier=2, max_backoff=0.5)
    for attempt, longest in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.5), (9, 0.5)):
        delays = [retry.delay_after(Unavailable("x"), attempt) for _ in range(200)]
        assert longest / 2 <= min(delays) < max(delays) <= longest
        assert max(delays) - min(delays) > longest / 4
    assert retry.delay_after(Unavailable("x"), 10) is None


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_a_timeout_that_is_none_is_refused(client, png, timeout):
    with pytest.raises(ValueError, match="above 0"):
        client.explain(png, timeout=timeout)
    with pytest.raises(ValueError, match="above 0"):
        Client("localhost:1", timeout=timeout)


async def test_infinity_is_no_limit(connect, png):
    async with connect(timeout=math.inf) as client:
        assert await client.call("explain", png)


# --- the client's own settings --------------------------------------------------


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


@pytest.mark.parametrize("key", ["authorization", "Authorization", "AUTHORIZATION"])
def test_metadata_goes_with_every_call_whatever_its_keys_case(key):
    seen = []

    class Look(grpc.ServerInterceptor):
        def intercept_service(self, _, details):
            seen.append((details.method.rsplit("/")[-1], dict(details.invocation_metadata)))

    grpc_server = grpc.server(ThreadPoolExecutor(2), interceptors=[Look()])
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    metadata = {key: "Bearer t"}
    with Client(f"127.0.0.1:{port}", metadata=metadata) as client:
        for call in (client.models, lambda: next(client.explain_many([make_pixels()]))):
            with pytest.raises(Exception, match="not found"):
                call()
    grpc_server.stop(None).wait()
    assert [method for method, _ in seen] == ["ListModels", "ExplainStream"]
    assert all(sent["authorization"] == "Bearer t" for _, sent in seen)


async def test_the_async_client_sends_metadata_whatever_its_keys_case(server, png):
    async with server.async_client(metadata={"Authorization": "Bearer t"}) as client:
        assert await client.explain(png)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"authorization": "Bearer textcam_secret\n"}, "'authorization'.*line break"),
        ({"authorization": "Bearer textcam_sécret"}, "printable ASCII"),
        ({"authorization": b"Bearer textcam_secret"}, "printable ASCII"),
        ({"authorization: Bearer textcam_secret": ""}, "one has ':'"),
        ({"Bearer textcam_secret": "authorization"}, "one has ' '"),
        ({"textcam_secret\n": "authorization"}, r"one has '\\n'"),
        ({"": "Bearer textcam_secret"}, "one is empty"),
        ({"a": "Bearer textcam_secret", "A": "Bearer textcam_secret"}, "one key twice"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_bad_metadata_is_refused_without_a_word_of_the_token(kind, metadata, words):
    with pytest.raises(ValueError, match=words) as refused:
        kind("localhost:1", metadata=metadata)
    assert "textcam_" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1", "names no port"),
        ("", "names no port"),
        ("http://127.0.0.1:50051", "is a URL"),
        ("https://textcam:50051", r"is a URL .* tls=Tls\(\)"),
        ("::1:50051", r"more than one colon; .* \[::1\]:50051"),
        ("localhost:0", "no port of 1 .. 65535"),
        ("localhost:65536", "no port of"),
        ("localhost:http", "no port of"),
        (":50051", "no host"),
        ("local host:50051", "no host"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_that_cannot_be_called_is_refused_when_the_client_is_made(kind, address, words):
    with pytest.raises(ValueError, match=words):
        kind(address)


def test_targets_of_grpc_and_lists_of_addresses_are_taken(server, png, tmp_path):
    port = server.address.split(":")[1]
    for address in (
        f"localhost:{port}",
        f"dns:///localhost:{port}",
        f"dns:localhost:{port}",
        f"ipv4:127.0.0.1:{port},127.0.0.1:{port}",
    ):
        with Client(address, retry=QUICK) as client:
            assert client.explain(png)
    for address in ("[::1]:50051", "ipv6:[::1]:50051", f"unix:{tmp_path}/s", "xds:///textcam"):
        Client(address).close()


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


# --- life and death -------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


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


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_where_no_server_answers_the_error_says_where_and_what_to_look_at(kind, png):
    """And soon, though the client has half a minute: the address may be wrong."""
    address = f"127.0.0.1:{free_port()}"
    words = (
        f"no TextCAM server responds at {address}: is it running, .* port .* TLS.*gRPC reports: .+"
    )
    alone = InLoop(kind(address))
    start = time.monotonic()
    with pytest.raises(Unavailable, match=words):
        await alone.call("explain", png)
    many = alone.client.explain_many([png], on_error="return")
    (item,) = [item async for item in many] if kind is AsyncClient else list(many)
    assert time.monotonic() - start < 5
    assert isinstance(item, Unavailable)
    with pytest.raises(Unavailable, match=words):
        raise item
    await alone.call("close")


async def test_a_call_to_what_takes_connections_and_says_nothing_says_so_at_its_deadline(png):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with Client(address, timeout=0.3) as client, pytest.raises(CallError, match=address):
            client.explain(png)


def test_a_slow_server_that_answered_before_is_not_said_to_be_away(server, client, png):
    assert client.explain(png)
    server.latency = 3.0
    with pytest.raises(DeadlineExceeded) as late:
        client.explain(png, timeout=0.2)
    assert "running" not in str(late.value)


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


async def test_closing_ends_an_async_call_in_flight_with_cancelled_not_its_task(server, png):
    server.latency = 20.0
    client = server.async_client()
    task = asyncio.create_task(client.explain(png, request_id="r"))
    assert await asyncio.to_thread(eventually, lambda: bool(server.requests))
    await client.close()
    with pytest.raises(Cancelled, match="its client was closed") as caught:
        await task
    assert caught.value.request_id == "r"


async def test_cancelling_a_task_cancels_its_call(server, png):
    server.latency = 5.0
    async with server.async_client() as client:
        task = asyncio.create_task(client.explain(png))
        assert await asyncio.to_thread(eventually, lambda: bool(server.requests))
        task.cancel()
        start = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - start < 4


def test_threads_share_one_client(client):
    images = [make_pixels(20, 30, seed) for seed in range(12)]
    alone = [client.explain(image).logit for image in images]
    barrier = threading.Barrier(12)

    def explain(image):
        barrier.wait()
        return client.explain(image).logit

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(explain, images)) == alone


def test_an_async_client_may_be_made_outside_of_any_loop(server, png):
    client = server.async_client()

    async def use():
        async with client:
            return await client.explain(png)

    assert asyncio.run(use()).image_size == (60, 90)


# --- answers --------------------------------------------------------------------


@pytest.mark.parametrize("again", [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
@pytest.mark.parametrize("kind", [bytes, memoryview, Path, Image.Image, np.ndarray])
def test_copies_are_the_answer_with_its_image_and_read_only(client, png_path, kind, again):
    given = {
        bytes: png_path.read_bytes(),
        memoryview: memoryview(png_path.read_bytes()),
        Path: png_path,
        Image.Image: Image.open(png_path),
        np.ndarray: np.asarray(Image.open(png_path)),
    }[kind]
    answer = client.explain(given, heatmap="image")
    twin = again(answer)
    assert twin.to_dict(arrays=True) == answer.to_dict(arrays=True)
    (ours,), (theirs,) = answer.explanations, twin.explanations
    assert ours.overlay().tobytes() == theirs.overlay().tobytes()
    for part in (theirs, *theirs.groups, theirs.rest):
        assert not part.saliency_map.flags.writeable
        assert not part.server_heatmap.flags.writeable
        assert part is theirs or not part.channel_ids.flags.writeable


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


def test_to_dict_is_json_and_has_arrays_only_when_asked_for(client, png):
    answer = client.explain(png, request_id="r")
    short = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert short["request_id"] == "r"
    target = short["explanations"][0]
    assert target["logit"] == answer.logit
    assert "saliency_map" not in target
    assert target["groups"][0]["phrase"] == answer.phrases[0].text
    assert short["provenance"]["parameters"] == {"groups": "greedy"}
    full = json.loads(json.dumps(answer.to_dict(arrays=True), allow_nan=False))
    np.testing.assert_array_equal(
        np.float32(full["explanations"][0]["groups"][0]["saliency_map"]),
        answer.groups[0].saliency_map,
    )


def test_a_printed_answer_has_its_numbers_and_words_but_no_arrays(client, png):
    answer = client.explain(png, heatmap="image")
    printed = repr(answer)
    assert "array(" not in printed
    assert answer.phrases[0].text in printed
    assert len(printed) < 5000


def test_answers_are_frozen_down_to_their_arrays(client, png):
    answer = client.explain(png)
    with pytest.raises(AttributeError):
        answer.request_id = "other"
    with pytest.raises(ValueError, match="read-only"):
        answer.saliency_map[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        answer.rest.channel_ids[0] = 1


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

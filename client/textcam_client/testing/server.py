"""A server for the tests of code that uses this client.

    from textcam_client.testing import serve_in_memory

    def test_my_audit_survives_a_full_queue():
        with serve_in_memory() as server, server.client() as client:
            server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=0.01)
            assert my_audit(client, ["cat.jpg"]) == ...
            assert len(server.requests) == 2

It is a real gRPC server on a loopback port, inside the test's own process. Its answers
are made up, but deterministic, follow the image, and add up as the contract promises.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc as pb_grpc

from textcam_client.aio import AsyncClient
from textcam_client.client import Client
from textcam_client.testing._checks import Refused
from textcam_client.testing._explainer import CLASS_NAMES, PHRASES, FakeExplainer

__all__ = ["InMemoryServer", "serve_in_memory"]

Latency = float | Callable[[pb.ExplainRequest], float]

_MAX_MESSAGE_BYTES = 64 * 2**20


class InMemoryServer:
    """What `serve_in_memory` gives.

    Attributes:
        address: "127.0.0.1:port".
        requests: Every ExplainRequest that came, in order, those that failed included.
        streams: How many streams were opened.
        open_streams: How many are open now.
        peak_in_flight: The most requests that were in work at once.
        latency: Seconds before each answer, or a function of the request that says so.
    """

    def __init__(self, address: str, latency: Latency) -> None:
        self.address = address
        self.requests: list[pb.ExplainRequest] = []
        self.streams = 0
        self.open_streams = 0
        self.peak_in_flight = 0
        self.latency = latency
        self._in_flight = 0
        self._failures: deque[Refused] = deque()
        self._breaks: deque[tuple[int, Refused]] = deque()
        self._lock = threading.Lock()

    def client(self, **settings: Any) -> Client:
        """A Client of this server; `settings` are Client's."""
        return Client(self.address, **settings)

    def async_client(self, **settings: Any) -> AsyncClient:
        """An AsyncClient of this server; `settings` are AsyncClient's."""
        return AsyncClient(self.address, **settings)

    def fail_with(
        self,
        code: str | grpc.StatusCode,
        reason: str,
        *,
        times: int = 1,
        message: str = "scripted failure",
        retry_after: float | None = None,
        violations: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Let the next `times` requests, calls or items of a stream, fail.

        Args:
            code: A gRPC status code, or its name.
            reason: Of the error's ErrorInfo.
            times: How many; several scripts queue up.
            message: The error's message.
            retry_after: Seconds for the error's RetryInfo; None: it has none.
            violations: (field, description) of the error's BadRequest.
        """
        failure = Refused(_code(code), reason, message, tuple(violations))
        failure.retry_after = retry_after
        self._failures.extend([failure] * times)

    def break_stream(
        self,
        code: str | grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        *,
        after: int = 0,
        times: int = 1,
    ) -> None:
        """Let each of the next `times` streams end with `code` after `after` answers.

        OK ends it in order, answered or not.
        """
        breach = Refused(_code(code), "", "scripted end of the stream")
        self._breaks.extend([(after, breach)] * times)

    # What follows is called by the server's threads.

    def _begin(self, request: pb.ExplainRequest) -> float:
        """Record a request; raises the failure that is its turn; returns its latency."""
        with self._lock:
            self.requests.append(request)
            self._in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)
        return self.latency if isinstance(self.latency, (int, float)) else self.latency(request)

    def _end(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def _raise_scripted(self) -> None:
        with self._lock:
            failure = self._failures.popleft() if self._failures else None
        if failure is not None:
            raise failure

    def _stream_opened(self) -> tuple[int, Refused] | None:
        with self._lock:
            self.streams += 1
            self.open_streams += 1
            return self._breaks.popleft() if self._breaks else None

    def _stream_closed(self) -> None:
        with self._lock:
            self.open_streams -= 1


@contextlib.contextmanager
def serve_in_memory(
    *,
    model: str = "fake",
    version: str = "1",
    class_names: Sequence[str] = CLASS_NAMES,
    vocabulary: Sequence[str] = PHRASES,
    further_models: Sequence[str] = (),
    calibrated: bool = True,
    latency: Latency = 0.0,
    max_message_bytes: int = _MAX_MESSAGE_BYTES,
) -> Iterator[InMemoryServer]:
    """Serve on a free loopback port until the block is left.

    Args:
        model: Name of the model.
        version: Its version.
        class_names: Its classes.
        vocabulary: Its phrases. Those of the default one have kinds, others have none.
        further_models: Names of further models, which answer as the first does.
        calibrated: Whether its phrases have probabilities; a bank without refuses min_probability.
        latency: Seconds before each answer, or a function of the request that says so.
        max_message_bytes: Largest request; one over it ends its call or stream.
    """
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Else two servers could share a port without a word.
        ("grpc.so_reuseport", 0),
    ]
    with ThreadPoolExecutor(32, thread_name_prefix="textcam-fake") as pool:
        grpc_server = grpc.server(pool, options=options)
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        server = InMemoryServer(f"127.0.0.1:{port}", latency)
        models = (model, *further_models)
        explainer = FakeExplainer(models, version, class_names, vocabulary, calibrated=calibrated)
        servicer = _Servicer(server, explainer)
        pb_grpc.add_ExplainerServiceServicer_to_server(servicer, grpc_server)  # type: ignore[no-untyped-call]  # generated
        health_pb2_grpc.add_HealthServicer_to_server(servicer, grpc_server)
        grpc_server.start()
        try:
            yield server
        finally:
            servicer.stopping.set()
            grpc_server.stop(grace=None).wait()


class _Servicer(pb_grpc.ExplainerServiceServicer, health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """The service's methods, and health's, around a FakeExplainer."""

    def __init__(self, server: InMemoryServer, explainer: FakeExplainer) -> None:
        self.stopping = threading.Event()
        self._server = server
        self._explainer = explainer

    def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:  # noqa: N802 - the contract's name
        with _refusals(context):
            return self._answer(request, self.stopping)

    def ExplainStream(  # noqa: N802 - the contract's name
        self, requests: Iterator[pb.ExplainStreamRequest], context: Any
    ) -> Iterator[pb.ExplainStreamResponse]:
        scripted = self._server._stream_opened()
        gone = threading.Event()
        context.add_callback(gone.set)
        answers: queue.SimpleQueue[pb.ExplainStreamResponse | None] = queue.SimpleQueue()
        reader = threading.Thread(
            target=self._read, args=(requests, answers, gone), name="textcam-fake-reader"
        )
        reader.start()
        try:
            sent = 0
            while scripted is None or sent < scripted[0]:
                answer = answers.get()
                if answer is None:
                    return
                yield answer
                sent += 1
            if scripted[1].code is not grpc.StatusCode.OK:
                context.abort(scripted[1].code, str(scripted[1]))
        finally:
            gone.set()
            self._server._stream_closed()

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:  # noqa: N802 - the contract's name
        with _refusals(context):
            self._server._raise_scripted()
            return self._explainer.list_models(request)

    def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:  # noqa: N802 - the contract's name
        with _refusals(context):
            self._server._raise_scripted()
            return self._explainer.describe(request)

    def Check(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the contract's
        with _refusals(context):
            self._server._raise_scripted()
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    def _answer(self, request: pb.ExplainRequest, gone: threading.Event) -> pb.ExplainResponse:
        latency = self._server._begin(request)
        try:
            if latency:
                gone.wait(latency)
            self._server._raise_scripted()
            return self._explainer.explain(request)
        finally:
            self._server._end()

    def _read(
        self,
        requests: Iterator[pb.ExplainStreamRequest],
        answers: queue.SimpleQueue[pb.ExplainStreamResponse | None],
        gone: threading.Event,
    ) -> None:
        def answer(request: pb.ExplainRequest) -> None:
            message = pb.ExplainStreamResponse(request_id=request.request_id)
            try:
                message.response.CopyFrom(self._answer(request, gone))
            except Refused as refused:
                message.error.CopyFrom(_status(refused))
            answers.put(message)

        with (
            ThreadPoolExecutor(32, thread_name_prefix="textcam-fake-item") as pool,
            # The iterator raises when the caller cancels, which is no error here.
            contextlib.suppress(Exception),
        ):
            for message in requests:
                pool.submit(answer, message.request)
        answers.put(None)


@contextlib.contextmanager
def _refusals(context: Any) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        context.abort_with_status(rpc_status.to_status(_status(refused)))
        raise


def _status(refused: Refused) -> status_pb2.Status:
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=refused.reason, domain="textcam")]
    if refused.violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in refused.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if refused.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(round(refused.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=refused.code.value[0], message=str(refused), details=packed)


def _code(code: str | grpc.StatusCode) -> Any:
    return grpc.StatusCode[code] if isinstance(code, str) else code

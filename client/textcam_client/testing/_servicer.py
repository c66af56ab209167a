"""The gRPC methods of the in-memory server."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
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

from textcam_client.testing._checks import Refused
from textcam_client.testing._explainer import FakeExplainer
from textcam_client.testing._script import Script


class FakeServicer(pb_grpc.ExplainerServiceServicer, health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """Methods of the service and of the health service, around a FakeExplainer."""

    def __init__(self, script: Script, explainer: FakeExplainer) -> None:
        self.stopping = threading.Event()
        self._script = script
        self._explainer = explainer

    def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:  # noqa: N802 - the contract's name
        with _refusals(context):
            return self._explain(request, self.stopping)

    def ExplainStream(  # noqa: N802 - the contract's name
        self, requests: Iterator[pb.ExplainStreamRequest], context: Any
    ) -> Iterator[pb.ExplainStreamResponse]:
        scripted = self._script._stream_opened()
        gone = threading.Event()
        context.add_callback(gone.set)
        responses: queue.SimpleQueue[pb.ExplainStreamResponse | None] = queue.SimpleQueue()
        reader = threading.Thread(
            target=self._read, args=(requests, responses, gone), name="textcam-fake-reader"
        )
        reader.start()
        try:
            sent = 0
            while scripted is None or sent < scripted[0]:
                response = responses.get()
                if response is None:
                    return
                yield response
                sent += 1
            if scripted[1].code is not grpc.StatusCode.OK:
                context.abort(scripted[1].code, str(scripted[1]))
        finally:
            gone.set()
            self._script._stream_closed()

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:  # noqa: N802 - the contract's name
        with _refusals(context):
            self._script._raise_scripted()
            return self._explainer.list_models(request)

    def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:  # noqa: N802 - the contract's name
        with _refusals(context):
            self._script._raise_scripted()
            return self._explainer.describe(request)

    def Check(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the contract's
        with _refusals(context):
            self._script._raise_scripted()
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    def _explain(self, request: pb.ExplainRequest, gone: threading.Event) -> pb.ExplainResponse:
        latency = self._script._begin(request)
        try:
            if latency:
                gone.wait(latency)
            self._script._raise_scripted()
            return self._explainer.explain(request)
        finally:
            self._script._end()

    def _read(
        self,
        requests: Iterator[pb.ExplainStreamRequest],
        responses: queue.SimpleQueue[pb.ExplainStreamResponse | None],
        gone: threading.Event,
    ) -> None:
        def respond(request: pb.ExplainRequest) -> None:
            message = pb.ExplainStreamResponse(request_id=request.request_id)
            try:
                message.response.CopyFrom(self._explain(request, gone))
            except Refused as refused:
                message.error.CopyFrom(_status(refused))
            responses.put(message)

        with (
            ThreadPoolExecutor(32, thread_name_prefix="textcam-fake-item") as pool,
            # The iterator raises if the caller cancels, which is no error here.
            contextlib.suppress(Exception),
        ):
            for message in requests:
                pool.submit(respond, message.request)
        responses.put(None)


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

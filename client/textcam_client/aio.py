"""The client for asyncio."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import grpc
from grpc_health.v1 import health_pb2

from textcam_client._base import DEFAULT_TIMEOUT, PATIENT, ClientBase, Listing, request_id
from textcam_client._convert import responses
from textcam_client._streaming.aio import AsyncResultStream, AsyncStreamRun
from textcam_client._streaming.aio_call import AsyncStream
from textcam_client._transport.stub import Stub
from textcam_client.errors import Cancelled, TextCamClientError, Unavailable
from textcam_client.images import ImageInput, require_several
from textcam_client.model import Model, ModelSummary
from textcam_client.options import ExplainOptions, HeatmapForm, Lane, Options, Target, Targeted
from textcam_client.result import ExplainResult
from textcam_client.retry import Retry

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class AsyncClient(ClientBase):
    """Client for one event loop. The channel is opened at the first call.

    Threads read files and pack pixels, so the loop never waits for a disk. Cancelling a task
    cancels its call.

    The arguments are those of Client, but `channel` is a grpc.aio.Channel. PEM files are read at
    the first call.
    """

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls in flight end with Cancelled. May be called twice."""
        self._closed = True
        if self._owns_channel and self._channel is not None:
            await self._channel.close()

    async def explain(  # noqa: PLR0913 - one argument per option
        self,
        image: ImageInput,
        *,
        target: Target = None,
        max_phrases: int | None = None,
        min_probability: float | None = None,
        kinds: Sequence[str] | None = None,
        repeat_class: bool = False,
        include_groups: bool = True,
        heatmap: HeatmapForm = "saliency",
        prediction_count: int | None = None,
        method: str | None = None,
        lane: Lane | None = None,
        may_degrade: bool = False,
        include_channel_evidence: bool = False,
        model: str | None = None,
        version: str | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> ExplainResult:
        """Explain one image; see Client.explain."""
        options = Options(
            target,
            max_phrases,
            min_probability,
            kinds,
            repeat_class,
            include_groups,
            heatmap,
            prediction_count,
            method,
            lane,
            may_degrade,
            include_channel_evidence,
            model,
            version,
        )
        prepare, seconds = self._prepare_explain(options, timeout)
        request, source = await asyncio.to_thread(prepare, image)
        request.request_id = uuid.uuid4().hex if request_id is None else request_id
        return await self._call(
            "Explain",
            request,
            lambda r: responses.explain_result(r, source, request.method),
            seconds,
        )

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput | Targeted] | AsyncIterable[ImageInput | Targeted],
        *,
        concurrency: int = 8,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> AsyncResultStream[ExplainResult]: ...

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput | Targeted] | AsyncIterable[ImageInput | Targeted],
        *,
        concurrency: int = 8,
        on_error: Literal["return"],
        **options: Unpack[ExplainOptions],
    ) -> AsyncResultStream[ExplainResult | TextCamClientError]: ...

    def explain_many(
        self,
        images: Iterable[ImageInput | Targeted] | AsyncIterable[ImageInput | Targeted],
        *,
        concurrency: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> AsyncResultStream[Any]:
        """Explain many images over one stream; see Client.explain_many.

        `images` may be an async iterable. Use one if images have to be waited for: a plain
        iterable runs on the event loop and blocks it. An async one is iterated in its own task,
        so a result that has arrived never waits for the next image.
        """
        require_several(images)
        prepare, window = self._prepare_stream(options, concurrency, on_error)
        run = AsyncStreamRun(images, prepare, window, self._open_stream)
        return AsyncResultStream(run, raise_errors=on_error == "raise")

    async def models(
        self,
        *,
        timeout: float | None = None,
    ) -> tuple[ModelSummary, ...]:
        """List the served models, in order of name, all pages; raises CallError."""
        listing = Listing(self._settings.seconds(timeout))
        for request, seconds in listing.requests():
            await self._call("ListModels", request, listing.add, seconds)
        return tuple(listing.models)

    async def model(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        timeout: float | None = None,
    ) -> Model:
        """Describe a model; default: the client's. Raises CallError."""
        request = self._prepare_get_model(name, version)
        seconds = self._settings.seconds(timeout)
        return await self._call("GetModel", request, responses.model, seconds)

    async def wait_ready(
        self,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Wait until the server responds and serves a model. No credentials are needed.

        Raises:
            Unavailable, DeadlineExceeded: The server was not ready within `timeout` seconds.
        """
        await self._call(
            "Check",
            health_pb2.HealthCheckRequest(),
            responses.require_serving,
            self._settings.seconds(timeout),
            retry=PATIENT,
            wait_for_ready=True,
        )

    async def _call(
        self,
        method: str,
        request: Any,
        read: Callable[[Any], T],
        seconds: float,
        *,
        retry: Retry | None = None,
        wait_for_ready: bool | None = None,
    ) -> T:
        attempts = self._attempts(seconds, retry)
        while True:
            try:
                call = getattr(self._opened(), method)(
                    request,
                    timeout=attempts.remaining(),
                    metadata=self._settings.metadata,
                    wait_for_ready=wait_for_ready,
                )
                response = await _response(call, request)
                return read(attempts.received(response))
            except (grpc.RpcError, Unavailable) as failure:
                delay = self._delay_after(failure, attempts, request)
            await asyncio.sleep(delay)

    def _open_stream(self, woken: asyncio.Event) -> AsyncStream:
        stub = self._opened()
        return AsyncStream(
            lambda requests: stub.ExplainStream(requests, metadata=self._settings.metadata),
            self._peer,
            woken,
        )

    def _opened(self) -> Any:
        """Return the stub; open the channel now, because it belongs to the running loop."""
        self._check_open()
        if self._stub is None:
            if self._channel is None:
                self._channel = self._new_channel(grpc.aio)
            self._stub = Stub(self._channel)
        return self._stub


async def _response(call: Any, request: Any) -> Any:
    """Await a call.

    Raises:
        Cancelled: The channel was closed. grpc.aio raises asyncio.CancelledError for it, but
            asyncio.wait raises that error only if this task was cancelled.
    """
    waiting = asyncio.ensure_future(call)
    try:
        await asyncio.wait({waiting})
    except asyncio.CancelledError:
        waiting.cancel()
        # Retrieve an error that comes at the same moment, or asyncio logs it.
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    if waiting.cancelled():
        raise Cancelled(
            "the call was cancelled because its client was closed", request_id=request_id(request)
        )
    return waiting.result()

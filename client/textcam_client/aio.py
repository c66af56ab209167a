"""The client for event loops."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import grpc
from grpc_health.v1 import health_pb2
from textcam.v1 import explainer_pb2 as pb

from textcam_client._convert import requests, responses
from textcam_client._streaming.aio import AsyncExplanations, AsyncRun, AsyncStream
from textcam_client._streaming.window import Window
from textcam_client._transport.peer import Peer
from textcam_client._transport.stub import Stub
from textcam_client.client import (
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT,
    PATIENT,
)
from textcam_client.errors import Cancelled, ClientClosed, TextCamClientError, Unavailable
from textcam_client.images import ImageInput, require_several
from textcam_client.model import Model, ModelSummary
from textcam_client.options import (
    ExplainOptions,
    HeatmapForm,
    Lane,
    Options,
    Target,
    Tls,
    channel_options,
    chosen,
    settings,
)
from textcam_client.retry import Attempts, Retry
from textcam_client.types import Explanation

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class AsyncClient:
    """As Client, for one event loop. Its channel is opened at the first call.

    Files are read and pixels packed in threads, so the loop never waits for a disk. A
    task that is cancelled cancels its call.

    It is constructed as Client is; `channel` is a grpc.aio.Channel here. PEM files are
    read at the first call as well.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str | None = None,
        version: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: Retry | None = DEFAULT_RETRY,
        tls: Tls | None = None,
        metadata: Mapping[str, str] | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        channel: Any = None,
    ) -> None:
        self._settings = settings(
            address,
            model=model,
            version=version,
            timeout=timeout,
            retry=retry,
            tls=tls,
            metadata=metadata,
            max_message_bytes=max_message_bytes,
            channel=channel,
        )
        self._peer = Peer(self._settings.address)
        self._owns_channel = channel is None
        self._channel = channel
        self._stub: Any = None
        self._closed = False

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
        """Close the channel; calls in flight end with Cancelled. Twice is no harm."""
        self._closed = True
        if self._owns_channel and self._channel is not None:
            await self._channel.close()

    async def explain(  # noqa: PLR0913 - one argument per option
        self,
        image: ImageInput,
        *,
        target: Target = None,
        phrases: int | None = None,
        min_probability: float | None = None,
        kinds: Sequence[str] | None = None,
        repeat_class: bool = False,
        groups: bool = True,
        heatmap: HeatmapForm = "saliency",
        predictions: int | None = None,
        method: str | None = None,
        lane: Lane | None = None,
        may_degrade: bool = False,
        model: str | None = None,
        version: str | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> Explanation:
        """Explain one image; see Client.explain."""
        options = self._settings.completed(
            Options(
                target,
                phrases,
                min_probability,
                kinds,
                repeat_class,
                groups,
                heatmap,
                predictions,
                method,
                lane,
                may_degrade,
                model,
                version,
            )
        )
        seconds = self._settings.seconds(timeout)
        prepare = requests.preparer(options, self._settings.max_message_bytes)
        request, source = await asyncio.to_thread(prepare, image)
        request.request_id = uuid.uuid4().hex if request_id is None else request_id
        return await self._call(
            "Explain", request, lambda r: responses.explanation(r, source, request.method), seconds
        )

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> AsyncExplanations[Explanation]: ...

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["return"],
        **options: Unpack[ExplainOptions],
    ) -> AsyncExplanations[Explanation | TextCamClientError]: ...

    def explain_many(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> AsyncExplanations[Any]:
        """Explain many images over one stream; see Client.explain_many.

        `images` may be an async iterable, which it should be where it waits for
        anything: a plain one is iterated on the event loop. No answer that is there waits
        for the next image of an async one, which is iterated in a task of its own.
        """
        require_several(images)
        asked = self._settings.completed(chosen(options))
        window = Window(
            concurrency,
            self._settings.retry,
            self._settings.seconds(asked.timeout),
            uuid.uuid4().hex[:12],
            self._peer,
        )
        prepare = requests.preparer(asked, self._settings.max_message_bytes)
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error is 'raise' or 'return', not {on_error!r}")
        self._check_open()
        run = AsyncRun(images, prepare, window, self._open_stream)
        return AsyncExplanations(run, raise_errors=on_error == "raise")

    async def models(
        self,
        *,
        timeout: float | None = None,
    ) -> tuple[ModelSummary, ...]:
        """List the served models, in order of name; raises CallError."""
        seconds = self._settings.seconds(timeout)
        return await self._call("ListModels", pb.ListModelsRequest(), responses.models, seconds)

    async def model(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        timeout: float | None = None,
    ) -> Model:
        """Describe a model; default: the client's. Raises CallError."""
        options = self._settings.completed(Options(model=name, version=version))
        request = pb.GetModelRequest(model=requests.model_spec(options.model, options.version))
        seconds = self._settings.seconds(timeout)
        return await self._call("GetModel", request, responses.model, seconds)

    async def wait_ready(
        self,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Wait until the server answers and serves a model. Every caller has the right to ask.

        Raises:
            Unavailable, DeadlineExceeded: It did not within `timeout` seconds.
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
        attempts = Attempts(retry or self._settings.retry, seconds, self._peer)
        while True:
            try:
                call = getattr(self._opened(), method)(
                    request,
                    timeout=attempts.remaining(),
                    metadata=self._settings.metadata,
                    wait_for_ready=wait_for_ready,
                )
                response = await _response(call, getattr(request, "request_id", ""))
                return read(attempts.received(response))
            except grpc.RpcError as rpc_error:
                error = self._peer.failure(rpc_error, getattr(request, "request_id", ""))
                delay = attempts.delay_after(error)
                if delay is None:
                    raise error from rpc_error
            except Unavailable as not_ready:
                delay = attempts.delay_after(not_ready)
                if delay is None:
                    raise
            await asyncio.sleep(delay)

    def _open_stream(self, woken: asyncio.Event) -> AsyncStream:
        stub = self._opened()
        return AsyncStream(
            lambda requests: stub.ExplainStream(requests, metadata=self._settings.metadata),
            self._peer,
            woken,
        )

    def _opened(self) -> Any:
        """The stub; a channel belongs to the loop that runs when it is made, hence so late."""
        self._check_open()
        if self._stub is None:
            if self._channel is None:
                self._channel = self._new_channel()
            self._stub = Stub(self._channel)
        return self._stub

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client has been closed")

    def _new_channel(self) -> Any:
        address, tls = self._settings.address, self._settings.tls
        options = channel_options(self._settings.max_message_bytes)
        # Photographs are compressed already.
        plain = grpc.Compression.NoCompression
        if tls is None:
            return grpc.aio.insecure_channel(address, options, compression=plain)
        return grpc.aio.secure_channel(address, tls.credentials(), options, compression=plain)


async def _response(call: Any, request_id: str) -> Any:
    """Await a call.

    Raises:
        Cancelled: The channel was closed. grpc.aio raises asyncio.CancelledError then, which is
            for tasks that were cancelled: asyncio.wait raises it for this task and no other.
    """
    waiting = asyncio.ensure_future(call)
    try:
        await asyncio.wait({waiting})
    except asyncio.CancelledError:
        waiting.cancel()
        # An error that comes at the same moment is not asked for any more.
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    if waiting.cancelled():
        raise Cancelled("the call was cancelled: its client closed", request_id=request_id)
    return waiting.result()

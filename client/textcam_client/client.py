"""The client for threads."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import grpc
from grpc_health.v1 import health_pb2
from textcam.v1 import explainer_pb2 as pb

from textcam_client._convert import requests, responses
from textcam_client._streaming.sync import Explanations, Run, Stream
from textcam_client._streaming.window import Window
from textcam_client._transport.peer import Peer
from textcam_client._transport.stub import Stub
from textcam_client.errors import ClientClosed, TextCamClientError, Unavailable
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

DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_MESSAGE_BYTES = 64 * 2**20
DEFAULT_RETRY = Retry()
# Waiting for a server to come up ends with its deadline, not with a count.
PATIENT = Retry(attempts=2**31, max_backoff=1.0)


class Client:
    """Explains images by way of a TextCAM server. Threads may share one.

    Args:
        address: "host:port", or any gRPC target such as "dns:///textcam:50051".
        model: Model of calls that name none; None: the one that the server serves.
        version: Its version; None: the one that is served.
        timeout: Seconds for a call, or an item of explain_many, with all its retries; infinity
            for no limit.
        retry: Which failures are tried again, and how often; None: none are.
        tls: How to speak TLS; None: plaintext.
        metadata: Sent with every call: {"authorization": "Bearer ..."}; the keys' case is nothing.
        max_message_bytes: Largest request and answer.
        channel: A grpc.Channel to use in place of an own one; whoever made it closes it.

    Raises:
        ValueError: A setting is out of its range, or the address or the metadata of no form that
            gRPC takes; it names no value of the metadata.
        OSError: A PEM file cannot be read.
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
        self._channel = self._new_channel() if channel is None else channel
        self._stub: Any = Stub(self._channel)
        self._closed = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; calls in flight end with Cancelled. Twice is no harm."""
        self._closed = True
        if self._owns_channel:
            self._channel.close()

    def explain(  # noqa: PLR0913 - one argument per option
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
        """Explain one image.

        Args:
            image: A path, the bytes of a JPEG, PNG or WebP file, a PIL image, or uint8
                RGB pixels (h, w, 3). The answer keeps it, to draw on: a file's path, a copy of
                arrays and PIL images.
            target: The class to explain, by index or name; several; TopK(k) for the k
                most probable; Contrast(target, against); None: the most probable.
            phrases: How many phrases to choose per target at most; None: the server's default.
                Fewer are answered, or none, where no more hold.
            min_probability: Say no phrase whose probability of being true is below this, 0..1;
                None: the threshold that came with the bank (Provenance.calibration). A server whose
                bank has no calibration refuses any above 0.
            kinds: Say phrases of these kinds alone: "thing", "part", "material", "texture",
                "colour", "shape", "scene", "category"; None or empty: of all. A server whose
                vocabulary has no kinds refuses them.
            repeat_class: Whether phrases may be said that only repeat the name of the explained
                class, such as "cat" of a tiger cat.
            groups: Whether to answer a map per phrase.
            heatmap: "saliency": float32 maps, from which heatmaps and overlays are made
                here; "image" or "overlay": made by the server as well; "none": no maps.
            predictions: How many predictions to list; None: five.
            method: The CAM method, as Model.methods lists them: "grad_cam"; None: the model's
                default.
            lane: "interactive" goes first, "audit" takes what is left and a guaranteed share;
                None: "interactive" here, "audit" in explain_many.
            may_degrade: Whether a smaller answer will do where the server is under pressure;
                Explanation.degradations names what was left out.
            model: Served model; None: the client's.
            version: Its version; None: the client's, or the served one.
            timeout: Seconds, with all retries; None: the client's.
            request_id: For the server's log, at most 128 characters; None: made up.

        Returns:
            The answer.

        Raises:
            ImageError: The image cannot be read or is of no type that is taken.
            MethodIgnored: The server answered by another method than was asked for.
            CallError: The call failed; its subclass says how.
            ClientClosed: The client was closed before.
            ValueError: `heatmap`, `method`, `lane` or one of `kinds` is not of those that there
                are, `timeout` is not above 0, or a number is outside what the contract can carry.
            TypeError: `target` is of none of the types that name targets, or `kinds` is one name.
        """
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
        request, source = prepare(image)
        request.request_id = uuid.uuid4().hex if request_id is None else request_id
        return self._call(
            "Explain", request, lambda r: responses.explanation(r, source, request.method), seconds
        )

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> Explanations[Explanation]: ...

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["return"],
        **options: Unpack[ExplainOptions],
    ) -> Explanations[Explanation | TextCamClientError]: ...

    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> Explanations[Any]:
        """Explain many images over one stream; answers come in the order of the images.

        `images` is iterated in the caller's thread, while the answers are. No more than
        `concurrency` images are ahead of the answer that the caller looks at, in flight
        or answered, so neither side's memory grows with the number of images. Should the
        stream break, what is unanswered is sent again on a new one.

        Args:
            images: What `explain` takes, in any iterable; a generator is pulled lazily.
            concurrency: The most images on their way at once.
            on_error: "raise": an item's error is raised in its place, and iterating may
                go on with the next; "return": it is returned in its place.
            **options: As of `explain`, without request_id; `timeout` is each item's. The time that
                the caller takes for an answer, or `images` for an image, does not count.

        Returns:
            An iterator, also a context manager, that cancels what is in flight when it
            is closed or dropped.

        Raises:
            ValueError: `concurrency`, `on_error` or an option is out of its range.
            TypeError: `images` is one image, there is no such option, `target` is of none of the
                types that name targets, or `kinds` is one name.
            ClientClosed: The client was closed before.
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
        run = Run(images, prepare, window, self._open_stream)
        return Explanations(run, raise_errors=on_error == "raise")

    def models(self, *, timeout: float | None = None) -> tuple[ModelSummary, ...]:
        """List the served models, in order of name; raises CallError."""
        seconds = self._settings.seconds(timeout)
        return self._call("ListModels", pb.ListModelsRequest(), responses.models, seconds)

    def model(
        self, name: str | None = None, version: str | None = None, *, timeout: float | None = None
    ) -> Model:
        """Describe a model; default: the client's. Raises CallError."""
        options = self._settings.completed(Options(model=name, version=version))
        request = pb.GetModelRequest(model=requests.model_spec(options.model, options.version))
        seconds = self._settings.seconds(timeout)
        return self._call("GetModel", request, responses.model, seconds)

    def wait_ready(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Wait until the server answers and serves a model. Every caller has the right to ask.

        Raises:
            Unavailable, DeadlineExceeded: It did not within `timeout` seconds.
        """
        self._call(
            "Check",
            health_pb2.HealthCheckRequest(),
            responses.require_serving,
            self._settings.seconds(timeout),
            retry=PATIENT,
            wait_for_ready=True,
        )

    def _call(
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
            self._check_open()
            try:
                with self._closing_noticed():
                    response = getattr(self._stub, method)(
                        request,
                        timeout=attempts.remaining(),
                        metadata=self._settings.metadata,
                        wait_for_ready=wait_for_ready,
                    )
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
            time.sleep(delay)

    def _open_stream(self) -> Stream:
        self._check_open()

        def start(requests: Iterator[pb.ExplainStreamRequest]) -> Any:
            with self._closing_noticed():
                return self._stub.ExplainStream(requests, metadata=self._settings.metadata)

        return Stream(start, self._peer)

    @contextlib.contextmanager
    def _closing_noticed(self) -> Iterator[None]:
        """Raise ClientClosed where another thread closes the client as a call begins."""
        try:
            yield
        except ValueError:
            # As gRPC says that a channel is closed; `close` says so first.
            self._check_open()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client has been closed")

    def _new_channel(self) -> Any:
        address, tls = self._settings.address, self._settings.tls
        options = channel_options(self._settings.max_message_bytes)
        # Photographs are compressed already.
        plain = grpc.Compression.NoCompression
        if tls is None:
            return grpc.insecure_channel(address, options, compression=plain)
        return grpc.secure_channel(address, tls.credentials(), options, compression=plain)

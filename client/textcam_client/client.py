"""The client for threads."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import grpc
from grpc_health.v1 import health_pb2
from textcam.v1 import explainer_pb2 as pb

from textcam_client._base import DEFAULT_TIMEOUT, PATIENT, ClientBase, Listing
from textcam_client._convert import responses
from textcam_client._streaming.sync import ResultStream, StreamRun
from textcam_client._streaming.sync_call import Stream
from textcam_client._transport.stub import Stub
from textcam_client.errors import TextCamClientError, Unavailable
from textcam_client.images import ImageInput, require_several
from textcam_client.model import Model, ModelSummary
from textcam_client.options import ExplainOptions, HeatmapForm, Lane, Options, Target
from textcam_client.result import ExplainResult
from textcam_client.retry import Retry

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class Client(ClientBase):
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
        max_message_bytes: Largest request and response.
        channel: A grpc.Channel to use in place of an own one; the client does not close it.

    Raises:
        ValueError: A setting is out of its range, or the address or the metadata of no form that
            gRPC takes; it names no value of the metadata.
        OSError: A PEM file cannot be read.
    """

    def _set_up(self) -> None:
        if self._channel is None:
            self._channel = self._new_channel(grpc)
        self._stub = Stub(self._channel)

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
        model: str | None = None,
        version: str | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> ExplainResult:
        """Explain one image.

        Args:
            image: A path, the bytes of a JPEG, PNG or WebP file, a PIL image, or uint8
                RGB pixels (h, w, 3). The answer keeps it, to draw on: a file's path, a copy of
                arrays and PIL images.
            target: The class to explain, by index or name; several; TopK(k) for the k
                most probable; Contrast(target, reference); None: the most probable.
            max_phrases: How many phrases to choose per target at most; None: the server's
                default. Fewer are given, or none, where no more hold.
            min_probability: Say no phrase whose probability of being true is below this, 0..1;
                None: the threshold that came with the bank (Provenance.calibration). A server whose
                bank has no calibration refuses any above 0.
            kinds: Say phrases of these kinds alone: "thing", "part", "material", "texture",
                "colour", "shape", "scene", "category"; None or empty: of all. A server whose
                vocabulary has no kinds refuses them.
            repeat_class: Whether phrases may be said that only repeat the name of the explained
                class, such as "cat" of a tiger cat.
            include_groups: Whether to give a map per phrase.
            heatmap: "saliency": float32 maps, from which heatmaps and overlays are made
                here; "image" or "overlay": made by the server as well; "none": no maps.
            prediction_count: How many predictions to list; None: five.
            method: The CAM method, as Model.methods lists them: "grad_cam"; None: the model's
                default.
            lane: "interactive" goes first, "audit" takes what is left and a guaranteed share;
                None: "interactive" here, "audit" in explain_many.
            may_degrade: Whether a smaller answer will do where the server is under pressure;
                ExplainResult.degradations names what was left out.
            model: Served model; None: the client's.
            version: Its version; None: the client's, or the served one.
            timeout: Seconds, with all retries; None: the client's.
            request_id: For the server's log, at most 128 characters; None: made up.

        Returns:
            The answer. With one target, its explanation's fields are the result's own:
            `result.phrases`.

        Raises:
            ImageError: The image cannot be read or is of no type that is taken.
            MethodIgnored: The server answered by another method than was asked for.
            CallError: The call failed; its subclass says how.
            ClientClosed: The client was closed before.
            ValueError: `heatmap`, `method`, `lane` or one of `kinds` is not of those that there
                are, `timeout` is not above 0, or a number is outside what the contract can carry.
            TypeError: `target` is of none of the types that name targets, or `kinds` is one name.
        """
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
            model,
            version,
        )
        prepare, seconds = self._prepare_explain(options, timeout)
        request, source = prepare(image)
        request.request_id = uuid.uuid4().hex if request_id is None else request_id
        return self._call(
            "Explain",
            request,
            lambda r: responses.explain_result(r, source, request.method),
            seconds,
        )

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> ResultStream[ExplainResult]: ...

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["return"],
        **options: Unpack[ExplainOptions],
    ) -> ResultStream[ExplainResult | TextCamClientError]: ...

    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> ResultStream[Any]:
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
        prepare, window = self._prepare_stream(options, concurrency, on_error)
        run = StreamRun(images, prepare, window, self._open_stream)
        return ResultStream(run, raise_errors=on_error == "raise")

    def models(self, *, timeout: float | None = None) -> tuple[ModelSummary, ...]:
        """List the served models, in order of name, all pages; raises CallError."""
        listing = Listing(self._settings.seconds(timeout))
        for request, seconds in listing.requests():
            self._call("ListModels", request, listing.add, seconds)
        return tuple(listing.models)

    def model(
        self, name: str | None = None, version: str | None = None, *, timeout: float | None = None
    ) -> Model:
        """Describe a model; default: the client's. Raises CallError."""
        request = self._prepare_get_model(name, version)
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
        attempts = self._attempts(seconds, retry)
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
            except (grpc.RpcError, Unavailable) as failure:
                delay = self._delay_after(failure, attempts, request)
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

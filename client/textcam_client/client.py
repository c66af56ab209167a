"""The synchronous client."""

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
from textcam_client.options import ExplainOptions, HeatmapForm, Lane, Options, Target, Targeted
from textcam_client.result import ExplainResult
from textcam_client.retry import Retry

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class Client(ClientBase):
    """Client of a TextCAM server; threads may share one.

    Args:
        address: "host:port", or any gRPC target such as "dns:///textcam:50051".
        model: Default model of calls; None: the only one that the server serves.
        version: Default version; None: the served one.
        timeout: Seconds for a call, or for an item of explain_many, including retries; infinity:
            no limit.
        retry: Policy for retries; None: no retries.
        tls: Certificates for TLS; None: plaintext.
        metadata: Sent with every call: {"authorization": "Bearer ..."}; case of keys is ignored.
        max_message_bytes: Largest request and response.
        channel: A grpc.Channel to use instead of a new one; the client does not close it.

    Raises:
        ValueError: A setting is out of range, or the address, the metadata or a PEM file is
            malformed. The message never shows a value of the metadata.
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
        """Close the channel; calls in flight end with Cancelled. May be called twice."""
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
        include_channel_evidence: bool = False,
        model: str | None = None,
        version: str | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> ExplainResult:
        """Explain one image.

        Args:
            image: A path, the bytes of an image file, a PIL image, or uint8 RGB pixels (h, w, 3).
                JPEG, PNG, WebP and AVIF are sent as they are; of other formats, such as TIFF, the
                pixels. The result keeps it for drawing: the path of a file that was sent as it is,
                else a copy.
            target: The class to explain, by index or name; several; TopK(k) for the k
                most probable; Contrast(target, reference); None: the most probable.
            max_phrases: Most phrases per target; None: the server's default. There may be fewer,
                or none, if no others are likely enough.
            min_probability: Leave out phrases with a lower probability of being true, 0..1; None:
                the bank's own threshold (Provenance.calibration). A server with an uncalibrated
                bank rejects any above 0.
            kinds: Use only phrases of these kinds: "thing", "part", "material", "texture",
                "colour", "shape", "scene", "category"; None or empty: all. A server rejects them
                if its vocabulary has no kinds.
            repeat_class: Allow phrases that only repeat the name of the explained class, such as
                "cat" for a tiger cat.
            include_groups: Return a map per phrase.
            heatmap: "saliency": float32 maps, from which the client makes heatmaps and overlays;
                "image" or "overlay": the server makes these too; "none": no maps.
            prediction_count: Number of predictions to list; None: five.
            method: The CAM method, one of Model.methods: "grad_cam"; None: the model's default.
            lane: "interactive" goes first, "audit" has a share; None: "audit" in explain_many only.
            may_degrade: Allow a smaller result if the server is under pressure;
                ExplainResult.degradations lists the parts that were left out.
            include_channel_evidence: Return each channel's evidence, and digests of the stages.
            model: Served model; None: the client's.
            version: Its version; None: the client's, or the served one.
            timeout: Seconds, including retries; None: the client's.
            request_id: For the server's log, at most 128 characters; None: a random one.

        Returns:
            The result. With one target, the result has its explanation's fields too:
            `result.phrases`.

        Raises:
            ImageError: The image cannot be read, or its type is not supported.
            MethodIgnored: The server used another method than requested.
            CallError: The call failed; the subclass names the kind of failure.
            ClientClosed: The client is closed.
            ValueError: `heatmap`, `method`, `lane` or one of `kinds` is unknown, `timeout` is not
                above 0, or a number does not fit its field of the contract.
            TypeError: `target` has an unsupported type, or `kinds` is a single name.
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
            include_channel_evidence,
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
        images: Iterable[ImageInput | Targeted],
        *,
        concurrency: int = 8,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> ResultStream[ExplainResult]: ...

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput | Targeted],
        *,
        concurrency: int = 8,
        on_error: Literal["return"],
        **options: Unpack[ExplainOptions],
    ) -> ResultStream[ExplainResult | TextCamClientError]: ...

    def explain_many(
        self,
        images: Iterable[ImageInput | Targeted],
        *,
        concurrency: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack[ExplainOptions],
    ) -> ResultStream[Any]:
        """Explain many images over one stream; results come in the order of the images.

        Iterating over the results draws from `images`, in the caller's thread. At most
        `concurrency` images are ahead of the caller's current result, so memory does not grow with
        the number of images, in the client or in the server. If the stream breaks, a new one
        carries all items that have no result yet.

        Args:
            images: Images as `explain` takes them, or Targeted; generators are drawn lazily.
            concurrency: The most images in flight at once.
            on_error: "raise": an item's error is raised in its place, and iteration may
                continue with the next item; "return": the error is returned in its place.
            **options: Those of `explain`, without request_id. `timeout` applies to each item,
                without the time that the caller and `images` take.

        Returns:
            An iterator and context manager; closing or dropping it cancels the items in flight.

        Raises:
            ValueError: `concurrency`, `on_error` or an option is out of range.
            TypeError: `images` is a single image, an option is unknown, `target` has an
                unsupported type, or `kinds` is a single name.
            ClientClosed: The client is closed.
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
        """Wait until the server responds and serves a model. No credentials are needed.

        Raises:
            Unavailable, DeadlineExceeded: The server was not ready within `timeout` seconds.
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
        """Raise ClientClosed if another thread closes the client as a call begins."""
        try:
            yield
        except ValueError:
            # gRPC raises ValueError on a closed channel; `close` has set the flag before.
            self._check_open()
            raise

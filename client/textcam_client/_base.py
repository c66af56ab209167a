"""The part of both clients that does no I/O: settings, requests, retries."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message
from textcam.v1 import explainer_pb2 as pb

from textcam_client._convert import requests, responses
from textcam_client._convert.requests import Prepare
from textcam_client._streaming.window import Window
from textcam_client._transport.peer import Peer
from textcam_client.errors import CallError, ClientClosed, MalformedResponse
from textcam_client.model import ModelSummary
from textcam_client.options import ExplainOptions, Options, Tls, channel_options, chosen, settings
from textcam_client.retry import Attempts, Retry

DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_MESSAGE_BYTES = 64 * 2**20
DEFAULT_RETRY = Retry()
# Waiting for a server to start ends at its deadline, not after a number of tries.
PATIENT = Retry(attempts=2**31, max_backoff=1.0)


class ClientBase:
    """Settings and preparations of Client and AsyncClient; see Client for the arguments."""

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
        self._channel: Any = channel
        self._stub: Any = None
        self._closed = False
        self._set_up()

    def _set_up(self) -> None:
        """Open the channel, if the client needs it from its construction on."""

    def _prepare_explain(self, options: Options, timeout: float | None) -> tuple[Prepare, float]:
        """Return a function that builds an image's request, and the call's seconds.

        Raises:
            TypeError, ValueError: An option has the wrong type or is out of range.
        """
        completed = self._settings.completed(options)
        seconds = self._settings.seconds(timeout)
        return requests.preparer(completed, self._settings.max_message_bytes), seconds

    def _prepare_stream(
        self, options: ExplainOptions, concurrency: int, on_error: str
    ) -> tuple[Prepare, Window]:
        """Return a function that builds an item's request, and the window of a new run.

        Raises:
            TypeError, ValueError: An option is unknown, has the wrong type or is out of range.
            ClientClosed: The client is closed.
        """
        asked = chosen(options)
        prepare, seconds = self._prepare_explain(asked, asked.timeout)
        run_id = uuid.uuid4().hex[:12]
        window = Window(concurrency, self._settings.retry, seconds, run_id, self._peer)
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error is 'raise' or 'return', not {on_error!r}")
        self._check_open()
        return prepare, window

    def _prepare_get_model(self, name: str | None, version: str | None) -> pb.GetModelRequest:
        options = self._settings.completed(Options(model=name, version=version))
        return pb.GetModelRequest(model=requests.model_spec(options.model, options.version))

    def _attempts(self, seconds: float, retry: Retry | None) -> Attempts:
        return Attempts(retry or self._settings.retry, seconds, self._peer)

    def _delay_after(
        self, failure: grpc.RpcError | CallError, attempts: Attempts, request: Any
    ) -> float:
        """Return the seconds before the next try.

        Raises:
            CallError: There is no next try; the error is final.
        """
        if isinstance(failure, CallError):
            error = failure
        else:
            error = self._peer.failure(failure, request_id(request))
        delay = attempts.delay_after(error)
        if delay is not None:
            return delay
        if error is failure:
            raise error
        raise error from failure

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client has been closed")

    def _new_channel(self, api: Any) -> Any:
        """Open a channel with `api`, grpc or grpc.aio; raises OSError for PEM files."""
        address, tls = self._settings.address, self._settings.tls
        options = channel_options(self._settings.max_message_bytes)
        if not self._peer.proxy:
            options.append(("grpc.enable_http_proxy", 0))
        # Image files are compressed already.
        plain = grpc.Compression.NoCompression
        if tls is None:
            return api.insecure_channel(address, options, compression=plain)
        return api.secure_channel(address, tls.credentials(), options, compression=plain)


class Listing:
    """Pages of one listing of models.

    Attributes:
        models: Models of the pages received.
    """

    def __init__(self, seconds: float) -> None:
        self.models: list[ModelSummary] = []
        self._deadline = time.monotonic() + seconds
        self._token = ""
        self._tokens: set[str] = set()
        self._complete = False

    def requests(self) -> Iterator[tuple[pb.ListModelsRequest, float]]:
        """Yield each page's request and seconds; call `add` with its response before the next."""
        while not self._complete:
            left = max(self._deadline - time.monotonic(), 0.0)
            yield pb.ListModelsRequest(page_token=self._token), left

    def add(self, response: pb.ListModelsResponse) -> None:
        """Add a page.

        Raises:
            MalformedResponse: It names a page that was received before.
        """
        self.models += responses.models(response)
        self._token = response.next_page_token
        self._complete = not self._token
        if self._token in self._tokens:
            raise MalformedResponse(
                "the server's list of models names the same page twice; the server is at fault"
            )
        self._tokens.add(self._token)


def request_id(request: Message) -> str:
    """Return the request's id, or "" if it has none."""
    found: str = getattr(request, "request_id", "")
    return found

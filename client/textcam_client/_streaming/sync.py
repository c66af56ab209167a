"""Streaming many images through ExplainStream from one thread of the caller's."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar, cast

import grpc
from textcam.v1 import explainer_pb2 as pb

from textcam_client._convert.requests import Prepare
from textcam_client._streaming.ending import RunState
from textcam_client._streaming.window import Outcome, Window
from textcam_client._transport.peer import Peer
from textcam_client.errors import (
    CallError,
    ImageError,
    TextCamClientError,
    Unavailable,
)
from textcam_client.images import ImageInput

T_co = TypeVar("T_co", covariant=True)
Event: TypeAlias = pb.ExplainStreamResponse | CallError

# An answer that is on its way in is let in before its deadline is looked at.
SHORTEST_WAIT = 0.02
LONGEST_WAIT = 3600.0
STREAM_ENDED = "STREAM_ENDED"


class ResultStream(Iterator[T_co], Generic[T_co]):
    """The answers of `explain_many`, in the order of the images.

    Where an item failed, its error is raised in its place, and the next call goes on
    with the item after it; with on_error="return" the error is the item.

    Dropping the iterator, leaving its `with` block or `close` cancels what is in flight. So does
    what interrupts the wait for an answer, such as KeyboardInterrupt: going on after it raises
    Cancelled.
    """

    def __init__(self, run: StreamRun, raise_errors: bool) -> None:
        self._run = run
        self._outcomes = run.outcomes()
        self._raise_errors = raise_errors

    def __next__(self) -> T_co:
        self._run.state.require_whole()
        outcome = next(self._outcomes)
        if self._raise_errors and isinstance(outcome, TextCamClientError):
            try:
                raise outcome
            finally:
                # Else the error's traceback, which holds this frame, would hold itself.
                del outcome
        return cast(T_co, outcome)

    def __enter__(self) -> ResultStream[T_co]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is in flight; more than once is no harm.

        A thread that waits for the next answer meanwhile gets Cancelled.
        """
        self._run.close()
        # A generator that runs in another thread cannot be closed; it ends by itself.
        with contextlib.suppress(ValueError):
            self._outcomes.close()


class Stream:
    """One ExplainStream call, read by a thread that lives as long as the call."""

    def __init__(
        self, start: Callable[[Iterator[pb.ExplainStreamRequest]], Any], peer: Peer
    ) -> None:
        self._requests: queue.SimpleQueue[pb.ExplainStreamRequest | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._call = start(iter(self._requests.get, None))
        self._reader = threading.Thread(
            target=_read, args=(self._call, self._events, peer), name="textcam-stream", daemon=True
        )
        self._reader.start()

    def send(self, request: pb.ExplainStreamRequest) -> None:
        """Send; failures come as events."""
        self._requests.put(request)

    def receive(self, timeout: float) -> Event | None:
        """Wait for an answer, or for what ended the stream; None: neither came in time."""
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def cancel(self) -> None:
        """Cancel the call, from any thread; its end comes as an event."""
        self._call.cancel()

    def close(self) -> None:
        """Cancel the call and wait for its reader."""
        # The thread in which grpc takes the requests ends with them, not with the call.
        self._requests.put(None)
        self._call.cancel()
        self._reader.join(timeout=5)


def _read(call: Any, events: queue.SimpleQueue[Event], peer: Peer) -> None:
    try:
        for answer in call:
            events.put(answer)
    except grpc.RpcError as rpc_error:
        events.put(peer.failure(rpc_error))
    else:
        events.put(stream_ended())


def stream_ended() -> Unavailable:
    """The error of a stream that the server ended in order, but too early."""
    return Unavailable("the server ended the stream before all was answered", reason=STREAM_ENDED)


@contextlib.contextmanager
def paused(window: Window) -> Iterator[None]:
    """Stop the items' clocks while a run waits for its caller or an image."""
    left = time.monotonic()
    try:
        yield
    finally:
        window.postpone(time.monotonic() - left)


class StreamRun:
    """One `explain_many`: pulls images, keeps the window full, yields outcomes in order."""

    def __init__(
        self,
        images: Iterable[ImageInput],
        prepare: Prepare,
        window: Window,
        open_stream: Callable[[], Stream],
    ) -> None:
        self._images = iter(images)
        self._prepare = prepare
        self._window = window
        self._open_stream = open_stream
        self._stream: Stream | None = None
        self._exhausted = False
        self._failure: Exception | None = None
        self._ready: deque[Outcome] = deque()
        self.state = RunState()

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Yield each item's outcome; what the images' iterable raises comes after the last."""
        with self.state:
            try:
                self._fill()
                while len(self._window):
                    while not self._window.head_done:
                        self._step()
                    self._ready.append(self._window.pop())
                    # The server works on while the caller looks at this outcome.
                    self._fill()
                    with paused(self._window):
                        yield self._ready.pop()
                self.state.complete = True
                if self._failure is not None:
                    raise self._failure
            finally:
                self._close_stream()

    def close(self) -> None:
        """Cancel what is in flight, from any thread; a run that goes on ends with Cancelled."""
        self.state.closed.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def _fill(self) -> None:
        while self._window.has_room and not self._exhausted:
            self._pull()
            self._send()

    def _pull(self) -> None:
        try:
            with paused(self._window):
                image = next(self._images)
        except StopIteration:
            self._exhausted = True
        except Exception as error:  # noqa: BLE001 - raised again after the last outcome
            self._exhausted, self._failure = True, error
        else:
            self._add(image)

    def _add(self, image: ImageInput) -> None:
        try:
            with paused(self._window):
                request, source = self._prepare(image)
        except ImageError as error:
            self._window.add_failed(error)
        else:
            self._window.add(request, source, time.monotonic())

    def _send(self) -> None:
        now = time.monotonic()
        if self._window.leaves_stream(now):
            self._close_stream()
        for request in self._window.launch(now):
            if self._stream is None:
                self._stream = self._open_stream()
            self._stream.send(request)
        # Not before: `close` either finds the stream, or is noticed here.
        self.state.require_open()

    def _step(self) -> None:
        """Wait for one thing to happen, and take it in."""
        self._send()
        wait = self._window.seconds_to_next(time.monotonic())
        wait = min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)
        if self._stream is None:
            self.state.closed.wait(wait)
            event = None
        else:
            event = self._stream.receive(wait)
        self.state.require_open()
        now = time.monotonic()
        if isinstance(event, CallError):
            self._close_stream()
            self._window.broken(event, now)
        elif event is not None:
            self._window.answer(event, now)
        else:
            self._window.expire(now)

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

"""Streaming many images through ExplainStream from one thread of the caller's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar, cast

from textcam_client._convert.requests import Prepare
from textcam_client._streaming.run import RunBase, hand_over, paused
from textcam_client._streaming.sync_call import Stream
from textcam_client._streaming.window import Outcome, Window
from textcam_client.errors import ImageError
from textcam_client.images import ImageInput
from textcam_client.options import Targeted

T_co = TypeVar("T_co", covariant=True)


class ResultStream(Iterator[T_co], Generic[T_co]):
    """Results of `explain_many`, in the order of the images.

    If an item failed, its error is raised in its place, and the next call continues with the
    following item; with on_error="return" the error is returned instead.

    Dropping the iterator, leaving its `with` block or calling `close` cancels the items in flight.
    So does an interrupted wait, as by KeyboardInterrupt; a later call then raises Cancelled.
    """

    def __init__(self, run: StreamRun, raise_errors: bool) -> None:
        self._run = run
        self._outcomes = run.outcomes()
        self._raise_errors = raise_errors

    def __next__(self) -> T_co:
        self._run.state.require_whole()
        return cast(T_co, hand_over(next(self._outcomes), raise_errors=self._raise_errors))

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
        """Cancel the items in flight. May be called twice.

        A thread that waits for the next result gets Cancelled.
        """
        self._run.close()
        # A generator that runs in another thread cannot be closed here; its own thread ends it.
        with contextlib.suppress(ValueError):
            self._outcomes.close()


class StreamRun(RunBase):
    """Run of one `explain_many`: draws images, keeps the window full, yields outcomes in order."""

    def __init__(
        self,
        images: Iterable[ImageInput | Targeted],
        prepare: Prepare,
        window: Window,
        open_stream: Callable[[], Stream],
    ) -> None:
        super().__init__(prepare, window)
        self._images = iter(images)
        self._open_stream = open_stream
        self._stream: Stream | None = None

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Yield each item's outcome; an error of the images' iterable is raised after the last."""
        with self.state:
            try:
                self._fill()
                while len(self._window):
                    while not self._window.head_done:
                        self._step()
                    self._ready.append(self._window.pop())
                    # The server continues while the caller uses this outcome.
                    self._fill()
                    with paused(self._window):
                        yield self._ready.pop()
                self._complete()
            finally:
                self._close_stream()

    def close(self) -> None:
        """Cancel the items in flight, from any thread; a waiting run ends with Cancelled."""
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
            self._finish_images()
        except Exception as error:  # noqa: BLE001 - raised again after the last outcome
            self._finish_images(error)
        else:
            self._add(image)

    def _add(self, image: ImageInput | Targeted) -> None:
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
        # Checked last, so that `close` either finds the stream or is noticed here.
        self.state.require_open()

    def _step(self) -> None:
        """Wait for one event and apply it to the window."""
        self._send()
        wait = self._seconds_to_wait()
        if self._stream is None:
            self.state.closed.wait(wait)
            event = None
        else:
            event = self._stream.receive(wait)
        if self._handle(event):
            self._close_stream()

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

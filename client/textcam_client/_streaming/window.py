"""The window of a streamed run: its items waiting, in flight, given up or done.

It does no I/O and has no clock, so that both clients share it. Each item gets exactly one outcome,
and items leave in the order in which they came.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_client._convert import responses
from textcam_client._streaming.aimd import AimdLimiter
from textcam_client._transport.peer import Peer
from textcam_client.errors import (
    CallError,
    DeadlineExceeded,
    MalformedResponse,
    MethodIgnored,
    Overloaded,
    TextCamClientError,
    Unavailable,
    from_status,
)
from textcam_client.images import ImageSource
from textcam_client.result import ExplainResult
from textcam_client.retry import Retry

Outcome: TypeAlias = ExplainResult | TextCamClientError


@dataclass(eq=False)
class _Item:
    """One image of a run.

    Attributes:
        name: Its request id; launches after the first add their number.
        wire_id: Its id on the stream while it is in flight, else "".
        due: Time to send it, if it is not in flight.
        launched: Time of its last sending.
        error: Error of its last try.
        suspect: True if it may have broken the stream.
    """

    name: str
    request: pb.ExplainRequest | None = None
    source: ImageSource | None = None
    deadline: float = float("inf")
    due: float = 0.0
    launched: float = 0.0
    error: CallError | None = None
    launches: int = 0
    attempts: int = 0
    wire_id: str = ""
    suspect: bool = False
    outcome: Outcome | None = None


class Window:
    """Items between the images' iterable and the caller. Times are a monotonic clock's.

    Args:
        capacity: The most items held at once, done or not.
        retry: Policy for retries, applied to each item.
        timeout: Seconds from adding an item to its response, without pauses.
        run_id: Prefix of the request ids; unique among the server's callers.
        peer: The server.

    Raises:
        ValueError: The capacity is below 1.
    """

    def __init__(
        self, capacity: int, retry: Retry, timeout: float, run_id: str, peer: Peer
    ) -> None:
        if capacity < 1:
            raise ValueError(f"concurrency is at least 1, not {capacity}")
        self._capacity = capacity
        self._retry = retry
        self._timeout = timeout
        self._run_id = run_id
        self._peer = peer
        self._limiter = AimdLimiter(capacity)
        self._added = 0
        self._items: deque[_Item] = deque()
        self._in_flight: dict[str, _Item] = {}
        # Ids given up here that the server still works on.
        self._given_up: set[str] = set()
        self._leaving = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def has_room(self) -> bool:
        """True if another item may be added."""
        return len(self._items) < self._capacity

    @property
    def head_done(self) -> bool:
        """True if the oldest item has its outcome."""
        return bool(self._items) and self._items[0].outcome is not None

    def add(self, request: pb.ExplainRequest, source: ImageSource, now: float) -> None:
        """Add an item that is due now, and give it its request id."""
        item = _Item(self._next_name(), request, source, now + self._timeout, due=now)
        self._items.append(item)

    def add_failed(self, error: TextCamClientError) -> None:
        """Add an item that cannot be sent, with its error."""
        self._items.append(_Item(self._next_name(), outcome=_kept(error)))

    def postpone(self, seconds: float) -> None:
        """Extend all deadlines by a pause in which no response could be received."""
        for item in self._items:
            item.deadline += seconds

    def pop(self) -> Outcome:
        """Remove the oldest item, which must be done, and return its outcome."""
        outcome = self._items.popleft().outcome
        if outcome is None:
            raise LookupError("the oldest item has no outcome yet")
        return outcome

    def leaves_stream(self, now: float) -> bool:
        """Return True, once, if the stream has to be closed before the next sending.

        There are two reasons. A server that shuts down completes its accepted items and rejects
        the others one by one; only a new stream can reach another server. And items that were
        given up still cost the server work, which closing the stream ends. While other items are
        in flight, the stream stays open until given-up items take most of the window; then the
        others become due again.
        """
        abandoned = len(self._given_up) * 2 > self._capacity
        leaves = abandoned or (not self._in_flight and (self._leaving or bool(self._given_up)))
        if leaves:
            self._recall(now)
            self._stream_ended()
        return leaves

    def launch(self, now: float) -> list[pb.ExplainStreamRequest]:
        """Return the requests to send now, and mark their items as in flight."""
        due = [item for item in self._sendable() if item.due <= now]
        room = self._limiter.room(self._carried, now)
        return [self._launched(item, now) for item in due[:room]]

    def seconds_to_next(self, now: float) -> float:
        """Return the seconds until an item is due or expires; infinity: never."""
        times = [max(item.due, self._limiter.resumes) for item in self._sendable()]
        if not self._limiter.room(self._carried, float("inf")):
            times = []
        times += [item.deadline for item in self._items if item.outcome is None]
        return max(min(times, default=float("inf")) - now, 0.0)

    def receive(self, response: pb.ExplainStreamResponse, now: float) -> None:
        """Record a response; ignore one to an item that was given up."""
        self._given_up.discard(response.request_id)
        item = self._in_flight.get(response.request_id)
        if item is None:
            return
        self._land(item)
        self._peer.has_responded = True
        if response.HasField("error"):
            error = from_status(response.error, response.request_id)
            self._leaving = self._leaving or isinstance(error, Unavailable)
            self._failed(item, error, now)
        else:
            self._limiter.increase()
            item.outcome = _read(response, item)
        self._release(item)

    def broken(self, error: CallError, now: float) -> None:
        """Record that the stream ended with `error`; each item in flight is retried or fails.

        A message over a size limit ends the stream for all items. They are sent again one by one,
        to find the one that is too large.
        """
        items = list(self._in_flight.values())
        oversize = isinstance(error, Overloaded) and error.retry_after is None
        several = self._carried > 1
        self._stream_ended()
        for item in items:
            wire_id = item.wire_id
            self._land(item)
            if oversize and several:
                item.suspect = True
                item.attempts -= 1
                item.due = now
            else:
                own_error = copy.copy(error)
                own_error.request_id = wire_id
                self._failed(item, own_error, now)
            self._release(item)

    def expire(self, now: float) -> None:
        """Give up the items past their deadline; the stream stays open for the others."""
        for item in self._items:
            if item.outcome is None and item.deadline <= now:
                last = f"; the last try failed: {item.error}" if item.error else ""
                item.outcome = DeadlineExceeded(
                    f"no response within {self._timeout:g} s{last}",
                    request_id=item.wire_id or item.name,
                )
                if item.wire_id:
                    self._given_up.add(item.wire_id)
                self._land(item)
                self._release(item)

    @property
    def _carried(self) -> int:
        """Number of items on the stream, including those that were given up."""
        return len(self._in_flight) + len(self._given_up)

    def _recall(self, now: float) -> None:
        """Make the items in flight due again; this costs them no attempt."""
        for item in list(self._in_flight.values()):
            self._land(item)
            item.attempts -= 1
            item.due = now

    def _stream_ended(self) -> None:
        self._leaving = False
        self._given_up.clear()

    def _sendable(self) -> list[_Item]:
        """Return the items that may be sent once due; suspects go first, one at a time."""
        if self._leaving and self._in_flight:
            return []
        waiting = [i for i in self._items if i.outcome is None and not i.wire_id]
        if any(item.suspect and item.outcome is None for item in self._items):
            return [] if self._in_flight else [i for i in waiting if i.suspect][:1]
        return waiting

    def _launched(self, item: _Item, now: float) -> pb.ExplainStreamRequest:
        item.launched = now
        item.launches += 1
        item.attempts += 1
        # Ids are unique within a stream, and one stream may carry an item twice.
        item.wire_id = item.name if item.launches == 1 else f"{item.name}.{item.launches}"
        self._in_flight[item.wire_id] = item
        message = pb.ExplainStreamRequest(request=item.request)
        message.request.request_id = item.wire_id
        return message

    def _land(self, item: _Item) -> None:
        self._in_flight.pop(item.wire_id, None)
        item.wire_id = ""

    def _failed(self, item: _Item, error: CallError, now: float) -> None:
        item.error = error
        delay = self._retry.delay_after(
            error, item.attempts, has_responded=self._peer.has_responded
        )
        hint = error.retry_after
        # A hint past this item's deadline ends the item alone; others may have more time.
        if delay is not None and hint is not None and now + hint < item.deadline:
            # The pause is the same for all items, however often one was rejected.
            delay = self._limiter.decrease(hint, item.launched, now)
        if delay is None or now + delay >= item.deadline:
            item.outcome = error
        else:
            item.due = now + delay

    def _release(self, item: _Item) -> None:
        """Drop the image of an item that is done: it may wait long for those before it."""
        if item.outcome is not None:
            item.request = item.source = None

    def _next_name(self) -> str:
        self._added += 1
        return f"{self._run_id}-{self._added - 1}"


def _read(response: pb.ExplainStreamResponse, item: _Item) -> Outcome:
    asked = item.request.method if item.request else types_pb.CAM_METHOD_UNSPECIFIED
    try:
        if not response.HasField("response"):
            raise MalformedResponse("the stream's response has neither a result nor an error")
        return responses.explain_result(response.response, item.source, asked)
    except (MalformedResponse, MethodIgnored) as error:
        return _kept(error)


def _kept(error: TextCamClientError) -> TextCamClientError:
    """Return the error without the frames that hold its image, its causes' frames included.

    The context, an error that the caller was handling, is no cause and keeps its frames.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = link.__context__ = None
        link = link.__cause__
    return error

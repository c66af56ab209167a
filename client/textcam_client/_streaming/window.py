"""The window of a streamed run: which items are in flight, due, answered, given up.

Without I/O and without a clock, so that the sync and the asyncio stream share it.
Every item resolves exactly once, and leaves in the order in which it came.
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
    """One image on its way.

    Attributes:
        name: Its request id; launches after the first add their number.
        wire_id: Its id on the stream while it is in flight, else "".
        due: When it is to be sent, if it is not in flight.
        launched: When it was sent last.
        error: What its last try ended with.
        suspect: Whether it may be what broke the stream.
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
    """The items between the images' iterable and the caller. Times are a monotonic clock's.

    Args:
        capacity: The most items held at once, answered or not.
        retry: Applied to each item by itself.
        timeout: Seconds from adding an item to its answer, less what it was postponed.
        run_id: Start of the request ids; unique among the server's callers.
        peer: The server that is called.

    Raises:
        ValueError: No capacity.
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
        # Ids that the stream still carries though nobody waits for them: the server has them.
        self._given_up: set[str] = set()
        self._leaving = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def has_room(self) -> bool:
        """Whether another item may be added."""
        return len(self._items) < self._capacity

    @property
    def head_done(self) -> bool:
        """Whether the oldest item has its outcome."""
        return bool(self._items) and self._items[0].outcome is not None

    def add(self, request: pb.ExplainRequest, source: ImageSource, now: float) -> None:
        """Take a new item, to be sent at once; its request id is given here."""
        item = _Item(self._next_name(), request, source, now + self._timeout, due=now)
        self._items.append(item)

    def add_failed(self, error: TextCamClientError) -> None:
        """Take an item that cannot be sent."""
        self._items.append(_Item(self._next_name(), outcome=_kept(error)))

    def postpone(self, seconds: float) -> None:
        """Answers could not be taken in for so long: it is not counted as their items' time."""
        for item in self._items:
            item.deadline += seconds

    def pop(self) -> Outcome:
        """Let the oldest item go; it must be done."""
        outcome = self._items.popleft().outcome
        if outcome is None:
            raise LookupError("the oldest item has no outcome yet")
        return outcome

    def leaves_stream(self, now: float) -> bool:
        """Whether the stream is to be closed before anything else is sent; says so once.

        A server that shuts down answers what it took and refuses the rest, item by item: on
        this stream there is no other server to be found. Items that were given up go with
        their stream, lest the server work for nobody; while others are on it, it stays up
        until most of the window is taken by such items. The others are due again then.
        """
        abandoned = len(self._given_up) * 2 > self._capacity
        leaves = abandoned or (not self._in_flight and (self._leaving or bool(self._given_up)))
        if leaves:
            self._recall(now)
            self._stream_ended()
        return leaves

    def launch(self, now: float) -> list[pb.ExplainStreamRequest]:
        """What is to be sent now; it counts as in flight from here on."""
        due = [item for item in self._sendable() if item.due <= now]
        room = self._limiter.room(self._carried, now)
        return [self._launched(item, now) for item in due[:room]]

    def seconds_to_next(self, now: float) -> float:
        """How long until something is to be sent or given up; infinity: never."""
        times = [max(item.due, self._limiter.resumes) for item in self._sendable()]
        if not self._limiter.room(self._carried, float("inf")):
            times = []
        times += [item.deadline for item in self._items if item.outcome is None]
        return max(min(times, default=float("inf")) - now, 0.0)

    def receive(self, response: pb.ExplainStreamResponse, now: float) -> None:
        """Take an answer; one to an item that was given up is passed over."""
        self._given_up.discard(response.request_id)
        item = self._in_flight.get(response.request_id)
        if item is None:
            return
        self._land(item)
        self._peer.answered = True
        if response.HasField("error"):
            error = from_status(response.error, response.request_id)
            self._leaving = self._leaving or isinstance(error, Unavailable)
            self._failed(item, error, now)
        else:
            self._limiter.increase()
            item.outcome = _read(response, item)
        self._release(item)

    def broken(self, error: CallError, now: float) -> None:
        """The stream ended with `error`: each item in flight is tried again or fails by itself.

        A message over a size limit ends the stream for all. Which one it was shows when
        they are sent again one by one.
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
        """Give up what is past its deadline; the stream goes on for the others."""
        for item in self._items:
            if item.outcome is None and item.deadline <= now:
                last = f"; the last try ended with: {item.error}" if item.error else ""
                item.outcome = DeadlineExceeded(
                    f"no answer within {self._timeout:g} s{last}",
                    request_id=item.wire_id or item.name,
                )
                if item.wire_id:
                    self._given_up.add(item.wire_id)
                self._land(item)
                self._release(item)

    @property
    def _carried(self) -> int:
        """How many items the stream carries, those that were given up included."""
        return len(self._in_flight) + len(self._given_up)

    def _recall(self, now: float) -> None:
        """The stream is left: what is in flight is due again, at no attempt's cost."""
        for item in list(self._in_flight.values()):
            self._land(item)
            item.attempts -= 1
            item.due = now

    def _stream_ended(self) -> None:
        self._leaving = False
        self._given_up.clear()

    def _sendable(self) -> list[_Item]:
        """What may be sent once it is due: suspects alone, one by one, before all others."""
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
        # Ids are unique within a stream, and an item may be sent on one stream twice.
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
        delay = self._retry.delay_after(error, item.attempts, answered=self._peer.answered)
        hint = error.retry_after
        # A hint past the item's deadline ends the item; others may have longer.
        if delay is not None and hint is not None and now + hint < item.deadline:
            # All wait for the server, none for its own many refusals.
            delay = self._limiter.decrease(hint, item.launched, now)
        if delay is None or now + delay >= item.deadline:
            item.outcome = error
        else:
            item.due = now + delay

    def _release(self, item: _Item) -> None:
        """Let the image go: an answered item may wait long for those before it."""
        if item.outcome is not None:
            item.request = item.source = None

    def _next_name(self) -> str:
        self._added += 1
        return f"{self._run_id}-{self._added - 1}"


def _read(response: pb.ExplainStreamResponse, item: _Item) -> Outcome:
    asked = item.request.method if item.request else types_pb.CAM_METHOD_UNSPECIFIED
    try:
        if not response.HasField("response"):
            raise MalformedResponse("the stream answered an item with nothing")
        return responses.explain_result(response.response, item.source, asked)
    except (MalformedResponse, MethodIgnored) as error:
        return _kept(error)


def _kept(error: TextCamClientError) -> TextCamClientError:
    """The error without the frames that hold its image: those of its causes too.

    What the caller was handling meanwhile is no cause, and keeps its own.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = link.__context__ = None
        link = link.__cause__
    return error

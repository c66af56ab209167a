"""One ExplainStream call, for threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from textcam.v1 import explainer_pb2 as pb

from textcam_client._streaming.run import Event, stream_ended
from textcam_client._transport.peer import Peer


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
        """Send a request; failures come as events."""
        self._requests.put(request)

    def receive(self, timeout: float) -> Event | None:
        """Wait for a response or the error that ended the stream; None: neither came in time."""
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def cancel(self) -> None:
        """Cancel the call, from any thread; its end comes as an event."""
        self._call.cancel()

    def close(self) -> None:
        """Cancel the call and wait for its reader."""
        # gRPC's thread that draws the requests ends with them, not with the call.
        self._requests.put(None)
        self._call.cancel()
        self._reader.join(timeout=5)


def _read(call: Any, events: queue.SimpleQueue[Event], peer: Peer) -> None:
    try:
        for response in call:
            events.put(response)
    except grpc.RpcError as rpc_error:
        events.put(peer.failure(rpc_error))
    else:
        events.put(stream_ended())

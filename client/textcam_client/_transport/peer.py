"""The server at the other end, as far as one client knows it."""

from __future__ import annotations

from typing import Any

from textcam_client.errors import CallError, DeadlineExceeded, Unavailable, from_rpc_error


class Peer:
    """Whom a client calls. Its calls and streams share one.

    Attributes:
        address: Where; "" where the user brought a channel, which knows it alone.
        answered: Whether it ever answered: it is worth waiting for then, if it is away.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.answered = False

    def failure(self, rpc_error: Any, request_id: str = "") -> CallError:
        """Turn a grpc.RpcError into an error that says what to look at where nobody answered."""
        error = from_rpc_error(rpc_error, request_id)
        # What has a reason came from a server, or over a connection to one.
        self.answered = self.answered or bool(error.reason)
        if isinstance(error, Unavailable) and not error.reason and error.retry_after is None:
            return self._nobody(error, "answers")
        if isinstance(error, DeadlineExceeded) and not self.answered:
            return self._nobody(error, "answered in time")
        return error

    def _nobody(self, error: CallError, answers: str) -> CallError:
        where = f" at {self.address}" if self.address else ""
        return type(error)(
            f"no TextCAM server {answers}{where}: is it running, is the port right, does it want "
            f"TLS? (gRPC says: {error})",
            request_id=error.request_id,
        )

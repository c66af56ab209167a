"""The server of one client, and its failures."""

from __future__ import annotations

from typing import Any

from textcam_client._transport.proxies import proxy_of
from textcam_client.errors import CallError, DeadlineExceeded, Unavailable, from_rpc_error


class Peer:
    """Server of a client; shared by its calls and streams.

    Attributes:
        address: Its address; "" if the caller passed a channel, which has its own.
        proxy: The HTTP proxy on the way, for messages; "" for none.
        has_responded: True once it has responded: if it is away later, waiting for it makes sense.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.proxy = proxy_of(address)
        self.has_responded = False

    def failure(self, rpc_error: Any, request_id: str = "") -> CallError:
        """Turn a grpc.RpcError into a CallError, with advice if no server responded."""
        error = from_rpc_error(rpc_error, request_id)
        # An error with a reason came from a server, or over a connection to one.
        self.has_responded = self.has_responded or bool(error.reason)
        if isinstance(error, Unavailable) and not error.reason and error.retry_after is None:
            return self._no_response(error, "responds")
        if isinstance(error, DeadlineExceeded) and not self.has_responded:
            return self._no_response(error, "responded in time")
        return error

    def _no_response(self, error: CallError, verb: str) -> CallError:
        where = f" at {self.address}" if self.address else ""
        proxied = (
            f" Calls go through the proxy {self.proxy}; is that right? If not, name the server's "
            "host in no_proxy."
            if self.proxy
            else ""
        )
        return type(error)(
            f"no TextCAM server {verb}{where}: is it running, is the port right, does it need "
            f"TLS?{proxied} (gRPC reports: {error})",
            request_id=error.request_id,
        )

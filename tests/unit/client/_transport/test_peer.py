"""Errors without a responding server give advice."""

from __future__ import annotations

import socket
import time

import pytest
from client_samples import InLoop
from textcam_client import (
    AsyncClient,
    CallError,
    Client,
    DeadlineExceeded,
    Unavailable,
)


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_where_no_server_answers_the_error_says_where_and_what_to_look_at(kind, png):
    """And soon, though the client has half a minute: the address may be wrong."""
    address = f"127.0.0.1:{free_port()}"
    words = (
        f"no TextCAM server responds at {address}: is it running, .* port .* TLS.*gRPC reports: .+"
    )
    alone = InLoop(kind(address))
    start = time.monotonic()
    with pytest.raises(Unavailable, match=words):
        await alone.call("explain", png)
    many = alone.client.explain_many([png], on_error="return")
    (item,) = [item async for item in many] if kind is AsyncClient else list(many)
    assert time.monotonic() - start < 5
    assert isinstance(item, Unavailable)
    with pytest.raises(Unavailable, match=words):
        raise item
    await alone.call("close")


async def test_a_call_to_what_takes_connections_and_says_nothing_says_so_at_its_deadline(png):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with Client(address, timeout=0.3) as client, pytest.raises(CallError, match=address):
            client.explain(png)


def test_a_slow_server_that_answered_before_is_not_said_to_be_away(server, client, png):
    assert client.explain(png)
    server.latency = 3.0
    with pytest.raises(DeadlineExceeded) as late:
        client.explain(png, timeout=0.2)
    assert "running" not in str(late.value)

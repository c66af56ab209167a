"""Options and ports of the gRPC servers."""

import asyncio

import grpc
import pytest
from textcam_service.errors import InvalidSettings
from textcam_service.serving.grpc.listening import bind, channel_options
from textcam_service.settings import ServerSettings, read_settings


async def test_grpc_accepts_the_largest_settings():
    most = {"max_message_bytes": 2**31 - 1, "max_bytes_in_work": 2**34}
    settings = read_settings({"max_connection_age_s": 2147483, **most})
    server = grpc.aio.server(options=channel_options(settings, settings.max_message_bytes))
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.wait_for(server.stop(0), 10)


def test_options_follow_the_settings():
    options = dict(channel_options(ServerSettings(), 5))
    assert options["grpc.max_receive_message_length"] == 5
    assert options["grpc.max_concurrent_streams"] == 1024
    assert options["grpc.so_reuseport"] == 0
    assert "grpc.max_connection_age_ms" not in options
    many = ServerSettings(max_concurrent=1000, workers=2, max_connection_age_s=1.5)
    options = dict(channel_options(many, 5))
    assert options["grpc.max_concurrent_streams"] == 2000
    assert options["grpc.so_reuseport"] == 1
    assert options["grpc.max_connection_age_ms"] == 1500


async def test_a_port_in_use_is_refused_with_the_address():
    options = channel_options(ServerSettings(), 5)
    one, other = grpc.aio.server(options=options), grpc.aio.server(options=options)
    port = bind(one, "127.0.0.1:0")
    await one.start()
    with pytest.raises(InvalidSettings, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
        bind(other, f"127.0.0.1:{port}")
    await one.stop(0)

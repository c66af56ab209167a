"""Options of the gRPC servers, and the binding of their ports."""

from __future__ import annotations

from typing import Any

from textcam_service.errors import InvalidSettings
from textcam_service.settings import ServerSettings

_UNCOMPRESSED = 1  # the bit of no compression among gRPC's algorithms
_MIN_CONCURRENT_CALLS = 1024  # of a connection
_AGE_GRACE_MS = 600_000


def channel_options(settings: ServerSettings, max_received: int) -> list[tuple[str, int]]:
    """Return the options of a gRPC server.

    Args:
        settings: See ServerSettings.
        max_received: Maximum bytes of a received message.
    """
    return [
        ("grpc.max_receive_message_length", max_received),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # gRPC checks a message's size before it decompresses it, to a thousandfold at worst.
        ("grpc.compression_enabled_algorithms_bitset", _UNCOMPRESSED),
        # Up to this many calls, those above max_concurrent are rejected with an error. A client
        # that opened and reset calls without limit would stop the event loop for seconds.
        (
            "grpc.max_concurrent_streams",
            max(_MIN_CONCURRENT_CALLS, 2 * settings.max_concurrent),
        ),
        # Two processes share a port only on purpose.
        ("grpc.so_reuseport", int(settings.workers > 1)),
        # The server detects dead clients within about a minute, including those that sent nothing
        # and those without a call.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Clients may detect a dead server within seconds; more frequent pings are rejected.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        *_connection_age(settings.max_connection_age_s),
    ]


def bind(server: Any, address: str, credentials: Any = None) -> int:
    """Bind a server to an address and return the port; plaintext without credentials.

    Raises:
        InvalidSettings: The port is in use.
    """
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise InvalidSettings(
            f"cannot listen on {address}: is the port in use? choose another"
        ) from error


def _connection_age(seconds: float) -> list[tuple[str, int]]:
    """Return the options that close connections of that age; their calls may finish.

    So balanced clients find new replicas.
    """
    if not seconds:
        return []
    return [
        ("grpc.max_connection_age_ms", int(1000 * seconds)),
        ("grpc.max_connection_age_grace_ms", _AGE_GRACE_MS),
    ]

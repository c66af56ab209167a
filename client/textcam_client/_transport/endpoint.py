"""Checks of a server's address and of calls' metadata, made as a client is constructed."""

from __future__ import annotations

import re
from collections.abc import Mapping

# The schemes of gRPC's name resolvers, which parse the rest themselves.
_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds", "google-c2p")
_HOST_PORT = re.compile(r"(\[[^\[\]\s]+\]|[^\[\]\s:/]+):(\d{1,5})")
_LAST_PORT = 65535
_NO_KEY = re.compile(r"[^0-9a-z_.-]")
_VALUE = re.compile(r"[ -~]*")

Metadata = tuple[tuple[str, str | bytes], ...]


def checked_address(address: str) -> str:
    """Return `address` if it is HOST:PORT or a gRPC target; raises ValueError.

    gRPC itself assumes port 443 for a host without a port, and fails only at the first call.
    """
    if address.split(":", 1)[0] in _SCHEMES and ":" in address:
        return address
    found = _HOST_PORT.fullmatch(address)
    if found and 0 < int(found[2]) <= _LAST_PORT:
        return address
    if "://" in address:
        fault = "is a URL with a scheme that gRPC does not know; give only the host and the port"
    elif address.count(":") > 1 and "[" not in address:
        fault = "has more than one colon; an IPv6 address stands in brackets: [::1]:50051"
    elif ":" not in address:
        fault = "names no port"
    else:
        fault = f"has no host, or no port of 1 .. {_LAST_PORT}"
    raise ValueError(
        f"the address {address!r} {fault}. It is HOST:PORT, such as 'localhost:50051', or a gRPC "
        "target, such as 'dns:///textcam:50051'; for TLS pass tls=Tls()"
    )


def checked_metadata(metadata: Mapping[str, str]) -> Metadata:
    """Return the pairs in gRPC's form, with keys in lower case.

    Raises:
        ValueError: A key or a value has characters that gRPC does not send. Values may be
            tokens, so the message shows none.
    """
    pairs = {key.lower(): value for key, value in metadata.items()}
    if len(pairs) < len(metadata):
        raise ValueError("metadata has one key twice, in upper and in lower case")
    return tuple((_checked_key(key), _checked_value(key, value)) for key, value in pairs.items())


def _checked_key(key: str) -> str:
    wrong = _NO_KEY.search(key)
    if wrong or not key:
        # The message does not show the key, which may be a token by mistake.
        fault = f"one has {wrong[0]!r}" if wrong else "one is empty"
        raise ValueError(f"a metadata key is letters, digits, '_', '-' and '.'; {fault}")
    return key


def _checked_value(key: str, value: str | bytes) -> str | bytes:
    if key.endswith("-bin"):
        return value
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ValueError(
            f"the value of the metadata {key!r} has characters other than printable ASCII; a value "
            "from a file may end in a line break, which .strip() removes"
        )
    return value

"""HTTP proxies that gRPC takes from the environment, and the addresses that go round them."""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import unquote

# In gRPC's order: the first that is set counts.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
# gRPC itself does not know the last, which most other programs take.
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy", "NO_PROXY")
_NEVER_PROXIED = ("unix:", "unix-abstract:", "vsock:")
_TARGET = re.compile(r"(?:[a-z0-9-]+:)?(?://[^/]*/)?(.*)")
_HOST = re.compile(r"\[([^\]]+)\](?::\d+)?|([^:]*)(?::\d+)?")


def proxy_of(address: str) -> str:
    """Return the proxy that calls to an address go through, for messages; "" for none.

    Loopback addresses go round proxies, and so do hosts of `no_proxy` or `NO_PROXY`. A password in
    the proxy's URL is left out.
    """
    variable = next((name for name in _PROXIES if os.environ.get(name)), "")
    if not variable or address.startswith(_NEVER_PROXIED):
        return ""
    host = _host(address)
    if not host or _is_loopback(host) or _is_excepted(host):
        return ""
    return f"{os.environ[variable].rpartition('@')[2]} (variable {variable})"


def _host(address: str) -> str:
    """Return the host of HOST:PORT or of a gRPC target, the first of several."""
    found = _HOST.fullmatch(address)
    if found is None or address.startswith(("dns:", "ipv4:")):
        target = _TARGET.fullmatch(unquote(address))
        found = _HOST.fullmatch(target[1].split(",")[0]) if target else None
    return (found[1] or found[2]).lower().rstrip(".") if found else ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ip_address(host)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_loopback or ip.is_unspecified


def _is_excepted(host: str) -> bool:
    given = next((found for name in _EXCEPTIONS if (found := os.environ.get(name))), "")
    return any(_matches(host, entry.strip().lower()) for entry in given.split(","))


def _matches(host: str, entry: str) -> bool:
    """Return True if an entry names the host, a domain above it, its network, or all (*)."""
    if not entry:
        return False
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    domain = re.sub(r":\d+$", "", entry).removeprefix("*").lstrip(".")
    return entry == "*" or (bool(domain) and (host == domain or host.endswith(f".{domain}")))

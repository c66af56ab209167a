"""Options of calls, and settings of clients."""

from __future__ import annotations

import codecs
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

import grpc

from textcam_client._transport.endpoint import Metadata, checked_address, checked_metadata
from textcam_client.images import ImageInput
from textcam_client.retry import Retry

HeatmapForm: TypeAlias = Literal["none", "saliency", "image", "overlay"]
Lane: TypeAlias = Literal["interactive", "audit"]
ClassRef: TypeAlias = int | str


@dataclass(frozen=True)
class TopK:
    """Explain the k most probable classes."""

    k: int


@dataclass(frozen=True)
class Contrast:
    """Explain why the class is `target` rather than `reference`; each an index or a name."""

    target: ClassRef
    reference: ClassRef


Target: TypeAlias = ClassRef | Sequence[ClassRef] | TopK | Contrast | None


@dataclass(frozen=True, eq=False)
class Targeted:
    """Image of explain_many with a target of its own, in place of the call's."""

    image: ImageInput = field(repr=False)
    target: Target


class ExplainOptions(TypedDict, total=False):
    """Options that `explain` and `explain_many` share; see Client.explain."""

    target: Target
    max_phrases: int | None
    min_probability: float | None
    kinds: Sequence[str] | None
    repeat_class: bool
    include_groups: bool
    heatmap: HeatmapForm
    prediction_count: int | None
    method: str | None
    lane: Lane | None
    may_degrade: bool
    include_channel_evidence: bool
    model: str | None
    version: str | None
    timeout: float | None


@dataclass(frozen=True)
class Options:
    """ExplainOptions with their defaults; None leaves the choice to the server."""

    target: Target = None
    max_phrases: int | None = None
    min_probability: float | None = None
    kinds: Sequence[str] | None = None
    repeat_class: bool = False
    include_groups: bool = True
    heatmap: HeatmapForm = "saliency"
    prediction_count: int | None = None
    method: str | None = None
    lane: Lane | None = None
    may_degrade: bool = False
    include_channel_evidence: bool = False
    model: str | None = None
    version: str | None = None
    timeout: float | None = None


def chosen(given: ExplainOptions) -> Options:
    """Fill in the defaults of explain_many's options.

    Raises:
        TypeError: An option is unknown.
    """
    known = [option.name for option in fields(Options)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(known)}"
            raise TypeError(f"explain_many has no option {name!r}: {hint}")
    return Options(**given)


# gRPC finds a block only at the start of a line.
_PEM_LINE = re.compile(rb"^-----BEGIN ", re.MULTILINE)
Pem: TypeAlias = "bytes | str | os.PathLike[str] | None"


@dataclass(frozen=True)
class Tls:
    """Certificates and key for TLS; each is PEM bytes or the path of a PEM file.

    Attributes:
        root_certificates: Trusted authorities; None: gRPC's own list.
        private_key: Private key of the client, for mutual TLS.
        certificate_chain: Certificates of the client, for mutual TLS.
    """

    root_certificates: Pem = None
    private_key: Pem = field(default=None, repr=False)
    certificate_chain: Pem = None

    def credentials(self) -> Any:
        """Read the files and return grpc.ChannelCredentials.

        Raises:
            OSError: A file cannot be read.
            ValueError: One is not PEM as gRPC reads it; gRPC itself would only fail to connect.
        """
        names = ("root_certificates", "private_key", "certificate_chain")
        return grpc.ssl_channel_credentials(*(_pem(name, getattr(self, name)) for name in names))


@dataclass(frozen=True)
class Settings:
    """Connection of a client, and defaults of its calls.

    The attributes are the arguments of Client.
    """

    address: str
    model: str | None
    version: str | None
    timeout: float
    retry: Retry
    tls: Tls | None
    # It may hold tokens, so it is never printed.
    metadata: Metadata = field(repr=False)
    max_message_bytes: int

    def completed(self, options: Options) -> Options:
        """Fill in the client's model if the call names none."""
        named = options.model is not None or options.version is not None
        return replace(
            options,
            model=options.model if options.model is not None else self.model,
            # The client's version belongs to the client's model.
            version=options.version if named else self.version,
        )

    def seconds(self, timeout: float | None) -> float:
        """Return a call's timeout, by default the client's; raises ValueError."""
        seconds = self.timeout if timeout is None else timeout
        if not seconds > 0:
            raise ValueError(f"timeout is in seconds and above 0, not {seconds}")
        return seconds


def settings(
    address: str,
    *,
    model: str | None,
    version: str | None,
    timeout: float,
    retry: Retry | None,
    tls: Tls | None,
    metadata: Mapping[str, str] | None,
    max_message_bytes: int,
    channel: Any,
) -> Settings:
    """Check the arguments of a client; raises ValueError."""
    if not timeout > 0:
        raise ValueError(f"timeout is in seconds and above 0, not {timeout}")
    if max_message_bytes < 1:
        raise ValueError(f"max_message_bytes is at least 1, not {max_message_bytes}")
    return Settings(
        # A channel that the caller passes has its own address.
        address=checked_address(address) if channel is None else "",
        model=model,
        version=version,
        timeout=timeout,
        retry=retry or Retry(attempts=1),
        tls=tls,
        metadata=checked_metadata(metadata or {}),
        max_message_bytes=max_message_bytes,
    )


def channel_options(max_message_bytes: int) -> list[tuple[str, int | str]]:
    """Return the options of a channel for messages up to `max_message_bytes`, both ways."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # A replica that hangs is left within 15 seconds, and its calls are retried on another. The
        # pings that measure bandwidth have their own timeout, a minute by default, and delay the
        # keepalive pings. At most two pings are sent without data; servers that allow one per five
        # minutes accept that.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
        # A restarted server is found within seconds, not minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # Else a new client waits with another of this process that could not connect just before.
        ("grpc.use_local_subchannel_pool", 1),
        # With dns:/// addresses, all replicas behind the name share the calls.
        ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ]


def _pem(name: str, given: Pem) -> bytes | None:
    if given is None:
        return None
    read = given if isinstance(given, bytes) else Path(given).read_bytes()
    if read.startswith(codecs.BOM_UTF8):
        fault = "begins with a byte-order mark"
    elif not _PEM_LINE.search(read):
        fault = "has no line that begins with '-----BEGIN'"
    else:
        return read
    raise ValueError(f"Tls({name}=...) is PEM, a path or bytes, but this {fault}; save it as PEM")

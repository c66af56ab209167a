"""TLS and mutual TLS, with certificates that are renewed on disk while the server runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from textcam_service.serving.auth.reloading import ReloadEvents, ReloadingFiles
from textcam_service.settings import ServerSettings


class CertificateEvents(ReloadEvents, Protocol):
    """Callbacks for reloaded files and certificates."""

    def on_certificate(self, expires: float) -> None:
        """Called with the expiry of the served certificate chain, Unix seconds."""


@dataclass(frozen=True)
class _Served:
    """A grpc.ServerCertificateConfiguration and its expiry, Unix seconds."""

    configuration: Any
    expires: float


class Certificates:
    """Server certificate, key and client CA, reloaded when the files change.

    Args:
        settings: See ServerSettings; `tls_certificate` and `tls_key` are set.
        events: Callbacks for changes and for the expiry of the served certificate.

    Attributes:
        credentials: grpc.ServerCredentials. Each handshake uses the newest certificates; open
            connections go on.

    Raises:
        InvalidSettings: The files are missing, not valid, expired, or do not match.
    """

    def __init__(self, settings: ServerSettings, events: CertificateEvents) -> None:
        files = (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        paths = [path for path in files if path is not None]
        self._reloaded = ReloadingFiles("TLS certificate", paths, _read, events)
        self._events = events
        self._given = self._newest()
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._given.configuration,
            self._changed,
            require_client_authentication=settings.tls_client_ca is not None,
        )

    def poll(self) -> None:
        """Check the files now, so that the metrics are right without any handshake."""
        self._reloaded.poll()
        self._newest()

    def _newest(self) -> _Served:
        newest = self._reloaded.get()
        self._events.on_certificate(newest.expires)
        return newest

    def _changed(self) -> Any:
        """Called at each handshake; return None if nothing changed: gRPC then keeps its context."""
        before, self._given = self._given, self._newest()
        return None if self._given is before else self._given.configuration


def _read(certificate: bytes, key: bytes, authority: bytes | None = None) -> _Served:
    """Parse and check the files; gRPC itself would accept broken ones and then fail.

    Raises:
        ValueError: A file is not valid or expired, or they do not match.
    """
    chain = _certificates("tls_certificate", certificate)
    own = chain[0]
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        # The library's message may quote the file; a TypeError means a passphrase.
        raise ValueError("tls_key is not a PEM private key without passphrase") from error
    except UnsupportedAlgorithm as error:
        raise ValueError("tls_key has an unsupported algorithm or curve") from error
    plain = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*plain) != private.public_key().public_bytes(*plain):
        raise ValueError("tls_key does not belong to tls_certificate")
    if own.not_valid_after_utc < datetime.now(timezone.utc):
        raise ValueError(f"tls_certificate expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if authority is not None:
        _certificates("tls_client_ca", authority)
    # The earliest expiry in the chain: from then on clients reject it.
    expires = min(each.not_valid_after_utc for each in chain)
    configuration = grpc.ssl_server_certificate_configuration([(key, certificate)], authority)
    return _Served(configuration, expires.timestamp())


def _certificates(setting: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError(f"{setting} is not a PEM certificate: {error}") from error

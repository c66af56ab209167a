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
    """Told of certificates too."""

    def on_certificate(self, expires: float) -> None:
        """The served certificate is valid until then, Unix seconds."""


@dataclass(frozen=True)
class _Served:
    """grpc.ServerCertificateConfiguration, and until when it is valid, Unix seconds."""

    configuration: Any
    expires: float


class Certificates:
    """What the server shows, and whom it trusts: the newest of the settings' files that is whole.

    Args:
        settings: See ServerSettings; `tls_certificate` and `tls_key` are set.
        events: Told of changes, and until when what is served is valid.

    Attributes:
        credentials: grpc.ServerCredentials. Each handshake gets the newest certificates;
            connections that stand go on.

    Raises:
        InvalidSettings: The files are missing, broken, expired, or do not belong together.
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

    def look(self) -> None:
        """Look now: where nobody shakes hands, the metrics are to be right as well."""
        self._reloaded.look()
        self._newest()

    def _newest(self) -> _Served:
        newest = self._reloaded.get()
        self._events.on_certificate(newest.expires)
        return newest

    def _changed(self) -> Any:
        """At each handshake; None, so that gRPC keeps its context, where nothing changed."""
        before, self._given = self._given, self._newest()
        return None if self._given is before else self._given.configuration


def _read(certificate: bytes, key: bytes, authority: bytes | None = None) -> _Served:
    """What the files say; gRPC itself would take broken ones and then fail.

    Raises:
        ValueError: See Certificates.
    """
    chain = _certificates("tls_certificate", certificate)
    own = chain[0]
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        # The library's words may quote the file; a TypeError means a passphrase.
        raise ValueError("tls_key is no PEM private key without a passphrase") from error
    except UnsupportedAlgorithm as error:
        raise ValueError("tls_key is of a kind, or on a curve, that is not supported") from error
    plain = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*plain) != private.public_key().public_bytes(*plain):
        raise ValueError("tls_key is not the key of tls_certificate")
    if own.not_valid_after_utc < datetime.now(timezone.utc):
        raise ValueError(f"tls_certificate expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if authority is not None:
        _certificates("tls_client_ca", authority)
    # Whichever of the chain is the first to expire: from then on callers refuse it.
    expires = min(each.not_valid_after_utc for each in chain)
    configuration = grpc.ssl_server_certificate_configuration([(key, certificate)], authority)
    return _Served(configuration, expires.timestamp())


def _certificates(setting: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError(f"{setting} holds no PEM certificate: {error}") from error

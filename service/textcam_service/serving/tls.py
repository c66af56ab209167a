"""TLS and mutual TLS, with certificates that are renewed on disk while the server runs."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from textcam_service.serving.reloading import Reloaded, ReloadEvents
from textcam_service.settings import ServerSettings


def server_credentials(settings: ServerSettings, events: ReloadEvents) -> Any:
    """grpc.ServerCredentials as the settings say; None: plaintext.

    Each handshake gets the newest certificates that are whole; connections that stand go on.

    Raises:
        InvalidSettings: The files are missing, broken, expired, or do not belong together.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    authority = () if settings.tls_client_ca is None else (settings.tls_client_ca,)
    paths = (settings.tls_certificate, settings.tls_key, *authority)
    newest = Reloaded("TLS certificate", paths, _configuration, events)
    given = newest.get()

    def changed() -> Any:
        """At each handshake; None, so that gRPC keeps its context, where nothing changed."""
        nonlocal given
        before, given = given, newest.get()
        return None if given is before else given

    return grpc.dynamic_ssl_server_credentials(
        given, changed, require_client_authentication=bool(authority)
    )


def _configuration(certificate: bytes, key: bytes, authority: bytes | None = None) -> Any:
    """grpc.ServerCertificateConfiguration; gRPC itself would take a broken one and then fail.

    Raises:
        ValueError: See server_credentials.
    """
    (own, *_) = _certificates("tls_certificate", certificate)
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        # The library's words may quote the file; a TypeError means a passphrase.
        raise ValueError("tls_key is no PEM private key without a passphrase") from error
    plain = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*plain) != private.public_key().public_bytes(*plain):
        raise ValueError("tls_key is not the key of tls_certificate")
    if own.not_valid_after_utc < datetime.now(timezone.utc):
        raise ValueError(f"tls_certificate expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if authority is not None:
        _certificates("tls_client_ca", authority)
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)


def _certificates(setting: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError(f"{setting} holds no PEM certificate: {error}") from error

"""TLS and mutual TLS, with certificates that are renewed on disk while the server runs."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from textcam_service.serving.auth.reloading import ReloadEvents, ReloadingFiles
from textcam_service.settings import ServerSettings

# gRPC's clients accept no other server keys, though some others can be loaded.
_SERVED_CURVES = (ec.SECP256R1, ec.SECP384R1)
# An authority's keys only verify, for which its library knows more.
_VERIFIED_CURVES = (*_SERVED_CURVES, ec.SECP224R1, ec.SECP521R1)
# gRPC's library finds a block only at the start of a line.
_CERTIFICATE_LINE = re.compile(rb"^-----BEGIN (?:X509 )?CERTIFICATE-----", re.MULTILINE)
_KEY_LINE = re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----", re.MULTILINE)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
        InvalidSettings: The files are missing, not valid, expired, do not match, or gRPC cannot
            serve them.
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
        # poll() alone reads the files: the check of new ones opens a port, which handshakes must
        # not wait for.
        newest = self._reloaded.current
        self._events.on_certificate(newest.expires)
        return newest

    def _changed(self) -> Any:
        """Called at each handshake; return None if nothing changed: gRPC then keeps its context."""
        before, self._given = self._given, self._newest()
        return None if self._given is before else self._given.configuration


def _read(certificate: bytes, key: bytes, authority: bytes | None = None) -> _Served:
    """Parse and check the files; gRPC itself would accept broken ones and then fail.

    Raises:
        ValueError: A file is not valid or expired, they do not match, or gRPC cannot serve them.
    """
    chain = _certificates("tls_certificate", certificate)
    own = chain[0]
    private = _private_key(key)
    plain = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*plain) != private.public_key().public_bytes(*plain):
        raise ValueError("tls_key does not belong to tls_certificate")
    if own.not_valid_after_utc < datetime.now(timezone.utc):
        raise ValueError(f"tls_certificate expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    _check_served(own)
    authorities = [("tls_certificate", each) for each in chain[1:]]
    if authority is not None:
        authorities += [
            ("tls_client_ca", each) for each in _certificates("tls_client_ca", authority)
        ]
    for setting, each in authorities:
        _check_authority(setting, each)
    _check_loads(key, certificate, authority)
    # The earliest expiry in the chain: from then on clients reject it.
    expires = min(each.not_valid_after_utc for each in chain)
    configuration = grpc.ssl_server_certificate_configuration([(key, certificate)], authority)
    return _Served(configuration, expires.timestamp())


def _private_key(pem: bytes) -> Any:
    try:
        private = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        # The library's message may quote the file; a TypeError means a passphrase.
        raise ValueError("tls_key is not a PEM private key without passphrase") from error
    except UnsupportedAlgorithm as error:
        raise ValueError("tls_key has an unsupported algorithm or curve") from error
    if not _KEY_LINE.search(pem):
        raise ValueError(_misplaced("tls_key", pem))
    return private


def _certificates(setting: str, pem: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError(f"{setting} is not a PEM certificate: {error}") from error
    # gRPC would leave the others out, without a word.
    if len(_CERTIFICATE_LINE.findall(pem)) < len(found):
        raise ValueError(_misplaced(setting, pem))
    return found


def _misplaced(setting: str, pem: bytes) -> str:
    if pem.startswith(_BYTE_ORDER_MARK):
        return f"{setting} begins with a byte-order mark, which gRPC cannot read; save it without"
    return (
        f"gRPC cannot read {setting}: each '-----BEGIN' stands at the start of a line, and lines "
        "end in a line feed; write the file so"
    )


def _check_served(own: x509.Certificate) -> None:
    """Check that gRPC's clients accept a server with this certificate's key."""
    cure = "make a new key and certificate with RSA, P-256 or P-384"
    if not _is_usable(own, _SERVED_CURVES):
        raise ValueError(f"gRPC cannot serve tls_key, a key of the kind {_kind(own)}; {cure}")
    try:
        usage = own.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise ValueError(
            "tls_certificate does not allow digital signatures (its key usage), without which "
            "clients refuse it; make one that does"
        )


def _check_authority(setting: str, authority: x509.Certificate) -> None:
    """Check that gRPC can verify what an authority signed."""
    is_edwards = isinstance(authority.public_key(), ed25519.Ed25519PublicKey)
    if not is_edwards and not _is_usable(authority, _VERIFIED_CURVES):
        raise ValueError(
            f"gRPC cannot verify what a key of the kind {_kind(authority)} signed, which an "
            f"authority in {setting} has; use an authority with RSA, P-256 or P-384"
        )


def _is_usable(certificate: x509.Certificate, curves: tuple[type[ec.EllipticCurve], ...]) -> bool:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, curves)
    is_plain = certificate.public_key_algorithm_oid == x509.PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
    return isinstance(key, rsa.RSAPublicKey) and is_plain


def _kind(certificate: x509.Certificate) -> str:
    """Return the name of a certificate's kind of key: Ed25519, RSASSA-PSS, secp521r1."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"{key.curve.name} (P-521)" if key.curve.name == "secp521r1" else key.curve.name
    if isinstance(key, rsa.RSAPublicKey):
        return "RSASSA-PSS"
    return type(key).__name__.strip("_").removesuffix("PublicKey")


def _check_loads(key: bytes, certificate: bytes, authority: bytes | None) -> None:
    """Check that gRPC itself loads the files, by a server on loopback that serves nothing.

    Raises:
        ValueError: It does not. Its own words go to standard error.
    """
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], authority, require_client_auth=authority is not None
    )
    # The second: where no port can be had at all, nothing is known about the files.
    if not _listens(credentials) and _listens(None):
        raise ValueError(
            "gRPC cannot load tls_certificate, tls_key or tls_client_ca, though they are well "
            "formed; make a new key and certificate with RSA, P-256 or P-384, and save them as "
            "PEM with line feeds"
        )


def _listens(credentials: Any) -> bool:
    """Return True if a server on loopback begins; None: without TLS."""
    server = grpc.server(ThreadPoolExecutor(1))
    try:
        if credentials is None:
            server.add_insecure_port("127.0.0.1:0")
        else:
            server.add_secure_port("127.0.0.1:0", credentials)
    except RuntimeError:
        return False
    else:
        # Only a server that was started closes its port.
        server.start()
        return True
    finally:
        server.stop(None).wait()

"""Certificates for the tests: an authority that signs for servers and callers on loopback."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from textcam_client import Tls

_DAY = dt.timedelta(days=1)
_LOOPBACK = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


@dataclass
class Pair:
    certificate: bytes
    key: bytes

    def write(self, folder):
        (folder / "tls.crt").write_bytes(self.certificate)
        (folder / "tls.key").write_bytes(self.key)


class Authority:
    def __init__(self, name, curve=ec.SECP256R1):
        self._name = _named(name)
        self._key = ec.generate_private_key(curve())
        certificate = self._signed(self._name, self._key, [], is_authority=True)
        self.certificate = certificate.public_bytes(Encoding.PEM)

    def pair(self, name, *, days=1, alternatives=_LOOPBACK, key=None, usage=None):
        """A certificate for `name` that is valid for so many more days, and its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(_named(name), key, alternatives, days=days, usage=usage)
        return Pair(
            certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def tls(self, caller=None):
        """How a caller who trusts this authority speaks; `caller`: what it shows, a Pair."""
        if caller is None:
            return Tls(self.certificate)
        return Tls(self.certificate, caller.key, caller.certificate)

    def _signed(self, name, key, alternatives, *, days=1, is_authority=False, usage=None):
        now = dt.datetime.now(dt.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 9 * _DAY)
            .not_valid_after(now + days * _DAY)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        if usage is not None:
            builder = builder.add_extension(usage, critical=True)
        return builder.sign(self._key, hashes.SHA256())


def _named(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

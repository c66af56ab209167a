"""Certificates are checked, renewed from disk, and their expiry is reported."""

import time

import pytest
from authority import Authority
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from textcam_service.errors import InvalidSettings
from textcam_service.serving.auth import tls
from textcam_service.serving.auth.tls import Certificates
from textcam_service.settings import ServerSettings


class Events:
    def __init__(self):
        self.reloads, self.expiries = [], []

    def on_reload(self, what, read):
        self.reloads.append(read)

    def on_certificate(self, expires):
        self.expiries.append(expires)


def settings(folder, **more):
    return ServerSettings(tls_certificate=folder / "tls.crt", tls_key=folder / "tls.key", **more)


def test_the_earliest_expiry_is_reported_and_a_renewal_is_served(tmp_path):
    authority, events = Authority("a"), Events()
    authority.pair("server", days=2).write(tmp_path)
    certificates = Certificates(settings(tmp_path), events)
    assert events.expiries[-1] == pytest.approx(time.time() + 2 * 86400, abs=3600)
    assert certificates._changed() is None  # gRPC keeps its context
    authority.pair("server", days=5).write(tmp_path)
    certificates.poll()
    assert certificates._changed() is not None
    assert certificates._changed() is None
    assert (events.reloads, events.expiries[-1]) == (
        [True],
        pytest.approx(time.time() + 5 * 86400, abs=3600),
    )


def test_a_broken_renewal_keeps_the_old_certificate(tmp_path):
    events = Events()
    Authority("a").pair("server").write(tmp_path)
    certificates = Certificates(settings(tmp_path), events)
    (tmp_path / "tls.key").write_text("x")
    certificates.poll()
    assert events.reloads == [False]
    assert certificates._newest().configuration is not None


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda folder: (folder / "tls.crt").write_text("x"), "tls_certificate is not a PEM"),
        (lambda folder: (folder / "tls.key").write_text("x"), "tls_key is not a PEM private key"),
        (
            lambda folder: (folder / "tls.key").write_bytes(Authority("b").pair("server").key),
            "tls_key does not belong to tls_certificate",
        ),
        (lambda folder: Authority("b").pair("s", days=-1).write(folder), "expired on .* UTC"),
        (lambda folder: (folder / "ca.crt").write_text("x"), "tls_client_ca is not a PEM"),
        (lambda folder: (folder / "tls.key").unlink(), "No such file"),
    ],
)
def test_files_at_fault_stop_the_start_and_are_named(tmp_path, spoil, fault):
    authority = Authority("a")
    authority.pair("server").write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    spoil(tmp_path)
    with pytest.raises(InvalidSettings, match=fault):
        Certificates(settings(tmp_path, tls_client_ca=tmp_path / "ca.crt"), Events())


def curve(kind):
    return lambda: ec.generate_private_key(kind())


UNSERVED = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
    "DSA": lambda: dsa.generate_private_key(2048),
    "P-521": curve(ec.SECP521R1),
    "secp224r1": curve(ec.SECP224R1),
    "secp256k1": curve(ec.SECP256K1),
    "brainpoolP256r1": curve(ec.BrainpoolP256R1),
}


@pytest.mark.parametrize("kind", UNSERVED)
def test_keys_that_grpc_cannot_serve_stop_the_start_and_leave_the_old_one(tmp_path, kind):
    authority, events = Authority("a"), Events()
    authority.pair("server").write(tmp_path)
    certificates = Certificates(settings(tmp_path), events)
    authority.pair("server", key=UNSERVED[kind]()).write(tmp_path)
    certificates.poll()
    assert (certificates._changed(), events.reloads) == (None, [False])
    with pytest.raises(InvalidSettings, match=rf"cannot serve tls_key.* \(?{kind}.*RSA, P-256 or"):
        Certificates(settings(tmp_path), Events())


@pytest.mark.parametrize(
    "make", [lambda: rsa.generate_private_key(65537, 2048), curve(ec.SECP384R1)]
)
def test_keys_that_grpc_serves_are_taken(tmp_path, make):
    Authority("a").pair("server", key=make()).write(tmp_path)
    Certificates(settings(tmp_path), Events())


def test_a_certificate_that_may_not_sign_is_refused(tmp_path):
    fields = "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
    others = "key_cert_sign crl_sign encipher_only decipher_only"
    usage = dict.fromkeys(f"{fields} {others}".split(), False) | {"key_encipherment": True}
    Authority("a").pair("server", usage=x509.KeyUsage(**usage)).write(tmp_path)
    with pytest.raises(InvalidSettings, match="does not allow digital signatures"):
        Certificates(settings(tmp_path), Events())


def test_an_authority_whose_signatures_grpc_cannot_verify_is_refused(tmp_path):
    odd = Authority("odd", ec.SECP256K1)
    Authority("a").pair("server").write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(odd.certificate)
    with pytest.raises(InvalidSettings, match=r"secp256k1 signed, .* tls_client_ca has"):
        Certificates(settings(tmp_path, tls_client_ca=tmp_path / "ca.crt"), Events())
    pair = odd.pair("server")
    pair.certificate += odd.certificate
    pair.write(tmp_path)
    with pytest.raises(InvalidSettings, match=r"secp256k1 signed, .* tls_certificate has"):
        Certificates(settings(tmp_path), Events())


def marked(pem):
    return b"\xef\xbb\xbf" + pem


def indented(pem):
    return b"".join(b"  " + line + b"\n" for line in pem.splitlines())


@pytest.mark.parametrize(
    ("name", "setting"),
    [("tls.crt", "tls_certificate"), ("tls.key", "tls_key"), ("ca.crt", "tls_client_ca")],
)
@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (marked, "{} begins with a byte-order mark"),
        (indented, "gRPC cannot read {}: .* at the start of a line"),
        (lambda pem: pem.replace(b"\n", b"\r"), "gRPC cannot load .*{}.* line feeds"),
    ],
)
def test_pem_that_only_others_read_is_refused(tmp_path, name, setting, spoil, fault):
    authority = Authority("a")
    authority.pair("server").write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    path = tmp_path / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InvalidSettings, match=fault.format(setting)):
        Certificates(settings(tmp_path, tls_client_ca=tmp_path / "ca.crt"), Events())


def test_an_authority_that_grpc_would_leave_out_of_several_is_refused(tmp_path):
    authority, other = Authority("a"), Authority("b")
    authority.pair("server").write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(marked(authority.certificate) + other.certificate)
    with pytest.raises(InvalidSettings, match="tls_client_ca begins with a byte-order mark"):
        Certificates(settings(tmp_path, tls_client_ca=tmp_path / "ca.crt"), Events())


def test_files_are_taken_where_no_port_can_be_had_to_try_them(tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "_listens", lambda credentials: False)
    Authority("a").pair("server").write(tmp_path)
    Certificates(settings(tmp_path), Events())

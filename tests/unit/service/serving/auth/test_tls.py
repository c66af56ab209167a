"""Certificates are checked, renewed from disk, and their expiry is reported."""

import time

import pytest
from authority import Authority
from textcam_service.errors import InvalidSettings
from textcam_service.serving.auth import reloading
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


def test_the_earliest_expiry_is_reported_and_a_renewal_is_served(tmp_path, monkeypatch):
    monkeypatch.setattr(reloading, "_POLL_EVERY_S", 0.0)
    authority, events = Authority("a"), Events()
    authority.pair("server", days=2).write(tmp_path)
    certificates = Certificates(settings(tmp_path), events)
    assert events.expiries[-1] == pytest.approx(time.time() + 2 * 86400, abs=3600)
    assert certificates._changed() is None  # gRPC keeps its context
    authority.pair("server", days=5).write(tmp_path)
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

"""What changes on disk is noticed where nobody calls."""

import asyncio
import json
import logging
import time

import pytest
from authority import Authority
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from known import entry, public, write_callers
from small_models import write_model
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.server import Server
from textcam_service.settings import ServerSettings

# A throw-away on secp112r1, which the library that reads keys does not know.
ODD_KEY = """\
-----BEGIN EC PRIVATE KEY-----
MD4CAQEEDlOFQpEkvmfQWXfO2sLWoAcGBSuBBAAGoSADHgAExjBe62rpODc+wrBG
HsBeppDB0Sg814xsSp+sRQ==
-----END EC PRIVATE KEY-----
"""


@pytest.fixture
def files(tmp_path):
    authority = Authority("test authority")
    authority.pair("server").write(tmp_path)
    write_callers(tmp_path / "callers.json", [entry("known", "textcam_" + "x" * 43)])
    key = rsa.generate_private_key(65537, 2048)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public(key, "rsa")]}))
    return tmp_path, authority


def break_callers(folder, _):
    (folder / "callers.json").write_text("{")


def break_keys(folder, _):
    (folder / "keys.json").unlink()


def expire(folder, authority):
    authority.pair("server", days=-1).write(folder)


def change_to_an_odd_curve(folder, _):
    (folder / "tls.key").write_text(ODD_KEY)


def change_to_a_key_that_grpc_cannot_serve(folder, authority):
    authority.pair("server", key=ed25519.Ed25519PrivateKey.generate()).write(folder)


@pytest.mark.parametrize(
    ("fault", "what", "said"),
    [
        (break_callers, "callers' file", "the old one stays: Invalid JSON"),
        (break_keys, "JWT keys", "No such file"),
        (expire, "TLS certificate", "expired on"),
        (change_to_an_odd_curve, "TLS certificate", "unsupported algorithm or curve"),
        (change_to_a_key_that_grpc_cannot_serve, "TLS certificate", "Ed25519"),
    ],
)
async def test_an_idle_server_tells_of_a_broken_renewal(fault, what, said, files, caplog):
    folder, authority = files
    model = write_model(folder / "model", 1)
    settings = ServerSettings(
        port=0,
        metrics_port=-1,
        tls_certificate=folder / "tls.crt",
        tls_key=folder / "tls.key",
        callers=folder / "callers.json",
        jwt_keys=folder / "keys.json",
        jwt_issuer="issuer",
        jwt_audience="audience",
        drain_seconds=1,
    )
    bundle = ModelBundle.load("m", model / "backbone", model / "bank", threads=1)
    server = Server(bundle, settings)
    await server.start()
    try:
        stale = "textcam_reload_stale", {"what": what}
        registry = server._metrics.registry
        assert not registry.get_sample_value(*stale)
        with caplog.at_level(logging.ERROR):
            fault(folder, authority)
            end = time.monotonic() + 10
            while not registry.get_sample_value(*stale):
                assert time.monotonic() < end, "nobody was told"
                await asyncio.sleep(0.05)
        told = [record.getMessage() for record in caplog.records if what in record.getMessage()]
        assert said in " ".join(told)
    finally:
        await server.stop()

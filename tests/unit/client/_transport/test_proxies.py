"""Loopback and the hosts of NO_PROXY go round proxies; errors name the proxy of others."""

import os
from types import SimpleNamespace

import pytest
from textcam_client import Client, Unavailable
from textcam_client._base import ClientBase
from textcam_client._transport.proxies import proxy_of

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if "proxy" in name.lower():
            monkeypatch.delenv(name)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_is_named_without_its_password(monkeypatch, variable):
    monkeypatch.setenv(variable, "http://me:s3cret@proxy.test:3128")
    assert proxy_of("textcam.test:50051") == f"proxy.test:3128 (variable {variable})"
    monkeypatch.delenv(variable)
    assert proxy_of("textcam.test:50051") == ""


@pytest.mark.parametrize(
    "address",
    [
        "localhost:1",
        "a.localhost:1",
        "LOCALHOST:1",
        "127.0.0.1:1",
        "127.9.9.9:1",
        "0.0.0.0:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "dns:localhost:1",
        "dns:///localhost:1",
        "dns:///127.0.0.1",
        "dns://8.8.8.8/localhost:1",
        "ipv4:127.0.0.1:1",
        "ipv4:///127.0.0.1:1,127.0.0.2:1",
        "ipv6:[::1]:1",
        "ipv6:%5B::1%5D:1",
        "unix:/run/a.sock",
        "unix:///run/a.sock",
        "",
    ],
)
def test_loopback_goes_round_proxies(monkeypatch, address):
    monkeypatch.setenv("http_proxy", DEAD)
    assert proxy_of(address) == ""


@pytest.mark.parametrize(
    "address", ["10.1.2.3:1", "textcam:1", "dns:///textcam.prod.svc:1", "[fd00::1]:1"]
)
def test_others_go_through_it(monkeypatch, address):
    monkeypatch.setenv("http_proxy", DEAD)
    assert proxy_of(address) == "http://127.0.0.1:9 (variable http_proxy)"


@pytest.mark.parametrize("variable", ["no_grpc_proxy", "no_proxy", "NO_PROXY"])
@pytest.mark.parametrize(
    ("exceptions", "address", "is_excepted"),
    [
        ("a.test, textcam.prod", "textcam.prod:1", True),
        ("prod", "dns:///textcam.prod:1", True),
        (".prod", "textcam.prod:1", True),
        ("*.prod", "textcam.prod:1", True),
        ("PROD", "textcam.Prod.:1", True),
        ("textcam.prod:1", "textcam.prod:1", True),
        ("*", "textcam.prod:1", True),
        ("10.0.0.0/8", "10.1.2.3:1", True),
        ("10.1.2.3", "10.1.2.3:1", True),
        ("fd00::/8", "[fd00::1]:1", True),
        ("[fd00::1]", "[fd00::1]:1", True),
        ("od", "textcam.prod:1", False),
        ("10.0.0.0/16", "10.1.2.3:1", False),
        ("10.0.0.0/8", "textcam:1", False),
        (",,", "textcam:1", False),
    ],
)
def test_the_environment_names_what_goes_round(
    monkeypatch, variable, exceptions, address, is_excepted
):
    monkeypatch.setenv("http_proxy", DEAD)
    monkeypatch.setenv(variable, exceptions)
    assert (proxy_of(address) == "") == is_excepted


def test_small_letters_go_before_capitals(monkeypatch):
    monkeypatch.setenv("http_proxy", DEAD)
    monkeypatch.setenv("NO_PROXY", "textcam")
    monkeypatch.setenv("no_proxy", "another")
    assert proxy_of("textcam:1")


def test_a_call_reaches_loopback_in_spite_of_a_proxy(monkeypatch, png, server):
    monkeypatch.setenv("http_proxy", DEAD)
    with Client(server.address, retry=None) as client:
        assert client.explain(png, timeout=10)


@pytest.mark.parametrize(("exceptions", "is_off"), [("prod", True), ("test", False)])
def test_grpc_is_told_of_no_proxy_in_capitals(monkeypatch, exceptions, is_off):
    monkeypatch.setenv("http_proxy", DEAD)
    monkeypatch.setenv("NO_PROXY", exceptions)
    seen = []
    api = SimpleNamespace(insecure_channel=lambda _, options, compression: seen.append(options))
    ClientBase("textcam.prod:1")._new_channel(api)
    assert (("grpc.enable_http_proxy", 0) in seen[0]) == is_off


def test_the_error_names_the_proxy(monkeypatch, png):
    monkeypatch.setenv("http_proxy", "http://me:s3cret@127.0.0.1:9")
    words = r"at textcam.prod:1:.* through the proxy 127.0.0.1:9 \(variable http_proxy\).*no_proxy"
    with (
        Client("textcam.prod:1", retry=None) as client,
        pytest.raises(Unavailable, match=words) as raised,
    ):
        client.explain(png, timeout=10)
    assert "s3cret" not in str(raised.value)

"""Addresses and metadata are checked as a client is constructed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from client_samples import QUICK, make_pixels
from textcam_client import (
    AsyncClient,
    Client,
)


@pytest.mark.parametrize("key", ["authorization", "Authorization", "AUTHORIZATION"])
def test_metadata_goes_with_every_call_whatever_its_keys_case(key):
    seen = []

    class Look(grpc.ServerInterceptor):
        def intercept_service(self, _, details):
            seen.append((details.method.rsplit("/")[-1], dict(details.invocation_metadata)))

    grpc_server = grpc.server(ThreadPoolExecutor(2), interceptors=[Look()])
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    metadata = {key: "Bearer t"}
    with Client(f"127.0.0.1:{port}", metadata=metadata) as client:
        for call in (client.models, lambda: next(client.explain_many([make_pixels()]))):
            with pytest.raises(Exception, match="not found"):
                call()
    grpc_server.stop(None).wait()
    assert [method for method, _ in seen] == ["ListModels", "ExplainStream"]
    assert all(sent["authorization"] == "Bearer t" for _, sent in seen)


async def test_the_async_client_sends_metadata_whatever_its_keys_case(server, png):
    async with server.async_client(metadata={"Authorization": "Bearer t"}) as client:
        assert await client.explain(png)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"authorization": "Bearer textcam_secret\n"}, "'authorization'.*line break"),
        ({"authorization": "Bearer textcam_sécret"}, "printable ASCII"),
        ({"authorization": b"Bearer textcam_secret"}, "printable ASCII"),
        ({"authorization: Bearer textcam_secret": ""}, "one has ':'"),
        ({"Bearer textcam_secret": "authorization"}, "one has ' '"),
        ({"textcam_secret\n": "authorization"}, r"one has '\\n'"),
        ({"": "Bearer textcam_secret"}, "one is empty"),
        ({"a": "Bearer textcam_secret", "A": "Bearer textcam_secret"}, "one key twice"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_bad_metadata_is_refused_without_a_word_of_the_token(kind, metadata, words):
    with pytest.raises(ValueError, match=words) as refused:
        kind("localhost:1", metadata=metadata)
    assert "textcam_" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1", "names no port"),
        ("", "names no port"),
        ("http://127.0.0.1:50051", "is a URL"),
        ("https://textcam:50051", r"is a URL .* tls=Tls\(\)"),
        ("::1:50051", r"more than one colon; .* \[::1\]:50051"),
        ("localhost:0", "no port of 1 .. 65535"),
        ("localhost:65536", "no port of"),
        ("localhost:http", "no port of"),
        (":50051", "no host"),
        ("local host:50051", "no host"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_that_cannot_be_called_is_refused_when_the_client_is_made(kind, address, words):
    with pytest.raises(ValueError, match=words):
        kind(address)


def test_targets_of_grpc_and_lists_of_addresses_are_taken(server, png, tmp_path):
    port = server.address.split(":")[1]
    for address in (
        f"localhost:{port}",
        f"dns:///localhost:{port}",
        f"dns:localhost:{port}",
        f"ipv4:127.0.0.1:{port},127.0.0.1:{port}",
    ):
        with Client(address, retry=QUICK) as client:
            assert client.explain(png)
    for address in ("[::1]:50051", "ipv6:[::1]:50051", f"unix:{tmp_path}/s", "xds:///textcam"):
        Client(address).close()

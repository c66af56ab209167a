"""Server for tests of code that uses this client.

    from textcam_client.testing import serve_in_memory

    def test_my_audit_survives_a_full_queue():
        with serve_in_memory() as server, server.client() as client:
            server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=0.01)
            assert my_audit(client, ["cat.jpg"]) == ...
            assert len(server.requests) == 2

It is a real gRPC server on a loopback port, in the test's own process. Its results are made up, but
deterministic. They follow the image and add up as the contract requires.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from textcam.v1 import explainer_pb2_grpc as pb_grpc

from textcam_client.aio import AsyncClient
from textcam_client.client import Client
from textcam_client.testing._bank import PHRASES
from textcam_client.testing._explainer import FakeExplainer
from textcam_client.testing._network import CLASS_NAMES
from textcam_client.testing._script import Latency, Script
from textcam_client.testing._servicer import FakeServicer

__all__ = ["InMemoryServer", "serve_in_memory"]

_MAX_MESSAGE_BYTES = 64 * 2**20


class InMemoryServer(Script):
    """The running server that `serve_in_memory` yields.

    Attributes:
        address: "127.0.0.1:port".
        requests: Every ExplainRequest that came, in order, those that failed included.
        streams: Number of streams that were opened.
        open_streams: Number of streams that are open now.
        peak_in_flight: Largest number of requests that were in work at once.
        latency: Seconds before each response, or a function of the request that returns them.
    """

    def __init__(self, address: str, latency: Latency) -> None:
        super().__init__(latency)
        self.address = address

    def client(self, **settings: Any) -> Client:
        """Return a Client of this server; `settings` are the arguments of Client."""
        return Client(self.address, **settings)

    def async_client(self, **settings: Any) -> AsyncClient:
        """Return an AsyncClient of this server; `settings` are the arguments of AsyncClient."""
        return AsyncClient(self.address, **settings)


@contextlib.contextmanager
def serve_in_memory(
    *,
    model: str = "fake",
    version: str = "1",
    class_names: Sequence[str] = CLASS_NAMES,
    vocabulary: Sequence[str] = PHRASES,
    further_models: Sequence[str] = (),
    calibrated: bool = True,
    multi_label: bool = False,
    latency: Latency = 0.0,
    max_message_bytes: int = _MAX_MESSAGE_BYTES,
) -> Iterator[InMemoryServer]:
    """Serve on a free loopback port until the end of the `with` block.

    Args:
        model: Name of the model.
        version: Its version.
        class_names: Its classes.
        vocabulary: Its phrases. Those of the default vocabulary have kinds, others have none.
        further_models: Names of more models, with the same results as the first.
        calibrated: Give phrases probabilities; without them the server rejects min_probability.
        multi_label: The classes do not exclude each other: each has the sigmoid of its logit.
        latency: Seconds before each response, or a function of the request that returns them.
        max_message_bytes: Largest request; one over it ends its call or stream.
    """
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Otherwise two servers could share a port unnoticed.
        ("grpc.so_reuseport", 0),
    ]
    with ThreadPoolExecutor(32, thread_name_prefix="textcam-fake") as pool:
        grpc_server = grpc.server(pool, options=options)
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        server = InMemoryServer(f"127.0.0.1:{port}", latency)
        models = (model, *further_models)
        explainer = FakeExplainer(
            models,
            version,
            class_names,
            vocabulary,
            calibrated=calibrated,
            multi_label=multi_label,
        )
        servicer = FakeServicer(server, explainer)
        pb_grpc.add_ExplainerServiceServicer_to_server(servicer, grpc_server)  # type: ignore[no-untyped-call]  # generated
        health_pb2_grpc.add_HealthServicer_to_server(servicer, grpc_server)
        grpc_server.start()
        try:
            yield server
        finally:
            servicer.stopping.set()
            grpc_server.stop(grace=None).wait()

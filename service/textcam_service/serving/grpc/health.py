"""The standard health service (grpc.health.v1), which no peer can hold up.

The one of grpcio-health-checking writes to watchers under a lock that a change of health waits
for, so a peer that does not read keeps a server from saying that it stops; and it forgets all
watchers of a service when one of them leaves.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["Health"].full_name
_MOST_WATCHERS = 1000  # health is told to all, also to those who mean harm
_MOST_LISTED = 100


class Health:
    """What is SERVING, by service name; "" is the whole server. Lives on one event loop."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {"": False}
        self._changed = asyncio.Event()
        self._watchers = 0
        self._ended = False

    def set(self, service: str, serving: bool) -> None:
        """Say it at once to who asks, and soon to who watches."""
        self._serving[service] = serving
        self._tell()

    def end(self) -> None:
        """Let those who watch go, once each was told what is so by now."""
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def add_to(self, server: Any) -> None:
        """Serve the methods below.

        The function that grpcio-health-checking generates asks for each method that its own
        version has, and newer ones have more; of those gRPC itself answers UNIMPLEMENTED.
        """
        kinds = {
            "Check": (grpc.unary_unary_rpc_method_handler, self.Check, "HealthCheck"),
            "List": (grpc.unary_unary_rpc_method_handler, self.List, "HealthList"),
            "Watch": (grpc.unary_stream_rpc_method_handler, self.Watch, "HealthCheck"),
        }
        methods = {
            name: kind(
                method,
                request_deserializer=getattr(pb, f"{message}Request").FromString,
                response_serializer=getattr(pb, f"{message}Response").SerializeToString,
            )
            for name, (kind, method, message) in kinds.items()
            if hasattr(pb, f"{message}Request")  # List has them from grpcio-health-checking 1.85
        }
        handler = grpc.method_handlers_generic_handler(SERVICE_NAME, methods)
        server.add_generic_rpc_handlers((handler,))

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """Answer the health of one service; NOT_FOUND for one that is not known."""
        if request.service not in self._serving:
            known = ", ".join(f"'{name}'" for name in sorted(self._serving))
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"no service '{request.service[:100]}' has a health here; those that have: {known}",
            )
        return pb.HealthCheckResponse(status=self._status(request.service))

    async def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """Answer the health of all services; RESOURCE_EXHAUSTED if they are too many."""
        if len(self._serving) > _MOST_LISTED:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{len(self._serving)} services have a health, and a list at most {_MOST_LISTED}; "
                "use Check",
            )
        answers = {
            name: pb.HealthCheckResponse(status=self._status(name)) for name in self._serving
        }
        return pb.HealthListResponse(statuses=answers)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Answer the health of one service now, and again after each change, until the end."""
        if self._watchers >= _MOST_WATCHERS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._watchers} callers watch the health already; use Check",
            )
        self._watchers += 1
        last = None
        try:
            while True:
                changed = self._changed  # before the look, or a change in between is missed
                status = self._status(request.service)
                if status != last:
                    await context.write(pb.HealthCheckResponse(status=status))
                    last = status
                if self._ended and not changed.is_set():
                    return
                await changed.wait()
        finally:
            self._watchers -= 1

    def _status(self, service: str) -> Any:
        status = pb.HealthCheckResponse
        if service not in self._serving:
            return status.SERVICE_UNKNOWN
        return status.SERVING if self._serving[service] else status.NOT_SERVING

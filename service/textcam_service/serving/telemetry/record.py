"""Record of a request, the source of its log line, metrics and trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RequestRecord:
    """Record of a request, filled while it is processed; stages not reached keep the defaults.

    Attributes:
        rpc: Short name of the method; empty for a warm-up or a canary.
        request_id: The client's request id, cut to the maximum length.
        request_bytes: Size of the request.
        caller: Name of the authenticated caller; empty if there is none.
        began: When processing began, on time.monotonic()'s clock.
        trace_id: 32 hex digits, of this server's trace or the client's; empty if there is none.
        model: Name of the model.
        version: Version of the model.
        cam_method: Name of the CAM method.
        lane: Name of the lane.
        image_width: Width in pixels.
        image_height: Height in pixels.
        batch_size: Images of its inference.
        stages: Beginning of each stage on the same clock and its seconds, failed stages included.
        code: Name of the response's gRPC code.
        reason: Reason of the error, for machines; empty if there is none.
        seconds: Total seconds in the server.
        span: The tracer's span.
        batch_span: The tracer's span of its inference.
    """

    rpc: str
    request_id: str = ""
    request_bytes: int = 0
    caller: str = ""
    began: float = field(default_factory=time.monotonic)
    trace_id: str = ""
    model: str = ""
    version: str = ""
    cam_method: str = ""
    lane: str = ""
    image_width: int = 0
    image_height: int = 0
    batch_size: int = 0
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    code: str = ""
    reason: str = ""
    seconds: float = 0.0
    span: Any = None
    batch_span: Any = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, whether it succeeds or fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = (began, time.monotonic() - began)

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage."""
        # Copied first: a worker thread may add a stage while a cancelled request is logged.
        return {name: seconds for name, (_, seconds) in self.stages.copy().items()}

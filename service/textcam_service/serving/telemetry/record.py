"""What is known of a request while it is worked on: what its log line and its trace tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RequestRecord:
    """Filled as the request goes its way; what it never came to stays as it is here.

    Attributes:
        rpc: The call's name; empty: nobody called, as for a warm-up or a canary.
        request_id: The caller's, as far as ids are allowed to go.
        request_bytes: Size of the request.
        caller: Name of who makes the call; empty: nobody who proved it.
        began: When it was taken in, on time.monotonic()'s clock.
        trace_id: 32 hex digits, of this server's trace or of the caller's; empty: neither.
        model: Name of the model that it came to.
        version: Of that model.
        cam_method: The CAM method's name.
        lane: Who waits.
        image_width: Pixels.
        image_height: Pixels.
        batch_size: Images of the inference that it was in.
        stages: When each stage began, on the same clock, and its seconds; one that failed too.
        code: Name of the gRPC code that answered it.
        reason: The error's, as machines match on it; empty: none.
        seconds: In the server, in all.
        span: The tracer's own.
        batch_span: Of the inference that it was in; the tracer's own.
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
        """Time a stage, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = (began, time.monotonic() - began)

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage."""
        # A copy first: a worker's thread may add a stage while a cancelled request is logged.
        return {name: seconds for name, (_, seconds) in self.stages.copy().items()}

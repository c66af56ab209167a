"""The server's logs: as text, or as JSON with a line for each answered request."""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime, timezone
from typing import Any

from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.settings import ServerSettings

_access = logging.getLogger("textcam.access")


def set_up_logs(settings: ServerSettings, *, by_process: bool = False) -> None:
    """Send the log to standard error, in the form and from the level that the settings name.

    Args:
        settings: See ServerSettings.
        by_process: Whether lines of text name the process; lines of JSON always do.
    """
    handler = logging.StreamHandler()
    process = f" [{os.getpid()}]" if by_process else ""
    handler.setFormatter(
        _JsonFormatter()
        if settings.log_format == "json"
        else logging.Formatter(f"%(asctime)s %(levelname)s{process} %(name)s %(message)s")
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_race)
    # At DEBUG it writes what it finds in images: places, names, whole tags of EXIF.
    logging.getLogger("PIL").setLevel(logging.INFO)


def _is_no_race(record: logging.LogRecord) -> bool:
    """Whether a record tells of more than an answer that came as its caller left.

    gRPC tells of that with a traceback, as of a servicer's error; the request's end is counted and
    logged by its code.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


class AccessLog:
    """A line for each answered request, where logs are JSON and the level is INFO or below.

    It tells who asked for what and how that went: no image, no metadata, nothing of the answer;
    of who asked the name alone.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._wanted = settings.log_format == "json"

    def write(self, record: RequestRecord) -> None:
        """Write a request's line."""
        if self._wanted and _access.isEnabledFor(logging.INFO):
            _access.info("%s %s", record.rpc, record.code, extra={"request": _fields(record)})


def _fields(record: RequestRecord) -> dict[str, Any]:
    """What is known of a request; what it never came to is left out."""
    fields = {
        "method": record.rpc,
        "code": record.code,
        "reason": record.reason,
        "seconds": round(record.seconds, 6),
        "caller": record.caller,
        "request_id": record.request_id,
        "trace_id": record.trace_id,
        "model": record.model,
        "version": record.version,
        "cam_method": record.cam_method,
        "lane": record.lane,
        "request_bytes": record.request_bytes,
        "image_width": record.image_width,
        "image_height": record.image_height,
        "batch_size": record.batch_size,
        "stage_seconds": {
            stage: round(seconds, 6) for stage, seconds in record.stage_seconds.items()
        },
    }
    return {name: value for name, value in fields.items() if value not in ("", 0, {})}


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """A log record as JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, "request", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)

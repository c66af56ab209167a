"""The server's logs: text, or JSON with a line per completed request."""

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
    """Send the log to standard error, with the settings' format and level.

    Args:
        settings: See ServerSettings.
        by_process: Whether text lines contain the process id; JSON lines always do.
    """
    handler = logging.StreamHandler()
    process = f" [{os.getpid()}]" if by_process else ""
    handler.setFormatter(
        _JsonFormatter()
        if settings.log_format == "json"
        else logging.Formatter(f"%(asctime)s %(levelname)s{process} %(name)s %(message)s")
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_client_race)
    # At DEBUG Pillow logs content of images: locations, names, whole EXIF tags.
    logging.getLogger("PIL").setLevel(logging.INFO)


def _is_not_client_race(record: logging.LogRecord) -> bool:
    """Return False for a record about a response that was written as its client left.

    gRPC logs that with a traceback, like an error of a servicer. The end of such a request is
    counted and logged by its code.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


class AccessLog:
    """Log with a line per completed request, if logs are JSON and the level is INFO or below.

    A line has the caller's name, the request's parameters and its outcome. It has no image, no
    metadata and nothing of the response.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._wanted = settings.log_format == "json"

    def write(self, record: RequestRecord) -> None:
        """Write the line of a request."""
        if self._wanted and _access.isEnabledFor(logging.INFO):
            _access.info("%s %s", record.rpc, record.code, extra={"request": _fields(record)})


def _fields(record: RequestRecord) -> dict[str, Any]:
    """Return the known fields of a record; fields with default values are left out."""
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
    """Formatter of one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a log record as JSON."""
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

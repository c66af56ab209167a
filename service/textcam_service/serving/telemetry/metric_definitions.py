"""Table of the server's Prometheus metrics; names follow Prometheus' conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
STAGES = ("decode", "queue", "inference", "attribution", "rationale", "encode")


@dataclass(frozen=True)
class Declaration:
    """Declaration of one metric.

    Attributes:
        attribute: Attribute of Metrics that holds it.
        kind: Class of the metric.
        name: Exported name.
        help: Help text.
        labels: Names of the labels.
        options: Further arguments of the class, such as buckets.
    """

    attribute: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    name: str
    help: str
    labels: Sequence[str] = ()
    options: dict[str, Any] = field(default_factory=dict)


_SUM, _MAX = {"multiprocess_mode": "livesum"}, {"multiprocess_mode": "livemax"}
_MIN, _LAST = {"multiprocess_mode": "livemin"}, {"multiprocess_mode": "mostrecent"}

# In the order in which the guide lists them.
METRICS = (
    Declaration(
        "requests",
        Counter,
        "textcam_requests_total",
        "Completed requests by method and gRPC code; each item of a stream counts.",
        ("method", "code"),
    ),
    Declaration(
        "request_seconds",
        Histogram,
        "textcam_request_duration_seconds",
        "Duration of an image's request in the server, by method and gRPC code.",
        ("method", "code"),
        {"buckets": _SECONDS},
    ),
    Declaration(
        "stage_seconds",
        Histogram,
        "textcam_stage_duration_seconds",
        "Duration of each stage of a client's request: decode, queue, inference, attribution, "
        "rationale, encode.",
        ("stage",),
        {"buckets": _SECONDS},
    ),
    Declaration(
        "batch_size",
        Histogram,
        "textcam_batch_size_images",
        "Images per inference, including warm-ups and canaries.",
        (),
        {"buckets": _SIZES},
    ),
    Declaration(
        "queue_depth",
        Gauge,
        "textcam_queue_depth_images",
        "Images waiting for inference.",
        (),
        _SUM,
    ),
    Declaration(
        "in_flight",
        Gauge,
        "textcam_requests_in_flight",
        "Requests being processed.",
        (),
        _SUM,
    ),
    Declaration(
        "rejected",
        Counter,
        "textcam_rejected_total",
        "Requests rejected because of overload, by reason.",
        ("reason",),
    ),
    Declaration(
        "restarts",
        Counter,
        "textcam_batcher_restarts_total",
        "Restarts of the batcher's consumer after it died.",
    ),
    Declaration(
        "passes",
        Counter,
        "textcam_method_passes_total",
        "Passes of network and head by CAM methods beyond the first, including warm-ups and "
        "canaries.",
        ("method",),
    ),
    Declaration(
        "degraded",
        Counter,
        "textcam_degraded_total",
        "Responses reduced under load, as their requests allowed, by the part left out.",
        ("step",),
    ),
    Declaration(
        "expired",
        Counter,
        "textcam_expired_total",
        "Images whose deadline passed before the response was ready.",
    ),
    Declaration(
        "cancelled",
        Counter,
        "textcam_cancelled_total",
        "Images whose client cancelled before the response and before the deadline.",
    ),
    Declaration(
        "unexpected",
        Counter,
        "textcam_unexpected_errors_total",
        "Unexpected errors, which no domain error describes; the log holds each traceback.",
    ),
    Declaration(
        "images",
        Counter,
        "textcam_images_decoded_total",
        "Clients' images by decoder.",
        ("decoder",),
    ),
    Declaration(
        "denied",
        Counter,
        "textcam_denied_total",
        "Calls and images refused because of the caller: UNAUTHENTICATED, PERMISSION_DENIED, "
        "RATE_LIMITED.",
        ("reason",),
    ),
    Declaration(
        "reloads",
        Counter,
        "textcam_reloads_total",
        "Changes of certificates, callers or JWT keys on disk; outcome `kept`: the new files are "
        "not valid and the old ones stay in use.",
        ("what", "outcome"),
    ),
    Declaration(
        "stale",
        Gauge,
        "textcam_reload_stale",
        "1 while the newest certificates, callers or JWT keys on disk are not usable and older "
        "ones are in use.",
        ("what",),
        _MAX,
    ),
    Declaration(
        "certificate_expiry",
        Gauge,
        "textcam_tls_certificate_expiry_timestamp_seconds",
        "Earliest expiry in the served certificate chain; 0 without TLS.",
        (),
        _MIN,
    ),
    Declaration(
        "swaps",
        Counter,
        "textcam_model_swaps_total",
        "Versions of a model that were loaded, warmed up and switched to.",
        ("model",),
    ),
    Declaration(
        "load_failures",
        Counter,
        "textcam_model_load_failures_total",
        "Failures to serve the store's current version, by reason; the previous version stays. "
        "STORE_FAILED without a model: the store could not be read.",
        ("model", "reason"),
    ),
    Declaration(
        "pending",
        Gauge,
        "textcam_model_pending",
        "1 while the store's current version of a model is not the served version.",
        ("model",),
        _MAX,
    ),
    Declaration(
        "store_polled",
        Gauge,
        "textcam_store_look_timestamp_seconds",
        "Time of the last successful check of the store, at first of the start; 0 without a store.",
        (),
        _MIN,
    ),
    Declaration(
        "drift",
        Gauge,
        "textcam_canary_drift",
        "Result of the last canary comparison of the served version with its successor: "
        "top1, map_correlation, first_phrase, share_difference.",
        ("model", "measure"),
        _LAST,
    ),
)

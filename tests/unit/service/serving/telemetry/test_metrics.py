"""The metrics are those of the table, and callbacks count in them."""

import inspect

from prometheus_client.openmetrics.exposition import generate_latest
from textcam_service.serving.telemetry.metric_definitions import METRICS, STAGES
from textcam_service.serving.telemetry.metrics import Metrics, QueueEvents


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_each_declared_metric_is_an_attribute_with_its_help():
    metrics = Metrics()
    declared = inspect.get_annotations(Metrics)
    assert set(declared) == {metric.attribute for metric in METRICS}
    for metric in METRICS:
        made = getattr(metrics, metric.attribute)
        assert isinstance(made, metric.kind)
        (family,) = made.describe()
        assert (family.documentation, made._labelnames) == (metric.help, tuple(metric.labels))
        assert family.name + ("_total" if family.type == "counter" else "") == metric.name


def test_stages_are_there_before_the_first_request():
    page = generate_latest(Metrics().registry).decode()
    assert all(
        f'textcam_stage_duration_seconds_count{{stage="{stage}"}} 0.0' in page for stage in STAGES
    )


def test_callbacks_count():
    metrics = Metrics()
    metrics.on_batch(3)
    metrics.on_expired()
    metrics.on_cancelled()
    metrics.on_rejected("QUEUE_FULL")
    metrics.on_denied("RATE_LIMITED")
    metrics.on_restart()
    metrics.on_certificate(7.0)
    assert value(metrics, "textcam_batch_size_images_sum") == 3
    assert value(metrics, "textcam_expired_total") == 1
    assert value(metrics, "textcam_cancelled_total") == 1
    assert value(metrics, "textcam_rejected_total", reason="QUEUE_FULL") == 1
    assert value(metrics, "textcam_denied_total", reason="RATE_LIMITED") == 1
    assert value(metrics, "textcam_batcher_restarts_total") == 1
    assert value(metrics, "textcam_tls_certificate_expiry_timestamp_seconds") == 7


def test_a_reload_that_failed_is_stale_until_the_next_one():
    metrics = Metrics()
    metrics.on_reload("keys", read=False)
    assert value(metrics, "textcam_reload_stale", what="keys") == 1
    metrics.on_reload("keys", read=True)
    assert value(metrics, "textcam_reload_stale", what="keys") == 0
    outcomes = [
        value(metrics, "textcam_reloads_total", what="keys", outcome=outcome)
        for outcome in ("kept", "read")
    ]
    assert outcomes == [1, 1]


def test_the_depths_of_several_queues_add_up():
    metrics = Metrics()
    one, other = QueueEvents(metrics), QueueEvents(metrics)
    one.on_depth(3)
    other.on_depth(4)
    one.on_depth(1)
    assert value(metrics, "textcam_queue_depth_images") == 5
    other.on_depth(0)
    assert value(metrics, "textcam_queue_depth_images") == 1

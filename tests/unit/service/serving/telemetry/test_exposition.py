"""The HTTP endpoint of the metrics."""

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry
from textcam_service.errors import InvalidSettings
from textcam_service.serving.telemetry.exposition import describe, publish, worker_restarts
from textcam_service.settings import ServerSettings
from textcam_service.version import __version__


def test_the_endpoint_serves_the_registry_until_it_is_stopped():
    registry = CollectorRegistry()
    describe(registry).labels("m").info({"version": "1"})
    worker_restarts(registry).inc()
    port, stop = publish(registry, ServerSettings(metrics_port=0))
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        page = response.read().decode()
    assert f'textcam_build_info{{version="{__version__}"}} 1.0' in page
    assert 'textcam_bundle_info{model="m",version="1"} 1.0' in page
    assert "textcam_worker_restarts_total 1.0" in page
    stop()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)


def test_a_port_in_use_is_refused_and_minus_one_is_none():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSettings, match=rf"127\.0\.0\.1:{port}: .*--metrics-port"):
            publish(CollectorRegistry(), ServerSettings(metrics_port=port))
    none, stop = publish(CollectorRegistry(), ServerSettings(metrics_port=-1))
    stop()
    assert none is None

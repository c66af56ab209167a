"""The metrics as the real Prometheus sees them (Debian's package `prometheus`)."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from textcam_client import Client

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="NOT TESTED: prometheus and promtool are not installed (Debian: prometheus)",
)

CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: textcam
    static_configs: [{{targets: ["{target}"]}}]
"""


def test_promtool_finds_no_fault_with_the_metrics(server):
    with urllib.request.urlopen(server.metrics) as page:
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=page.read(), capture_output=True, check=False
        )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_prometheus_scrapes_what_a_request_counted(server, photos, tmp_path):
    with Client(server.address, timeout=60) as client:
        client.explain(photos[0])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(target=server.metrics.split("/")[2]))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with subprocess.Popen(
        [*command, f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as prometheus:
        try:
            query = urllib.parse.quote('textcam_requests_total{method="Explain",code="OK"}')
            value, until = 0.0, time.monotonic() + 30
            while value < 1 and time.monotonic() < until:
                time.sleep(0.3)
                try:
                    url = f"http://{address}/api/v1/query?query={query}"
                    with urllib.request.urlopen(url) as answer:
                        found = json.load(answer)["data"]["result"]
                except (urllib.error.URLError, ConnectionError):
                    continue
                value = float(found[0]["value"][1]) if found else 0.0
            assert value >= 1
        finally:
            prometheus.terminate()

"""The real Prometheus over pods, with the shipped rules in a shorter time."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from day_pods import Pod
from day_release import Release
from fault_processes import free_port

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
# Where a group of rules names no interval, the operator's default holds.
OPERATORS_INTERVAL = "30s"


def shorter(duration: str, factor: int) -> str:
    """A duration of Prometheus', divided: "5m" by 20 is "15000ms"."""
    count, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return f"{int(count) * _MILLISECONDS[unit] // factor}ms"


def scaled(groups: Sequence[dict[str, Any]], factor: int) -> list[dict[str, Any]]:
    """Rules with every span of time divided by a factor, and nothing else changed."""
    made = copy.deepcopy(list(groups))
    for group in made:
        group["interval"] = shorter(group.get("interval", OPERATORS_INTERVAL), factor)
        for rule in group["rules"]:
            rule["expr"] = re.sub(
                r"\[(\w+)\]", lambda found: f"[{shorter(found[1], factor)}]", rule["expr"]
            )
            for span in {"for", "keep_firing_for"} & rule.keys():
                rule[span] = shorter(rule[span], factor)
    return made


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int, targets: Path) -> None:
        self._port, self._targets = port, targets

    def follow(self, pods: Sequence[Pod]) -> None:
        """Scrape these, under the labels that the operator gives them."""
        found = [
            {
                "targets": [f"{pod.address}:{scraped_port(pod.release)}"],
                "labels": {"namespace": "textcam", "pod": pod.name},
            }
            for pod in pods
        ]
        half = self._targets.with_suffix(".half")
        half.write_text(json.dumps(found))
        half.replace(self._targets)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression comes to now."""
        return list(self._get("query", query=expression)["result"])

    def value(self, expression: str) -> float:
        """The one sample; 0 where there is none."""
        return sum(float(sample["value"][1]) for sample in self.query(expression))

    def alerts(self) -> dict[str, str]:
        """Of each active alert, its state: "pending" or "firing", by name and pod."""
        return {
            f"{one['labels']['alertname']} {one['labels'].get('pod', '')}".strip(): one["state"]
            for one in self._get("alerts")["alerts"]
        }

    def fired(self, seconds: float) -> set[str]:
        """The alerts that have fired within so many seconds."""
        series = f'ALERTS{{alertstate="firing"}}[{int(1000 * seconds)}ms]'
        found = self.query(f"count by (alertname) (count_over_time({series}))")
        return {one["metric"]["alertname"] for one in found}

    def is_ready(self) -> bool:
        try:
            return self._get("rules")["groups"] != []
        except (urllib.error.URLError, ConnectionError):
            return False

    def _get(self, path: str, **asked: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return dict(json.load(answer)["data"])


def scraped_port(release: Release) -> int:
    (endpoint,) = release.the("ServiceMonitor")["spec"]["endpoints"]
    return release.port(endpoint["port"])


@contextmanager
def prometheus(release: Release, factor: int, folder: Path) -> Iterator[Prometheus]:
    """Prometheus with a release's rules and its ServiceMonitor's interval, divided by a factor."""
    port, targets = free_port(), folder / "targets.json"
    (endpoint,) = release.the("ServiceMonitor")["spec"]["endpoints"]
    interval = shorter(endpoint["interval"], factor)
    groups = scaled(release.the("PrometheusRule")["spec"]["groups"], factor)
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    targets.write_text("[]")
    job = {
        # The operator's label `job`: the Service's name.
        "job_name": release.the("Service")["metadata"]["name"],
        "file_sd_configs": [{"files": [str(targets)]}],
    }
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        made, end = Prometheus(port, targets), time.monotonic() + 30
        while not made.is_ready():
            said = (folder / "prometheus.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.1)
        yield made
    finally:
        process.terminate()
        process.wait(10)

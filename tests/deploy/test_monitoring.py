"""Rules, dashboard and autoscaling: every metric exists, and alerts fire where they must."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from deployed import MONITORING, the
from grpc import StatusCode
from textcam_service.serving.telemetry.exposition import worker_restarts
from textcam_service.serving.telemetry.metric_definitions import STAGES
from textcam_service.serving.telemetry.metrics import Metrics

NEEDS_PROMTOOL = pytest.mark.skipif(
    not shutil.which("promtool"),
    reason="NOT TESTED: alert rules, promtool is not installed (Debian: prometheus)",
)
RULES = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
RECORDED = {
    rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule
}
TESTS = Path(__file__).with_name("alerts.yaml")


def named(expression):
    """The metrics of an expression, recorded ones too."""
    outside = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:textcam[_:]|process_)[\w:]+|\bup\b", outside))


def existing():
    """Every name that Prometheus finds on /metrics, beside what it adds itself."""
    registry = Metrics().registry
    worker_restarts(registry)
    for family in registry.collect():
        suffixes = {
            "counter": ("_total",),
            "info": ("_info",),
            "histogram": ("_bucket", "_sum", "_count"),
        }
        yield from (family.name + suffix for suffix in suffixes.get(family.type, ("",)))


def panels():
    return json.loads((MONITORING / "dashboard.json").read_text())["panels"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    shutil.copy(TESTS, tmp_path)
    return tmp_path


def promtool(folder, *arguments):
    return subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@NEEDS_PROMTOOL
def test_the_rules_are_valid(folder):
    checked = promtool(folder, "check", "rules", "--lint-fatal", "rules.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@NEEDS_PROMTOOL
def test_alerts_fire_where_they_must_and_only_there(folder):
    tested = promtool(folder, "test", "rules", "alerts.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@NEEDS_PROMTOOL
@pytest.mark.parametrize("expression", ["vector(1) > 2", "vector(1)"])
def test_alerts_that_never_or_always_fire_would_be_found(folder, expression):
    spoilt = json.loads(json.dumps(RULES))
    for group in spoilt["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["expr"] = expression
    (folder / "rules.yaml").write_text(yaml.safe_dump(spoilt))
    found = promtool(folder, "test", "rules", "alerts.yaml")
    assert found.returncode == 1
    for rule in ALERTS:
        assert f'alertname="{rule["alert"]}"' in found.stdout + found.stderr


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_each_alert_is_tested_firing_and_quiet(alert):
    cases = [case["name"] for case in yaml.safe_load(TESTS.read_text())["tests"]]
    assert any(name.startswith(f"{alert} fires") for name in cases)
    assert any(name.startswith(f"{alert} keeps quiet") for name in cases)


def test_every_metric_that_is_named_exists():
    known = {*existing(), *RECORDED, "up"}
    expressions = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    expressions += [target["expr"] for panel in panels() for target in panel["targets"]]
    triggers = the("ScaledObject", "autoscaling")["spec"]["triggers"]
    expressions += [trigger["metadata"]["query"] for trigger in triggers]
    for expression in expressions:
        assert named(expression), expression
        assert named(expression) <= known, expression


def test_alerts_look_at_codes_and_stages_that_the_server_counts():
    text = json.dumps([RULES, panels()]).replace('\\"', '"')
    codes = {code for found in re.findall(r'code=~"([^"]+)"', text) for code in found.split("|")}
    assert codes
    assert codes <= {code.name for code in StatusCode}
    stages = set(re.findall(r'stage!?="([^"]+)"', text))
    assert stages
    assert stages <= set(STAGES)


def test_panels_lie_side_by_side():
    """Grafana takes any JSON: overlaps and doubled ids show only on the screen."""
    cells, ids = set(), set()
    for panel in panels():
        at = panel["gridPos"]
        area = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not area & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= area
        ids.add(panel["id"])
    assert len(ids) == len(panels())

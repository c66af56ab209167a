"""The guide's tables, as the code and the alerts have them: `python deploy/tables.py [--check]`.

Each stands in README.md between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from textcam_service.serving.telemetry.exposition import worker_restarts
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

DEPLOY = Path(__file__).parent
GUIDE = DEPLOY / "README.md"
RULES = DEPLOY / "kubernetes" / "components" / "monitoring" / "prometheusrule.yaml"
_SUFFIX = {"counter": "_total", "info": "_info"}
_SECTION = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def settings() -> Iterator[tuple[str, str, str]]:
    """Each setting of the server: name, default, meaning."""
    yield "setting", "default", "meaning"
    for name, field in ServerSettings.model_fields.items():
        # A path inside the package differs from machine to machine.
        default = "the package's own" if name == "bank" else field.default
        yield (
            f"`{name}`",
            "" if default in ("", (), None) else f"`{default}`",
            field.description or "",
        )


def metrics() -> Iterator[tuple[str, str, str]]:
    """Each metric of the product, as Prometheus names it: name, type, meaning."""
    yield "metric", "type", "meaning"
    registry = Metrics().registry
    worker_restarts(registry)
    for family in registry.collect():
        if family.name.startswith("textcam_"):
            name = family.name + _SUFFIX.get(family.type, "")
            yield f"`{name}`", family.type, family.documentation


def alerts() -> Iterator[tuple[str, str, str]]:
    """Each alert: name, when it fires, what to do."""
    yield "alert", "fires when", "what to do"
    for group in yaml.safe_load(RULES.read_text())["spec"]["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                severity, said = rule["labels"]["severity"], rule["annotations"]
                yield f"{rule['alert']} ({severity})", said["summary"], said["action"]


TABLES: dict[str, Callable[[], Iterator[tuple[str, str, str]]]] = {
    "settings": settings,
    "metrics": metrics,
    "alerts": alerts,
}


def rendered(guide: str) -> str:
    """The guide with its tables as they are to be.

    Raises:
        ValueError: A table has no place in the guide, or a place no table.
    """
    places = [name for _, name, _ in _SECTION.findall(guide)]
    if sorted(places) != sorted(TABLES):
        raise ValueError(f"the guide marks places for {places}; the tables are {list(TABLES)}")
    return _SECTION.sub(lambda place: place[1] + _table(TABLES[place[2]]()) + place[3], guide)


def _table(rows: Iterator[tuple[str, str, str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:], ""])


def main() -> int:
    """Rewrite the tables; with --check only say whether they would change."""
    guide = GUIDE.read_text()
    fresh = rendered(guide)
    if sys.argv[1:] == ["--check"]:
        if fresh != guide:
            sys.stderr.write("deploy/README.md is not what the code says: run `make guide`\n")
        return int(fresh != guide)
    GUIDE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())

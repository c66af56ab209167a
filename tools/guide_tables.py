"""Tables of the documentation, made from code and alerts.

`python tools/guide_tables.py` rewrites them, each between `<!-- begin NAME -->` and
`<!-- end NAME -->`; `--check` only compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from textcam_service import errors
from textcam_service.serving.status import code_of
from textcam_service.serving.telemetry.exposition import worker_restarts
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "deploy" / "kubernetes" / "components" / "monitoring"
RULES = MONITORING / "prometheusrule.yaml"
_SUFFIX = {"counter": "_total", "info": "_info"}
_SECTION = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def settings() -> Iterator[tuple[str, str, str]]:
    """Yield each setting of the server: name, default, meaning."""
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
    """Yield each metric of the product, by its Prometheus name: name, type, meaning."""
    yield "metric", "type", "meaning"
    registry = Metrics().registry
    worker_restarts(registry)
    for family in registry.collect():
        if family.name.startswith("textcam_"):
            name = family.name + _SUFFIX.get(family.type, "")
            yield f"`{name}`", family.type, family.documentation


def alerts() -> Iterator[tuple[str, str, str]]:
    """Yield each alert: name, when it fires, what to do."""
    yield "alert", "fires when", "what to do"
    for group in yaml.safe_load(RULES.read_text())["spec"]["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                severity, said = rule["labels"]["severity"], rule["annotations"]
                yield f"{rule['alert']} ({severity})", said["summary"], said["action"]


def reasons() -> Iterator[tuple[str, str, str]]:
    """Yield each fault that a call may be refused for: reason, gRPC code, meaning."""
    yield "reason", "gRPC code", "meaning"
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.TextCamError):
            code = code_of(error("")).name
            if code != "INTERNAL" and not issubclass(error, errors.ArtefactError):
                meaning = (error.__doc__ or "").splitlines()[0]
                yield f"`{error.reason}`", f"`{code}`", meaning


TABLES: dict[str, dict[str, Callable[[], Iterator[tuple[str, str, str]]]]] = {
    "deploy/README.md": {"settings": settings, "metrics": metrics, "alerts": alerts},
    "docs/errors.md": {"reasons": reasons},
}


def rendered(page: str, text: str) -> str:
    """Return a page's text with its tables rewritten.

    Raises:
        ValueError: The page's markers do not match its tables.
    """
    tables = TABLES[page]
    places = [name for _, name, _ in _SECTION.findall(text)]
    if sorted(places) != sorted(tables):
        raise ValueError(f"{page} marks places for {places}; its tables are {list(tables)}")
    return _SECTION.sub(lambda place: place[1] + _table(tables[place[2]]()) + place[3], text)


def _table(rows: Iterator[tuple[str, str, str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:], ""])


def main() -> int:
    """Rewrite the tables; with --check only report differences."""
    stale = []
    for page in TABLES:
        text = (ROOT / page).read_text()
        fresh = rendered(page, text)
        if fresh != text:
            stale.append(page)
            if sys.argv[1:] != ["--check"]:
                (ROOT / page).write_text(fresh)
    if stale and sys.argv[1:] == ["--check"]:
        sys.stderr.write(f"{', '.join(stale)} differ from the code: run `make guide`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

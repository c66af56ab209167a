"""Report of an evaluation: tables as text and JSON, and a chart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CHARTED = {
    "words": ("precision", "swapped", "recall"),
    "reliability": ("probability", "observed"),
    "place": ("pointing", "energy", "iou_best"),
    "groups": ("pointing", "chance"),
    "counterfactual": ("rank_correlation", "within_scene"),
    "cues": ("named", "named_by_twin", "auroc"),
}
_INK, _GREY, _ACCENTS = "#22222a", "#b9b9c4", ("#5a3fd6", "#c2418f", "#f08a4b")


def as_text(report: Mapping[str, Any]) -> str:
    """Format all tables, aligned, then the notes."""
    lines = []
    if "judged" in report:
        lines.append(f"{report['judged']} of {report['images']} images judged")
    if report.get("accuracy") is not None:
        lines[0] += f" (those that the network gets right: accuracy {report['accuracy']:.3f})"
    for name, table in report.items():
        if isinstance(table, Mapping):
            lines += ["", *_table(name, table)]
    if report.get("notes"):
        lines += ["", *report["notes"]]
    return "\n".join(lines)


def as_json(report: Mapping[str, Any]) -> str:
    """Format a report as JSON; unknown values (nan) become null."""

    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: known(inner) for key, inner in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    return json.dumps(known(report), indent=2, allow_nan=False) + "\n"


def write_report(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write report.json, report.txt and report.png into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"report.{kind}" for kind in ("json", "txt", "png")]
    paths[0].write_text(as_json(report))
    paths[1].write_text(as_text(report) + "\n")
    _draw(report, paths[2])
    return paths


def _table(name: str, table: Mapping[str, Mapping[str, float]]) -> list[str]:
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    width = max(len(name), *(len(row) for row in table)) + 2
    widths = [max(len(column), 8) + 2 for column in columns]
    head = name.ljust(width) + "".join(c.rjust(w) for c, w in zip(columns, widths, strict=True))
    return [head, "-" * len(head)] + [
        row.ljust(width)
        + "".join(_figure(values.get(c)).rjust(w) for c, w in zip(columns, widths, strict=True))
        for row, values in table.items()
    ]


def _figure(value: float | None) -> str:
    if value is None or math.isnan(value):  # not known
        return "-"
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.3f}"


def _draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw one panel per table, the method in colour and its controls in grey."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of backend

    names = [name for name in _CHARTED if name in report]
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.6 * len(names), 3.6), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        columns = _CHARTED[name]
        rows = list(report[name].items())
        height = 0.8 / len(columns)
        for place, (row, values) in enumerate(rows):
            for order, column in enumerate(columns):
                value = values.get(column, float("nan"))
                if math.isnan(value):
                    continue
                at = len(rows) - place - (order + 0.5) * height + 0.4
                colour = _GREY if row.startswith("control") else _ACCENTS[order]
                axis.barh(at, value, height * 0.9, color=colour)
                axis.text(
                    max(value, 0) + 0.02,
                    at,
                    f"{column} {value:.2f}",
                    va="center",
                    fontsize=7,
                    color=_INK,
                )
        axis.set_yticks(
            [len(rows) - place for place in range(len(rows))],
            [row.removeprefix("control: ") for row, _ in rows],
            fontsize=8,
        )
        axis.set_xlim(0, 1.45)
        axis.set_xticks([0, 0.5, 1])
        axis.set_title(name, loc="left", fontsize=11, color=_INK)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)

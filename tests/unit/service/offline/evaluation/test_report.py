"""A report for people and for programs."""

import json

import pytest
from PIL import Image
from textcam_service.offline.evaluation.report import as_text, write_report


def test_a_report_is_written_as_json_text_and_chart(tmp_path):
    row = {"precision": 0.5, "swapped": 0.25, "recall": float("nan")}
    report = {
        "images": 4,
        "judged": 3,
        "accuracy": 0.75,
        "words": {"TextCAM": row, "control: random directions": row},
    }
    text = as_text(report)
    assert "3 of 4 images judged" in text
    assert "0.250" in text
    paths = write_report(report, tmp_path)
    strict = json.loads(paths[0].read_text(), parse_constant=pytest.fail)
    assert strict["words"]["TextCAM"]["recall"] is None
    assert [path.name for path in paths] == ["report.json", "report.txt", "report.png"]
    assert Image.open(paths[2]).width > 300

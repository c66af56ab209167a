"""The report is made from an audit's own files."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pytest
from audit_pages import picture
from audit_samples import description, failed, record, work_rows
from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.findings.model import AuditSummary
from textcam_client.audit.records.description import write_description
from textcam_client.audit.records.schema import work_schema
from textcam_client.audit.records.writer import write_records
from textcam_client.audit.report.from_folder import ComparedFolder, write_folder_report


def summary(model="fake 1"):
    return AuditSummary("data", model, {"rows": 3}, {}, {}, None, [], [], [], {}, [])


def audited(folder, *predicted):
    """Output folder of an audit of three rows, the second without an answer."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    thumbnail = picture(0, rng)
    given = [record(0, 0, predicted[0]), failed(1), record(2, 1, predicted[1])]
    given = [dataclasses.replace(own, thumbnail=b"" if own.failure else thumbnail) for own in given]
    segment = pa.Table.from_pylist(work_rows(given), work_schema(["light"]))
    write_records([segment], ["light"], folder)
    write_description(folder / "audit.json", description())
    return folder


def thumbnails_in(text):
    return re.findall(r'id="thumbs-0">([^<]*)<', text)[0].strip("\n").split("\n")


def test_rows_and_thumbnails_come_from_the_folder(tmp_path):
    folder = audited(tmp_path / "audit", 0, 1)
    path = write_folder_report(folder, summary())
    assert path == folder / "report.html"
    text = path.read_text("utf-8")
    assert "3 images in this file" in text
    first, second, third = thumbnails_in(text)
    assert first.startswith("UklGR"), "RIFF, the first letters of a WebP file"
    assert third.startswith("UklGR")
    assert second == ""


def test_two_folders_are_compared_by_row_id(tmp_path):
    folder, earlier = audited(tmp_path / "now", 0, 1), audited(tmp_path / "then", 2, 1)
    other = ComparedFolder(earlier, summary("fake 0"))
    text = write_folder_report(folder, summary(), other=other).read_text("utf-8")
    assert "Comparison with fake 0" in text
    cells = re.findall(r'<td class="number"[^>]*>(\d+)</td>', text)
    assert cells[:4] == ["1", "1", "0", "0"]


def test_a_folder_without_an_audit_is_refused(tmp_path):
    write_description(tmp_path / "audit.json", description())
    with pytest.raises(OutputRefused, match=r"has audit\.json but no records\.parquet"):
        write_folder_report(tmp_path, summary())

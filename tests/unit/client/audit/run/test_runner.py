"""Run of an audit: resuming, refusing, stopping."""

import errno
import json
import os

import pytest
from audit_runs import audited, contents, plant
from textcam_client import Client, NotFound, Unavailable
from textcam_client.audit.datasets.opening import open_data_set
from textcam_client.audit.errors import AuditStopped, DataSetError, OutputRefused
from textcam_client.audit.records.reading import read_records
from textcam_client.audit.run.progress import Silent
from textcam_client.testing import serve_in_memory


class StopAfter(Silent):
    """Progress that ends the run after some rows."""

    def __init__(self, rows, error):
        self._left, self._error = rows, error

    def advance(self, rows):
        self._left -= rows
        if self._left < 0:
            raise self._error


@pytest.fixture
def server():
    with serve_in_memory() as running:
        yield running


@pytest.fixture
def client(server):
    with server.client() as connected:
        yield connected


@pytest.fixture
def data(tmp_path):
    return plant(tmp_path / "data", 45)


def test_the_files_of_an_audit(client, data, tmp_path):
    described = audited(client, data, tmp_path / "out")
    assert list(contents(tmp_path / "out")) == [
        "audit.json", "failures.csv", "records.parquet", "sprites/0000.webp",
    ]  # fmt: skip
    assert described.provenances[0]["decoder"] == "pillow/PNG"
    audit = json.loads((tmp_path / "out" / "audit.json").read_bytes())
    assert audit["data"]["rows"] == 45
    assert audit["settings"] == {
        "method": None, "max_phrases": 8, "floor": 0.001, "may_degrade": False,
    }  # fmt: skip


def test_two_audits_have_the_same_bytes_whatever_their_pace(client, data, tmp_path):
    audited(client, data, tmp_path / "one", concurrency=1, segment_rows=7)
    audited(client, data, tmp_path / "other", concurrency=16, segment_rows=50)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_stopped_run_goes_on_to_the_same_bytes(server, client, data, tmp_path, error):
    audited(client, data, tmp_path / "whole")
    asked = len(server.requests)
    server.requests.clear()
    with pytest.raises(AuditStopped, match="run the same command again to go on"):
        audited(client, data, tmp_path / "out", StopAfter(25, error))
    audited(client, data, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    # Asked twice are at most the images in flight and in the open file.
    assert asked <= len(server.requests) <= asked + 2 * (8 + 10)


def test_a_finished_audit_is_not_asked_again(server, client, data, tmp_path):
    first = audited(client, data, tmp_path / "out")
    before, asked = contents(tmp_path / "out"), len(server.requests)
    assert audited(client, data, tmp_path / "out").model.title == first.model.title
    assert (contents(tmp_path / "out"), len(server.requests)) == (before, asked)


def test_other_data_settings_or_models_are_refused(server, client, data, tmp_path):
    audited(client, data, tmp_path / "out")
    with pytest.raises(OutputRefused, match="with floor"):
        audited(client, data, tmp_path / "out", floor=0.5)
    (data / "daisy" / "0001.png").unlink()
    with pytest.raises(OutputRefused, match=r"45 rows of .*, not these 44 rows"):
        audited(client, data, tmp_path / "out")


def test_an_unfinished_audit_keeps_its_version(data, tmp_path):
    stop = StopAfter(25, KeyboardInterrupt())
    with (
        serve_in_memory(version="1") as server,
        server.client() as client,
        pytest.raises(AuditStopped, match="interrupted"),
    ):
        audited(client, data, tmp_path / "out", stop)
    with serve_in_memory(version="2") as server, server.client() as client:
        with pytest.raises(AuditStopped, match="unfinished audit of fake 1, which the server does"):
            audited(client, data, tmp_path / "out")
        assert server.requests == []
    with serve_in_memory(version="1") as server, server.client() as client:
        audited(client, data, tmp_path / "out")
    assert len(list(read_records(tmp_path / "out"))) == 45


def test_a_finished_audit_is_evaluated_by_its_version_served_or_not(data, tmp_path):
    with serve_in_memory(version="1") as server, server.client() as client:
        audited(client, data, tmp_path / "out")
    with serve_in_memory(version="2") as server, server.client() as client:
        with pytest.raises(OutputRefused, match=r"name its version .* \(--version 1\)"):
            audited(client, data, tmp_path / "out")
        assert audited(client, data, tmp_path / "out", version="1").model.title == "fake 1"
        with pytest.raises(NotFound):
            audited(client, data, tmp_path / "out", version="3")
        assert server.requests == []


def test_one_image_and_none(client, tmp_path):
    audited(client, plant(tmp_path / "one", 1), tmp_path / "out")
    assert len(list(read_records(tmp_path / "out"))) == 1
    (tmp_path / "none").mkdir()
    with pytest.raises(DataSetError, match="has no images"):
        audited(client, tmp_path / "none", tmp_path / "out2")


def test_data_that_shrink_meanwhile_are_told(client, data, tmp_path):
    class Shrinking:
        name = "shrinking"
        rows_left = 3

        def __init__(self, own):
            self._own = own

        def rows(self):
            self.rows_left -= 1
            rows = list(self._own.rows())
            return iter(rows[: 45 if self.rows_left == 2 else 44])

    with pytest.raises(OutputRefused, match="had 45 rows at the start and has 44 now"):
        audited(client, Shrinking(open_data_set(str(data))), tmp_path / "out")


def test_no_server_at_the_start_is_told_soon(data, tmp_path):
    with Client("127.0.0.1:1") as nowhere, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        audited(nowhere, data, tmp_path / "out", patience_s=0.3)


def test_an_output_folder_in_the_data_is_refused_before_anything_is_made(client, data):
    with pytest.raises(OutputRefused, match="lies in the data set"):
        audited(client, data, data / "report")
    assert not (data / "report").exists()


def test_hostile_names_labels_and_files_become_records(client, tmp_path):
    data = plant(tmp_path / os.fsdecode(b"data-\xe9"), 2)
    os.mkfifo(data / "daisy" / "b.png")
    (data / ("9" * 200)).mkdir()
    audited(client, data, tmp_path / "out")
    records = list(read_records(tmp_path / "out"))
    assert [record.row_id for record in records] == [
        "daisy/0001.png", "daisy/b.png", "tabby cat/0000.png",
    ]  # fmt: skip
    assert (
        records[1].failure == "cannot read the image: it is a pipe, a socket or a device, no file"
    )
    assert [bool(record.failure) for record in records] == [False, True, False]

"""Audits whose process is killed, or finds its output in use or full."""

import threading
from pathlib import Path

import pytest
from audit_process import end, safe_rows, start, wait_for
from audit_runs import audited, contents, plant
from textcam_client.audit.datasets.opening import open_data_set
from textcam_client.audit.records.reading import read_records
from textcam_client.testing import serve_in_memory

ROWS, SEGMENT = 160, 10


@pytest.fixture
def server():
    with serve_in_memory() as running:
        yield running


@pytest.fixture
def data(tmp_path):
    return plant(tmp_path / "data", ROWS)


@pytest.fixture
def whole(server, data, tmp_path):
    """The files of an audit that nothing disturbed."""
    with server.client() as client:
        audited(client, data, tmp_path / "whole")
    server.requests.clear()
    return contents(tmp_path / "whole")


def test_killed_five_times_it_ends_with_the_same_bytes_and_asks_nothing_twice(
    server, data, whole, tmp_path
):
    output = tmp_path / "out"
    images = [row.read() for row in open_data_set(str(data)).rows()]
    server.latency = 0.05
    for kill in range(1, 6):
        before = safe_rows(output)
        server.requests.clear()
        process = start(server.address, data, output, segment_rows=SEGMENT)
        asked_for = before + SEGMENT * (1 + kill % 3)
        wait_for(lambda least=asked_for: safe_rows(output) >= least, "records are safe")
        process.kill()
        process.communicate()
        # What was safe when this process began, was not asked for again.
        safe = set(images[:before])
        assert not safe & {request.encoded for request in server.requests}
    before = safe_rows(output)
    assert SEGMENT * 5 <= before < ROWS
    server.requests.clear()
    server.latency = 0
    assert end(start(server.address, data, output, segment_rows=SEGMENT)) == (0, "")
    assert not set(images[:before]) & {request.encoded for request in server.requests}
    assert contents(output) == whole


def test_killed_while_the_files_are_written_it_ends_with_the_same_bytes(
    server, data, whole, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    # As if killed between the last record and the end: all segments are there, and a file in part.
    with server.client() as client, monkeypatch.context() as patched:
        patched.setattr("textcam_client.audit.run.runner.write_records", _die)
        with pytest.raises(_Died):
            audited(client, data, output)
    (output / "records.parquet.part").write_bytes(b"half")
    (output / "records.parquet").write_bytes(b"of an earlier try")
    server.requests.clear()
    assert end(start(server.address, data, output)) == (0, "")
    assert server.requests == []
    assert contents(output) == whole


class _Died(BaseException):
    pass


def _die(*_: object) -> None:
    raise _Died


def test_a_second_process_on_one_folder_is_refused(server, data, whole, tmp_path):
    output = tmp_path / "out"
    server.latency = 0.05
    first = start(server.address, data, output, segment_rows=SEGMENT, concurrency=1)
    wait_for(lambda: safe_rows(output), "records are safe")
    refused = threading.Event()
    server.latency = lambda _: float(not refused.wait(120))  # the first stays at work
    status, words = end(start(server.address, data, output))
    refused.set()
    assert status == 1
    assert "OutputRefused: another process audits into" in words
    assert end(first) == (0, "")
    assert contents(output) == whole


@pytest.mark.parametrize("largest", [2_000, 60_000])
def test_a_full_disk_is_told_and_the_run_goes_on_later(server, data, whole, tmp_path, largest):
    # At 2,000 bytes no segment fits; at 60,000 they do, and a sheet of thumbnails does not.
    output = tmp_path / "out"
    status, words = end(start(server.address, data, output, largest_file=largest))
    assert status == 1
    assert "AuditStopped: there is no space left to write" in words
    assert "run the same command again to go on" in words
    assert not list(Path(output).rglob("*.part"))
    server.requests.clear()
    assert end(start(server.address, data, output)) == (0, "")
    assert (server.requests == []) == (largest == 60_000)
    assert contents(output) == whole


def test_duplicates_unknown_labels_and_broken_images_survive_a_kill(server, tmp_path):
    data = plant(tmp_path / "data", 60, ("tabby cat", "zebra"))
    content = (data / "zebra" / "0001.png").read_bytes()
    for index in range(1, 60, 4):
        (data / "zebra" / f"{index:04d}.png").write_bytes(content)
        (data / "tabby cat" / f"{index + 1:04d}.png").write_bytes(b"broken")
    server.latency = 0.02
    output = tmp_path / "out"
    process = start(server.address, data, output, segment_rows=7)
    wait_for(lambda: safe_rows(output) >= 28, "records are safe")
    process.kill()
    process.communicate()
    assert end(start(server.address, data, output)) == (0, "")
    with server.client() as client:
        audited(client, data, tmp_path / "whole")
    assert contents(output) == contents(tmp_path / "whole")
    records = list(read_records(output))
    assert len(records) == 60
    assert sum(one.failure_reason == "UNSUPPORTED_IMAGE" for one in records) == 15

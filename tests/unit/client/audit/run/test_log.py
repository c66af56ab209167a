"""Log of finished records."""

import pytest
from audit_samples import CLASSES, failed, record
from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.run.log import RecordLog


def opened(folder, rows=2):
    return RecordLog(folder, ["light"], CLASSES, rows)


def test_whole_files_survive_and_the_open_one_is_lost(tmp_path):
    log = opened(tmp_path)
    assert log.place_of('{"decoder": "a"}') == 0
    assert log.place_of('{"decoder": "b"}') == 1
    for index in range(5):
        log.append(record(index, thumbnail=b"picture"), 10 + index)
    assert (log.safe, log.next_index) == (4, 5)
    again = opened(tmp_path)
    assert (again.safe, again.next_index) == (4, 4)
    assert again.keys == {10: 0, 11: 1, 12: 2, 13: 3}
    assert again.provenances == log.provenances
    assert [table.num_rows for table in again.tables()] == [2, 2]


def test_records_are_found_in_files_and_before(tmp_path):
    log = opened(tmp_path)
    for index in range(5):
        log.append(failed(index) if index == 3 else record(index, thumbnail=b"picture"), 0)
    assert [log.record(index).index for index in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert (log.record(3).failure_reason, log.record(4).thumbnail) == (
        "IMAGE_UNREADABLE",
        b"picture",
    )
    assert log.keys == {}


def test_flushing_writes_a_shorter_file_and_going_on_is_possible(tmp_path):
    log = opened(tmp_path, 10)
    log.append(record(0), 7)
    log.flush()
    log.flush()
    again = opened(tmp_path, 1)
    again.append(record(1), 7)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "000000000000.arrow", "000000000001.arrow",
    ]  # fmt: skip
    assert opened(tmp_path).keys == {7: 0}


def test_a_file_in_part_is_passed_over(tmp_path):
    (tmp_path / "000000000000.arrow.part").write_bytes(b"half")
    assert opened(tmp_path).safe == 0


def test_a_missing_or_damaged_file_is_told(tmp_path):
    log = opened(tmp_path, 1)
    for index in range(3):
        log.append(record(index), 0)
    (tmp_path / "000000000001.arrow").write_bytes(b"damage")
    with pytest.raises(OutputRefused, match=r"000000000001\.arrow is damaged"):
        opened(tmp_path)
    (tmp_path / "000000000001.arrow").unlink()
    with pytest.raises(OutputRefused, match="lacks the records from 1 on"):
        opened(tmp_path)

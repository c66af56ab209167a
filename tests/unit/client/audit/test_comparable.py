"""Earlier audits, looked at before anything is asked for."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_runs import plant
from audit_samples import description, record, work_rows
from textcam_client.audit.comparable import require_comparable
from textcam_client.audit.datasets.opening import open_data_set
from textcam_client.audit.errors import NotComparable, OutputRefused
from textcam_client.audit.records.description import write_description
from textcam_client.audit.records.schema import work_schema
from textcam_client.audit.records.writer import RECORDS, write_records


@pytest.fixture
def data(tmp_path):
    return open_data_set(str(plant(tmp_path / "data", 4)))


def audit_of(folder, *row_ids):
    folder.mkdir()
    rows = [record(index, row_id=row_id) for index, row_id in enumerate(row_ids)]
    table = pa.Table.from_pylist(work_rows(rows), work_schema(["light"]))
    write_records([table], ["light"], folder)
    write_description(folder / "audit.json", description(rows=len(rows)))
    return folder


def test_one_common_row_is_enough(data, tmp_path):
    last = list(data.rows())[-1].row_id
    require_comparable(audit_of(tmp_path / "before", "a", last, "z"), data)


def test_an_audit_of_other_data_is_refused(data, tmp_path):
    with pytest.raises(NotComparable, match=r"audit of data, which has no row of .*/data"):
        require_comparable(audit_of(tmp_path / "before", "a", "b"), data)


def test_a_folder_that_holds_no_whole_audit_is_refused(data, tmp_path):
    with pytest.raises(OutputRefused, match="holds no finished audit"):
        require_comparable(tmp_path / "data", data)
    before = audit_of(tmp_path / "before", *(row.row_id for row in data.rows()))
    pq.write_table(pq.read_table(before / RECORDS).slice(0, 3), before / RECORDS)
    with pytest.raises(OutputRefused, match="it has 3 rows, and the audit has 4"):
        require_comparable(before, data)
    (before / RECORDS).unlink()
    with pytest.raises(OutputRefused, match=r"has audit\.json but no records\.parquet"):
        require_comparable(before, data)

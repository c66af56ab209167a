"""Maps of examples in their file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from textcam_client.audit.records.maps import MAPS, ExampleMap, MapsDamaged, read_maps, write_maps


def test_maps_come_back_by_row(tmp_path):
    one, other = np.arange(6, dtype=np.float32).reshape(2, 3), -np.ones((1, 1), np.float32)
    assert read_maps(tmp_path, [3]) == {}
    write_maps(
        tmp_path,
        {7: [ExampleMap("fur", other)], 3: [ExampleMap("", one), ExampleMap("fur", other)]},
    )
    found = read_maps(tmp_path, [3, 4])
    assert list(found) == [3]
    assert [each.phrase for each in found[3]] == ["", "fur"]
    assert np.array_equal(found[3][0].values, one)
    assert found[3][0].values.dtype == np.float32


def test_a_damaged_file_is_told(tmp_path):
    write_maps(tmp_path, {3: [ExampleMap("", np.ones((2, 3), np.float32))]})
    path = tmp_path / MAPS
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(MapsDamaged, match=r"maps\.parquet is damaged"):
        read_maps(tmp_path, [3])
    path.write_bytes(whole)
    table = pq.read_table(path)
    heights = pa.array([7], pa.int32())
    pq.write_table(table.set_column(2, table.schema.field(2), heights), path)
    with pytest.raises(MapsDamaged, match="reshape"):
        read_maps(tmp_path, [3])
    pq.write_table(table.drop(["phrase"]), path)
    with pytest.raises(MapsDamaged, match="columns are index, height"):
        read_maps(tmp_path, [3])

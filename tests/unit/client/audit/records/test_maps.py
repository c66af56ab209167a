"""Maps of examples in their file."""

import numpy as np
from textcam_client.audit.records.maps import ExampleMap, read_maps, write_maps


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

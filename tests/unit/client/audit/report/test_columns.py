"""Columns are read back from the page's text as a browser reads them."""

import base64
import gzip
import json

import numpy as np
import pytest
from textcam_client.audit.report.columns import Columns, packed_json


def unpacked(text):
    return gzip.decompress(base64.b64decode(text))


def read(columns, name):
    own = columns.directory[name]
    dtype = {"Uint8Array": "u1", "Int16Array": "<i2", "Int32Array": "<i4", "Float32Array": "<f4"}
    kind = np.dtype(dtype[own["type"]])
    assert own["offset"] % 8 == 0, "a typed array begins at a multiple of its size"
    return np.frombuffer(unpacked(columns.packed()), kind, own["length"], own["offset"])


def test_numbers_come_back_from_where_the_directory_says():
    columns = Columns()
    columns.add("flag", [1, 0, 1], "u1")
    columns.add("index", [3, -1, 70_000], "i4")
    columns.add("logit", [0.5, float("nan")], "f4")
    assert read(columns, "flag").tolist() == [1, 0, 1]
    assert read(columns, "index").tolist() == [3, -1, 70_000]
    np.testing.assert_array_equal(read(columns, "logit"), [0.5, np.nan])


def test_fractions_keep_the_largest_exactly_and_the_others_to_a_step():
    columns = Columns()
    given = np.array([4.0, -4.0, 1e-3, 0.7771, np.nan])
    columns.add_fractions("evidence", given)
    scale = columns.directory["evidence"]["scale"]
    steps = read(columns, "evidence")
    assert steps[4] == -32768
    assert steps[0] * scale == pytest.approx(4.0, rel=1e-12)
    np.testing.assert_allclose(steps[:4] * scale, given[:4], atol=scale / 2)


def test_fractions_of_nothing_or_of_zeros_have_a_scale():
    columns = Columns()
    columns.add_fractions("none", [])
    columns.add_fractions("zeros", [0.0, 0.0])
    assert columns.directory["none"]["scale"] == columns.directory["zeros"]["scale"] == 1.0
    assert read(columns, "zeros").tolist() == [0, 0]


def test_starts_are_the_places_of_lists_in_a_flat_column():
    columns = Columns()
    columns.add_starts("start", ["ab", "", "cde"])
    assert read(columns, "start").tolist() == [0, 2, 2, 5]


def test_text_of_json_has_no_letter_that_a_tag_needs():
    text = packed_json({"name": "</script><!--", "broken": "\udcff"})
    assert not set(text) & set("<>&\"'")
    assert json.loads(unpacked(text)) == {"name": "</script><!--", "broken": "?"}


def test_the_same_numbers_are_the_same_text():
    first, second = Columns(), Columns()
    for columns in (first, second):
        columns.add("index", range(1000), "i4")
    assert first.packed() == second.packed()


def test_a_number_that_json_lacks_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        packed_json(float("nan"))

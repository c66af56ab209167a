"""Lists of images as data sets."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from textcam_client.audit.datasets.dataset import DataOptions
from textcam_client.audit.datasets.storage import LocalStorage
from textcam_client.audit.datasets.table import TableList
from textcam_client.audit.errors import DataSetError


def listed(path, **options):
    return list(TableList(str(path), LocalStorage(), DataOptions(**options)).rows())


def csv_file(folder, text, encoding="utf-8"):
    path = folder / "list.csv"
    path.write_text(text, encoding)
    return path


def test_paths_are_relative_to_the_list_and_other_columns_are_slices(tmp_path):
    (tmp_path / "a.png").write_bytes(b"image")
    (tmp_path / "a-mask.png").write_bytes(b"mask")
    path = csv_file(
        tmp_path,
        "path,label,mask,light,site\na.png,cat,a-mask.png,day,\n/far/b.png,,,night,7\n",
        "utf-8-sig",
    )
    first, second = listed(path)
    assert (first.row_id, first.label, dict(first.slices)) == (
        "a.png", "cat", {"light": "day", "site": ""},
    )  # fmt: skip
    assert first.read() == b"image"
    assert first.read_mask() == b"mask"
    assert (second.path, second.label, second.read_mask) == ("/far/b.png", None, None)


def test_parquet_gives_the_same_rows_as_csv(tmp_path):
    table = pa.table(
        {
            "path": ["a.png", "b.png"],
            "label": [3, None],
            "dose": [1.0, None],
            "embedding": [[0.5], [0.25]],
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    rows = listed(tmp_path / "list.parquet")
    text = csv_file(tmp_path, "path,label,dose\na.png,3,1\nb.png,,\n")
    assert rows == listed(text)
    assert rows[0].slices == {"dose": "1"}


def test_columns_have_the_names_that_are_given(tmp_path):
    path = csv_file(tmp_path, "file,species,light\na.png,cat,day\n")
    (row,) = listed(path, path_column="file", label_column="species", slice_columns=["light"])
    assert (row.row_id, row.label, dict(row.slices)) == ("a.png", "cat", {"light": "day"})


@pytest.mark.parametrize(
    ("text", "options", "fault"),
    [
        ("file,label\na.png,cat\n", {}, "no column 'path'; its columns are 'file', 'label'"),
        ("path\na.png\n", {"label_column": "species"}, "no column 'species'"),
        ("path\na.png\n", {"slice_columns": ["light"]}, "no column 'light'"),
        ("path,label\na.png,cat\n,dog\n", {}, "row 2 of .* has no path"),
        ("path,label\na.png,cat,day\n", {}, "more values than there are columns"),
        ('path,label\n"a.png,cat\n', {}, "cannot be read"),
    ],
)
def test_a_faulty_list_is_refused_in_words(tmp_path, text, options, fault):
    with pytest.raises(DataSetError, match=fault):
        listed(csv_file(tmp_path, text), **options)


def test_a_file_that_is_no_parquet_is_refused_in_words(tmp_path):
    path = tmp_path / "list.parquet"
    path.write_bytes(b"path,label\n")
    with pytest.raises(DataSetError, match=re.escape(str(path))):
        listed(path)

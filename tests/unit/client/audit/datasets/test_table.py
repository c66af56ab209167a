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
        ("path,Label\na.png,cat\n", {}, "no column 'label' but 'Label'"),
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


@pytest.mark.parametrize(
    "text", ["path, label, light\na.png,cat,day\n", "path,label,light \na.png, cat, day\n"]
)
def test_spaces_around_names_of_columns_mean_nothing(tmp_path, text):
    (row,) = listed(csv_file(tmp_path, text))
    assert (row.label, dict(row.slices)) == ("cat", {"light": "day"})


@pytest.mark.parametrize(
    ("encoding", "label", "fault"),
    [
        ("latin-1", "caf\u00e9", "no UTF-8 text .*: save it as UTF-8"),
        ("utf-16", "cat", "no UTF-8 text .*: save it as UTF-8"),
        ("utf-16-le", "cat", "NUL"),
    ],
)
def test_another_encoding_is_named_with_the_mend(tmp_path, encoding, label, fault):
    path = csv_file(tmp_path, f"path,label\na.png,{label}\n", encoding)
    with pytest.raises(DataSetError, match=fault):
        listed(path)


def test_columns_of_one_name_are_refused_in_both_kinds(tmp_path):
    table = pa.table([["a.png"], ["cat"], ["dog"]], ["path", "label", " label"])
    pq.write_table(table, tmp_path / "list.parquet")
    for path in (tmp_path / "list.parquet", csv_file(tmp_path, "path,label,label\na.png,c,d\n")):
        with pytest.raises(DataSetError, match="several columns have the name 'label'"):
            listed(path)


@pytest.mark.parametrize(
    "values", [pa.array([b"cat"]), pa.array([["cat"]]), pa.array([b"cat"]).dictionary_encode()]
)
def test_a_column_of_bytes_or_arrays_is_no_label_and_no_slice(tmp_path, values):
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"path": ["a.png"], "label": values}), path)
    with pytest.raises(DataSetError, match=r"the column 'label' holds .*, not a text or a number"):
        listed(path)
    (row,) = listed(path, label_column="path", slice_columns=[])
    assert row.label == "a.png"
    with pytest.raises(DataSetError, match="the column 'label' holds"):
        listed(path, label_column="path", slice_columns=["label"])

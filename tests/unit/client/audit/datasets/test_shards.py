"""WebDataset tars as data sets."""

import io
import json
import os
import tarfile

import pytest
from textcam_client.audit.datasets.dataset import DataOptions
from textcam_client.audit.datasets.shards import Shards
from textcam_client.audit.datasets.storage import LocalStorage
from textcam_client.audit.errors import DataSetError


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def listed(*tars, **options):
    return list(Shards(tars[0], list(tars), LocalStorage(), DataOptions(**options)).rows())


SAMPLES = {
    "train/0001.jpg": b"one",
    "train/0001.cls": b"3\n",
    "train/0001.json": json.dumps({"light": "day", "boxes": [1], "label": "ignored"}).encode(),
    "train/0002.PNG": b"two",
    "train/0002.json": json.dumps({"label": 5, "light": "night"}).encode(),
    "train/0003.jpeg": b"three",
    "train/0003.mask.png": b"mask",
    "train/0003.txt": b"tabby cat",
    "train/0004.cls": b"7",
}


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz")])
def test_samples_have_their_label_slices_and_mask(tmp_path, suffix, mode):
    rows = listed(write_tar(tmp_path / f"shard{suffix}", SAMPLES, mode))
    assert [(row.row_id, row.label, dict(row.slices)) for row in rows] == [
        ("train/0001", "3", {"light": "day"}),
        ("train/0002", "5", {"light": "night"}),
        ("train/0003", "tabby cat", {}),
    ]
    assert [row.read() for row in rows] == [b"one", b"two", b"three"]
    assert rows[2].read_mask() == b"mask"
    assert rows[0].read_mask is None


def test_rows_of_several_tars_have_the_tars_name_in_their_id(tmp_path):
    one = write_tar(tmp_path / "a-000.tar", {"0.jpg": b"1"})
    two = write_tar(tmp_path / "a-001.tar", {"0.jpg": b"2"})
    rows = listed(one, two)
    assert [(row.index, row.row_id) for row in rows] == [(0, "a-000/0"), (1, "a-001/0")]
    assert rows[1].read() == b"2"


@pytest.mark.parametrize(
    "names", [("p.v2.jpg", "p.v3.jpg"), ("p.jpg", "p.png"), ("p.jpg", "p.jpg")]
)
def test_two_images_of_one_key_are_refused_by_name(tmp_path, names):
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataSetError, match=f"{names[0]} and {names[1]} in .* the same key 'p'"):
        listed(str(path))


@pytest.mark.parametrize(
    ("files", "fault"),
    [({"0.jpg": b"", "0.json": b"{"}, "is no JSON"), ({"0.jpg": b"", "0.json": b"[]"}, "object")],
)
def test_faulty_json_is_refused_in_words(tmp_path, files, fault):
    with pytest.raises(DataSetError, match=fault):
        listed(write_tar(tmp_path / "shard.tar", files))


def test_a_damaged_tar_is_refused_in_words(tmp_path):
    (tmp_path / "shard.tar").write_bytes(b"no tar" * 300)
    with pytest.raises(DataSetError, match="is no tar, or is damaged"):
        listed(str(tmp_path / "shard.tar"))


def test_json_that_is_nested_too_deeply_is_refused_in_words(tmp_path):
    tar = write_tar(tmp_path / "shard.tar", {"0.jpg": b"", "0.json": b"[" * 100_000})
    with pytest.raises(DataSetError, match=r"0.json in .* is nested too deeply"):
        listed(tar)


def test_an_array_is_no_label_unless_another_file_has_it(tmp_path):
    files = {"0.jpg": b"", "0.json": b'{"label": [1, 2]}'}
    with pytest.raises(DataSetError, match=r"the label in 0.json in .* is an array or"):
        listed(write_tar(tmp_path / "shard.tar", files))
    (row,) = listed(write_tar(tmp_path / "other.tar", {**files, "0.cls": b"1"}))
    assert (row.label, row.slices) == ("1", {})


def test_names_and_values_that_are_no_utf8_become_text(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    values = b'{"label": "\\udfff", "light\\ud800": "\\udc80"}'
    (row,) = listed(
        write_tar(tmp_path / "shard.tar", {name: b"image", f"{name[:-4]}.json": values})
    )
    assert (row.row_id, row.label) == ("caf\\udce9", "\\udfff")
    assert row.path == f"{tmp_path}/shard.tar/caf\\udce9.jpg"
    assert row.slices == {"light\\ud800": "\\udc80"}
    assert row.read() == b"image"

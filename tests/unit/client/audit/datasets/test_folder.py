"""Folder trees as data sets."""

import os

from textcam_client.audit.datasets.dataset import DataOptions
from textcam_client.audit.datasets.folder import FolderTree, is_image
from textcam_client.audit.datasets.storage import LocalStorage


def listed(root, **options):
    return list(FolderTree(str(root), LocalStorage(), DataOptions(**options)).rows())


def plant(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def test_the_first_folder_is_the_label_and_order_is_by_name(tmp_path):
    plant(tmp_path, "dog/b.PNG", "cat/night/a.jpg", "cat/z.webp", "top.jpeg", "cat/notes.txt")
    rows = listed(tmp_path)
    assert [(row.index, row.row_id, row.label) for row in rows] == [
        (0, "cat/night/a.jpg", "cat"),
        (1, "cat/z.webp", "cat"),
        (2, "dog/b.PNG", "dog"),
        (3, "top.jpeg", None),
    ]
    assert rows[0].read() == b"cat/night/a.jpg"
    assert rows[0].path == str(tmp_path / "cat/night/a.jpg")


def test_flat_folders_are_no_labels(tmp_path):
    plant(tmp_path, "cat/a.jpg")
    assert [row.label for row in listed(tmp_path, flat=True)] == [None]


def test_hidden_files_and_other_types_are_no_rows(tmp_path):
    plant(tmp_path, "cat/._a.jpg", ".thumbs/b.png", "cat/a.json", "cat/a.jpg")
    assert [row.row_id for row in listed(tmp_path)] == ["cat/a.jpg"]
    assert is_image("scan.TIF")


def test_a_link_to_a_folder_above_is_not_followed_again(tmp_path):
    plant(tmp_path, "cat/a.jpg")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    assert [row.row_id for row in listed(tmp_path)] == ["cat/a.jpg"]


def test_a_name_that_is_no_utf8_is_listed_and_read(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"picture")
    (row,) = listed(tmp_path)
    assert row.row_id == "caf\\udce9.jpg"
    assert row.read() == b"picture"

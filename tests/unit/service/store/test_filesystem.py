"""Operations on folders and object stores."""

import uuid

import pytest
from textcam_service.errors import InvalidSettings
from textcam_service.store.filesystem import exists, folders, open_filesystem, remove, write_whole


@pytest.fixture(params=["folder", "memory"])
def root(request, tmp_path):
    return str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}"


def test_an_unknown_kind_of_store_is_refused():
    with pytest.raises(InvalidSettings, match="the store gopher://x cannot be opened"):
        open_filesystem("gopher://x")


def test_a_file_is_replaced_as_a_whole_and_leaves_nothing_beside_it(root):
    filesystem, path = open_filesystem(root)
    filesystem.makedirs(f"{path}/m", exist_ok=True)
    for content in (b"one", b"two"):
        write_whole(filesystem, f"{path}/m/current.json", content)
        assert filesystem.cat_file(f"{path}/m/current.json") == content
    assert len(filesystem.ls(f"{path}/m", detail=False)) == 1


def test_a_write_that_fails_leaves_the_old_file(root, monkeypatch):
    filesystem, path = open_filesystem(root)
    filesystem.makedirs(f"{path}/m", exist_ok=True)
    write_whole(filesystem, f"{path}/m/f", b"old")

    def broken(*_args, **_more):
        raise OSError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(type(filesystem), "mv", broken)
        with pytest.raises(OSError, match="broken"):
            write_whole(filesystem, f"{path}/m/f", b"new")
    assert filesystem.cat_file(f"{path}/m/f") == b"old"
    assert len(filesystem.ls(f"{path}/m", detail=False)) == 1


def test_folders_are_listed_by_name_and_removed_with_all_they_hold(root):
    filesystem, path = open_filesystem(root)
    assert folders(filesystem, f"{path}/absent") == []
    for name in ("a", "b"):
        filesystem.makedirs(f"{path}/{name}", exist_ok=True)
        filesystem.pipe_file(f"{path}/{name}/file", b"")
    filesystem.pipe_file(f"{path}/file", b"")
    assert sorted(folders(filesystem, path)) == ["a", "b"]
    remove(filesystem, f"{path}/a")
    remove(filesystem, f"{path}/absent")
    assert not exists(filesystem, f"{path}/a/file")
    assert folders(filesystem, path) == ["b"]

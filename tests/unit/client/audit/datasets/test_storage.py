"""Files of data sets, local and remote."""

import os

import fsspec
import pytest
from textcam_client.audit.datasets.storage import storage_of


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    if request.param == "local":
        (tmp_path / "b").mkdir()
        (tmp_path / "a.bin").write_bytes(b"0123456789")
        return str(tmp_path)
    system = fsspec.filesystem("memory")
    system.pipe({"/root/a.bin": b"0123456789", "/root/b/c": b""})
    return "memory://root"


def test_both_kinds_list_join_and_read_alike(root):
    storage = storage_of(root)
    assert storage.entries(root) == [("a.bin", False), ("b", True)]
    file = storage.join(root, "a.bin")
    assert (storage.is_file(file), storage.is_folder(file)) == (True, False)
    assert storage.is_folder(storage.join(root, "b"))
    assert storage.read(file) == b"0123456789"
    assert storage.read(file, 2, 5) == b"234"
    with storage.open(file) as opened:
        assert opened.read(3) == b"012"
    with pytest.raises(OSError, match="none"):
        storage.read(storage.join(root, "none"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    storage = storage_of(str(tmp_path))
    for name in ("a.png", "zeros.png"):
        for use in (storage.read, storage.open):
            with pytest.raises(OSError, match="a pipe, a socket or a device, no file"):
                use(str(tmp_path / name))

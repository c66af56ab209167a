"""The cache of a remote store's versions on this machine."""

import errno
import fcntl
import os

import pytest
from textcam_service.errors import StoreFailed
from textcam_service.store.cache import cache_errors, full_disk_errors, locked, prune


def test_copies_that_are_in_use_stay(tmp_path):
    for name in ("kept", "old", ".half.abc"):
        (tmp_path / "m" / name).mkdir(parents=True)
    (tmp_path / "m" / "file").touch()
    prune(tmp_path / "m", [tmp_path / "m" / "kept"])
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"kept", "file", ".lock"}
    prune(tmp_path / "absent", [])
    assert not (tmp_path / "absent").exists()


def test_a_lock_keeps_others_out_until_it_is_left(tmp_path):
    with (
        locked(tmp_path / "m"),
        (tmp_path / "m" / ".lock").open("w") as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "m" / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def failed(number):
    return OSError(number, os.strerror(number))


def test_errors_of_the_disk_name_the_cache_and_its_setting(tmp_path):
    said = f"{tmp_path} .*Permission.*store_cache"
    with pytest.raises(StoreFailed, match=said), cache_errors(tmp_path):
        raise failed(errno.EACCES)


def test_of_a_download_only_a_full_disk_is_the_cache_s(tmp_path):
    with pytest.raises(StoreFailed, match="free space"), full_disk_errors(tmp_path):
        raise failed(errno.ENOSPC)
    with pytest.raises(ConnectionResetError), full_disk_errors(tmp_path):
        raise failed(errno.ECONNRESET)

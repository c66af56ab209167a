"""Tars: whole, or an error."""

import gzip
import io
import tarfile

import fsspec
import pytest
from textcam_client.audit.datasets.storage import LocalStorage, storage_of
from textcam_client.audit.datasets.tars import tar_members
from textcam_client.audit.errors import DataSetError

# Tars of four files: headers at 0, 1024, 2048 and 3072; the closing zeros begin at 4096.
HEADER = 2048
END = 4096


def packed(count=4):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for index in range(count):
            member = tarfile.TarInfo(f"{index}.jpg")
            member.size = 300
            archive.addfile(member, io.BytesIO(bytes([65 + index]) * 300))
    return file.getvalue()


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE = {
    "cut between two files": (lambda tar: tar[:HEADER], "empty header at byte 2048"),
    "cut in a header": (lambda tar: tar[: HEADER + 100], "truncated header at byte 2048"),
    "cut in a file": (lambda tar: tar[: HEADER + 600], "unexpected end of data"),
    "a flipped bit in a header": (lambda tar: flipped(tar, HEADER + 3), "bad checksum at byte"),
    "a header of zeros": (
        lambda tar: tar[:HEADER] + bytes(512) + tar[HEADER + 512 :], "data follow its end",
    ),
    "two tars in one": (lambda tar: tar + tar, "data follow its end"),
    "no closing zeros": (lambda tar: tar[:END], "only lacks its end needs 1024 zero bytes"),
}  # fmt: skip


def names(path):
    return [one.name for one in tar_members(str(path), LocalStorage())]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_that_is_not_whole_is_an_error(tmp_path, suffix, damage):
    change, fault = DAMAGE[damage]
    content = change(packed())
    path = tmp_path / f"shard{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".tar.gz" else content)
    with pytest.raises(DataSetError, match=f"is no tar, or is damaged: .*{fault}"):
        names(path)


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("lost", [1, 9, 40])
def test_a_compressed_tar_that_is_cut_is_an_error(tmp_path, mode, lost):
    path = tmp_path / f"shard.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as archive:
        archive.addfile(tarfile.TarInfo("0.jpg"))
    assert names(path) == ["0.jpg"]
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataSetError, match="is no tar, or is damaged"):
        names(path)


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_the_checksum_of_a_compressed_tar_counts(tmp_path, mode):
    path = tmp_path / f"shard.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as archive:
        archive.addfile(tarfile.TarInfo("0.jpg"))
    # Of gzip, the sum is in the last eight bytes; bz2's and xz's last bytes hold one as well.
    path.write_bytes(flipped(path.read_bytes(), -6))
    with pytest.raises(DataSetError, match="is no tar, or is damaged"):
        names(path)


@pytest.mark.parametrize("end", [512, 1024, 20480])
def test_a_tar_ends_with_zeros_however_many(tmp_path, end):
    (tmp_path / "shard.tar").write_bytes(packed()[:END] + bytes(end))
    assert names(tmp_path / "shard.tar") == [f"{index}.jpg" for index in range(4)]


def test_an_empty_tar_has_no_files(tmp_path):
    (tmp_path / "shard.tar").write_bytes(packed(0))
    assert names(tmp_path / "shard.tar") == []


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_url_is_held_to_the_same(suffix):
    system = fsspec.filesystem("memory")
    pack = gzip.compress if suffix == ".tar.gz" else bytes
    system.pipe({f"/t/a{suffix}": pack(packed()), f"/t/b{suffix}": pack(packed()[:HEADER])})
    whole, cut = f"memory://t/a{suffix}", f"memory://t/b{suffix}"
    assert len(list(tar_members(whole, storage_of(whole)))) == 4
    with pytest.raises(DataSetError, match="empty header at byte 2048"):
        list(tar_members(cut, storage_of(cut)))


def test_a_tar_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        names(tmp_path / "shard.tar")

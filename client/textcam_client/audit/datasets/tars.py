"""Files of tars, in one pass, and the proof that a tar is whole.

`tarfile` takes a damaged header, or a cut between two files, for the end, and checks no checksum of
a compressed tar. Here a tar ends with a block of zeros and nothing behind it, or it is an error.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from textcam_client.audit.datasets.storage import Storage
from textcam_client.audit.errors import DataSetError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_UNPACKERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": gzip.open,
    ".tgz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class TarMember:
    """File in a tar: its full name, and where its bytes are, or they themselves."""

    name: str
    start: int
    size: int
    content: bytes | None


def tar_members(tar: str, storage: Storage) -> Iterator[TarMember]:
    """Yield the files of a tar in order, without hidden ones; a plain tar's are not read.

    Args:
        tar: Path or URL of the tar; its suffix says how it is compressed.
        storage: Its file system.

    Raises:
        DataSetError: It is no tar, or is cut, damaged or several tars in one.
        OSError: It cannot be read.
    """
    try:
        with storage.open(tar) as raw:
            yield from _members(raw, tar.lower())
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise _damaged(tar, error) from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise _damaged(tar, error) from error  # bz2 has no error of its own


def _members(raw: BinaryIO, name: str) -> Iterator[TarMember]:
    plain = name.endswith(".tar")
    stream = raw if plain else _unpacked(raw, name)
    with tarfile.open(fileobj=stream, mode="r:" if plain else "r|", tarinfo=_Header) as archive:
        while (member := archive.next()) is not None:
            vars(archive)["members"] = []  # it would keep every header
            if not member.isfile() or member.name.rpartition("/")[2].startswith("."):
                continue
            file = None if plain else archive.extractfile(member)
            content = None if file is None else file.read()
            yield TarMember(member.name, member.offset_data, member.size, content)
        _require_end(cast(BinaryIO, archive.fileobj))


def _unpacked(raw: BinaryIO, name: str) -> BinaryIO:
    opener = next(one for suffix, one in _UNPACKERS.items() if name.endswith(suffix))
    return cast(BinaryIO, opener(raw))


class _Header(tarfile.TarInfo):
    """Header of a file in a tar; one that cannot be read is an error, and no end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Header:
        """Read the next header; raises EOFHeaderError at the block of zeros, else ReadError."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(
                f"{error} at byte {tarfile_.offset}, where a header or the closing zeros should be"
            ) from error


def _require_end(stream: BinaryIO) -> None:
    """Read what follows the first block of zeros, which makes a decompressor check its sum."""
    while chunk := stream.read(_CHUNK_BYTES):
        if chunk.strip(b"\0"):
            raise tarfile.ReadError("data follow its end, as in several tars joined into one")


def _damaged(tar: str, error: Exception) -> DataSetError:
    return DataSetError(
        f"{tar} is no tar, or is damaged: {error}. Copy or pack it again; a whole tar that only "
        "lacks its end needs 1024 zero bytes more"
    )

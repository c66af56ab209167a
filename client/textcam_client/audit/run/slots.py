"""Rows on their way through a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from textcam_client.audit.records.record import Record
from textcam_client.audit.rows import Row


@dataclass(eq=False)
class Slot:
    """A row from its reading to its record.

    Attributes:
        record: The record; complete once `done`.
        key: Equal for rows that share an answer; 0: it shares none.
        content: Image file; dropped once `done`.
        mask: Image file of the object's mask; dropped once `done`.
        provenance: Origin of its answer, as JSON; "": there is none.
        leader: Index of the earlier row whose answer it shares; None: it has its own.
        attempts: Requests that ended because the server was away.
        done: True once nothing is to be asked for it.
    """

    record: Record
    key: int = 0
    content: bytes = b""
    mask: bytes | None = None
    provenance: str = ""
    leader: int | None = None
    attempts: int = 0
    done: bool = False

    def finish(self, record: Record) -> None:
        """Complete the record, and drop what only requests need."""
        self.record = record
        self.content, self.mask = b"", None
        self.done = True


def opened(row: Row, label_index: int | None) -> Slot:
    """Read a row's files; a row that cannot be read is done at once, with its reason."""
    record = Record(
        index=row.index,
        row_id=row.row_id,
        path=row.path,
        content_digest="",
        label=row.label,
        label_index=label_index,
        slices=row.slices,
    )
    content, fault = _read(row.read, "image")
    if content is None:
        failed = replace(record, failure=fault, failure_reason="IMAGE_UNREADABLE")
        return Slot(failed, done=True)
    mask, mask_fault = (None, "") if row.read_mask is None else _read(row.read_mask, "mask")
    digest = hashlib.sha256(content)
    record = replace(record, content_digest=f"sha256:{digest.hexdigest()}", mask_failure=mask_fault)
    return Slot(record, _key(digest.digest(), label_index, mask), content, mask)


def shared(record: Record, answer: Record) -> Record:
    """Return a row's record with the answer of another row of the same image and target."""
    return replace(
        answer,
        index=record.index,
        row_id=record.row_id,
        path=record.path,
        label=record.label,
        label_index=record.label_index,
        slices=record.slices,
    )


def _read(read: Callable[[], bytes], thing: str) -> tuple[bytes | None, str]:
    """Return a file's bytes, or None and a sentence why it cannot be read."""
    try:
        return read(), ""
    except Exception as error:  # noqa: BLE001 - file systems have errors of their own
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return None, f"cannot read the {thing}: {text}"


def _key(content: bytes, target: int | None, mask: bytes | None) -> int:
    """Return a hash of what decides an answer, signed 64 bits, not 0."""
    digest = hashlib.blake2b(content, digest_size=8)
    digest.update(f"/{target}/{mask is not None}/".encode())
    digest.update(mask or b"")
    return int.from_bytes(digest.digest(), "little", signed=True) or 1

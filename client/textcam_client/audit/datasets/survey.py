"""Survey of a data set before the first request: its size, its fingerprint, its row ids."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from textcam_client.audit.datasets.dataset import DataSet
from textcam_client.audit.errors import DataSetError
from textcam_client.audit.rows import Row


@dataclass(frozen=True)
class Survey:
    """Result of listing a data set once.

    Attributes:
        rows: Number of rows.
        fingerprint: "sha256:..." of all row ids, labels and slices, in order.
        masks: True if a row has a mask.
        slices: Slice columns, in order of appearance.
    """

    rows: int
    fingerprint: str
    masks: bool
    slices: tuple[str, ...]


def survey(data: DataSet) -> Survey:
    """List a data set once.

    Raises:
        DataSetError: It is empty, or two rows have the same id.
        OSError: It cannot be listed.
    """
    seen: set[int] = set()
    digest = hashlib.sha256()
    slices: dict[str, None] = {}
    count, masks = 0, False
    for row in data.rows():
        key = row_key(row.row_id)
        if key in seen:
            _require_unique(data, row)
        seen.add(key)
        count += 1
        masks = masks or row.read_mask is not None
        slices.update(dict.fromkeys(row.slices))
        entry = [row.row_id, row.label, dict(row.slices), row.read_mask is not None]
        digest.update(json.dumps(entry, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if not count:
        raise DataSetError(f"{data.name} has no images: nothing to audit")
    return Survey(count, f"sha256:{digest.hexdigest()}", masks, tuple(slices))


def row_key(row_id: str) -> int:
    """Return a hash of a row's id, signed 64 bits."""
    digest = hashlib.blake2b(row_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _require_unique(data: DataSet, row: Row) -> None:
    """Raise DataSetError if an earlier row has the same id, and not the same hash alone."""
    for other in data.rows():
        if other.index >= row.index:
            return
        if other.row_id == row.row_id:
            raise DataSetError(
                f"rows {other.index + 1} and {row.index + 1} of {data.name} have the same id "
                f"{row.row_id!r} ({other.path} and {row.path}): remove or rename one"
            )

"""Earlier audits to compare with, looked at before anything is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from textcam_client.audit.datasets.dataset import DataSet
from textcam_client.audit.datasets.survey import row_key
from textcam_client.audit.errors import NotComparable
from textcam_client.audit.records.description import finished_description
from textcam_client.audit.records.reading import damaged, record_batches


def require_comparable(earlier: Path, data: DataSet) -> None:
    """Require that a finished audit has a row of a data set, which is listed up to the first one.

    Args:
        earlier: Output folder of the audit.
        data: The data set that is about to be audited.

    Raises:
        OutputRefused: The folder holds no finished audit, or records that are not its own.
        NotComparable: The audit has no row of the data set.
        DataSetError: The data set cannot be read as one.
        OSError: A file cannot be read.
    """
    described = finished_description(earlier).data
    names = [batch["row_id"].to_pylist() for batch in record_batches(earlier, ["row_id"])]
    keys = np.array([row_key(name) for several in names for name in several], np.int64)
    if len(keys) != described.rows:
        raise damaged(earlier, f"it has {len(keys)} rows, and the audit has {described.rows}")
    keys.sort()
    for row in data.rows():
        key = row_key(row.row_id)
        place = int(np.searchsorted(keys, key))
        if place < len(keys) and keys[place] == key:
            return
    raise NotComparable(
        f"{earlier} holds an audit of {described.name}, which has no row of {data.name}: compare "
        "with an audit of the same data set"
    )

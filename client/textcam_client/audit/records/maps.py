"""Maps of the images that findings and concepts show: maps.parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from textcam_client.audit.files import whole_file

MAPS = "maps.parquet"
_SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), metadata={"description": "place in the data set"}),
        pa.field("phrase", pa.string(), metadata={"description": "empty: the whole map"}),
        pa.field("height", pa.int32(), metadata={"description": "cells"}),
        pa.field("width", pa.int32(), metadata={"description": "cells"}),
        pa.field("values", pa.list_(pa.float32()), metadata={"description": "row by row"}),
    ]
)


class MapsDamaged(ValueError):
    """File of maps that cannot be read as one; they can be asked for again."""


@dataclass(frozen=True, eq=False)
class ExampleMap:
    """Map of one phrase, or of the whole explanation.

    Attributes:
        phrase: The phrase; "": the whole saliency map.
        values: float32 (H, W), evidence per cell.
    """

    phrase: str
    values: NDArray[np.float32] = field(repr=False)


def write_maps(folder: Path, maps: Mapping[int, Sequence[ExampleMap]]) -> None:
    """Write the maps of an audit by row index; raises OSError."""
    rows = [
        {
            "index": index,
            "phrase": one.phrase,
            "height": one.values.shape[0],
            "width": one.values.shape[1],
            "values": one.values.ravel(),
        }
        for index in sorted(maps)
        for one in maps[index]
    ]
    with whole_file(folder / MAPS) as file:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), file, compression="zstd")


def read_maps(folder: Path, wanted: Iterable[int]) -> dict[int, list[ExampleMap]]:
    """Return the maps of rows by index; rows without maps are missing.

    Raises:
        MapsDamaged: The file is not what write_maps wrote.
        OSError: It cannot be read.
    """
    path = folder / MAPS
    if not path.is_file():
        return {}
    try:
        return _read(path, set(wanted))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise MapsDamaged(f"{path} is damaged ({error})") from error


def _read(path: Path, wanted: set[int]) -> dict[int, list[ExampleMap]]:
    found: dict[int, list[ExampleMap]] = {}
    table = pq.read_table(path)
    if not table.schema.equals(_SCHEMA):
        raise ValueError(f"its columns are {', '.join(table.schema.names)}")
    for row in table.to_pylist():
        if row["index"] in wanted:
            values = np.array(row["values"], np.float32)
            shaped = values.reshape(row["height"], row["width"])
            found.setdefault(row["index"], []).append(ExampleMap(row["phrase"] or "", shaped))
    return found

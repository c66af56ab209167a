"""Data sets: places with rows, in an order that does not change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from textcam_client.audit.rows import Row


class DataSet(Protocol):
    """Data set that can be listed again and again.

    Attributes:
        name: Path or URL, as given.
    """

    @property
    def name(self) -> str:
        """Path or URL, as given."""

    def rows(self) -> Iterator[Row]:
        """Yield the rows in order of index, without reading an image.

        Raises:
            DataSetError, OSError: The data set cannot be listed.
        """


@dataclass(frozen=True)
class DataOptions:
    """Reading of a data set.

    Attributes:
        label_column: Column with the label, of lists and of JSON in tars.
        path_column: Column with the image's path, of lists.
        mask_column: Column with the mask's path, of lists.
        slice_columns: Columns to compare by; None: all others.
        flat: Folders are no labels: the images are unlabelled.
        masks: Folder with the masks; each lies at its image's path or key, as .png or with the
            image's own name.
    """

    label_column: str = "label"
    path_column: str = "path"
    mask_column: str = "mask"
    slice_columns: Sequence[str] | None = None
    flat: bool = False
    masks: str | None = None

    def uses(self, column: str) -> bool:
        """Return True for a column that is needed by its name."""
        named = (self.label_column, self.path_column, self.mask_column)
        return column in (*named, *(self.slice_columns or ()))

    def is_slice(self, column: str) -> bool:
        """Return True for a column to compare by."""
        if self.slice_columns is not None:
            return column in self.slice_columns
        return column not in (self.label_column, self.path_column, self.mask_column)

    def slices(self, values: Mapping[str, object]) -> dict[str, str]:
        """Return the values to compare by, as text."""
        return {in_words(name): as_text(one) for name, one in values.items() if self.is_slice(name)}


def as_text(value: object) -> str:
    """Return a value of a table as text; a missing one as ""."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        # A column of whole numbers with a gap is one of floats.
        return str(int(value))
    return in_words(str(value).strip())


def in_words(name: str) -> str:
    """Return a name or text, which may be no UTF-8, as text that every file format takes."""
    return name.encode("utf-8", "backslashreplace").decode()

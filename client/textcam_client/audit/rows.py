"""Rows of a data set, as an audit asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One image of a data set, with what is known of it.

    Attributes:
        index: Place in the data set, from 0; the order of all files of an audit.
        row_id: Name that stays the same between audits: the path below the data set's root, or the
            key of a sample.
        path: Full path or URL, for people and messages.
        label: Class name or index, as the data set has it; None: unlabelled.
        slices: Value by slice column.
        read: Reads the bytes of the image file; raises OSError.
        read_mask: Reads the bytes of the object's mask (an image file, object where not 0); None:
            the data set has no masks.
    """

    index: int
    row_id: str
    path: str
    label: str | None
    read: Callable[[], bytes] = field(repr=False, compare=False)
    slices: Mapping[str, str] = field(default_factory=dict)
    read_mask: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

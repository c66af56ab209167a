"""Thumbnails cut out of an audit's sprite sheets."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from textcam_client.audit.records.sprites import CELL, CELLS, COLUMNS, sheet_name

QUALITY = 60


class SheetThumbnails:
    """Thumbnails by row index, cut from the sheets of an output folder.

    The last sheet stays open, so that rows in order of index open each sheet once.

    Args:
        folder: Output folder of the audit, with its sprites/.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._number = -1
        self._sheet: Image.Image | None = None

    def __call__(self, index: int) -> bytes:
        """Return a row's thumbnail as WebP bytes; b"": it has none, or its sheet is missing."""
        sheet = self._opened(index // CELLS)
        left, top = index % COLUMNS * CELL, index % CELLS // COLUMNS * CELL
        if sheet is None or top >= sheet.height:
            return b""
        cell = sheet.crop((left, top, left + CELL, top + CELL))
        used = cell.getchannel("A").getbbox()
        if used is None:
            return b""
        written = io.BytesIO()
        cell.crop(used).convert("RGB").save(written, "WEBP", quality=QUALITY, method=2)
        return written.getvalue()

    def _opened(self, number: int) -> Image.Image | None:
        if number != self._number:
            self._number, self._sheet = number, self._read(number)
        return self._sheet

    def _read(self, number: int) -> Image.Image | None:
        try:
            with Image.open(self._folder / sheet_name(number)) as opened:
                sheet: Image.Image = opened.convert("RGBA")
        except OSError:
            return None
        return sheet

"""Sprite sheets: a thousand thumbnails in one picture."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from textcam_client.audit.files import write_whole

CELL = 96
COLUMNS = 10
# A sheet's height stays below WebP's limit of 16383 pixels.
CELLS = 1000
FOLDER = "sprites"
# Slower methods save 3 % of the bytes for twice the time.
_QUALITY, _METHOD = 75, 2


def sheet_name(sheet: int) -> str:
    """Return the path of a sheet below the output folder."""
    return f"{FOLDER}/{sheet:03d}.webp"


class SpriteWriter:
    """Writer of sheets. Row `index` is cell `index % 1000` of sheet `index // 1000`.

    Args:
        folder: Output folder of the audit.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sheet = 0
        self._cells: list[bytes] = []
        (folder / FOLDER).mkdir(exist_ok=True)

    def add(self, thumbnail: bytes) -> tuple[int, int]:
        """Add the next row's thumbnail; return its sheet and cell, (-1, -1) for an empty one.

        Raises:
            OSError: A full sheet cannot be written.
        """
        place = (self._sheet, len(self._cells)) if thumbnail else (-1, -1)
        self._cells.append(thumbnail)
        if len(self._cells) == CELLS:
            self.finish()
        return place

    def finish(self) -> None:
        """Write the sheet that is not full yet; raises OSError."""
        if any(self._cells):
            content = _sheet(self._cells)
            write_whole(self._folder / sheet_name(self._sheet), content)
        self._cells = []
        self._sheet += 1


def _sheet(cells: list[bytes]) -> bytes:
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for place, thumbnail in enumerate(cells):
        if thumbnail:
            with Image.open(io.BytesIO(thumbnail)) as picture:
                left = place % COLUMNS * CELL + (CELL - picture.width) // 2
                top = place // COLUMNS * CELL + (CELL - picture.height) // 2
                sheet.paste(picture, (left, top))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=_QUALITY, method=_METHOD)
    return file.getvalue()

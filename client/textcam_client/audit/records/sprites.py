"""Sprite sheets: two hundred thumbnails in one picture."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from textcam_client.audit.files import write_whole

CELL = 96
COLUMNS = 10
# A sheet's height stays below WebP's limit of 16383 pixels, and its encoder's memory below 30 MB.
CELLS = 200
FOLDER = "sprites"
# Slower methods save up to 12 % of the bytes for twice the time.
_QUALITY, _METHOD = 75, 0
# The encoder runs outside the interpreter's lock; no server is asked meanwhile.
_THREADS = 2


def sheet_name(sheet: int) -> str:
    """Return the path of a sheet below the output folder."""
    return f"{FOLDER}/{sheet:04d}.webp"


class SpriteWriter:
    """Writer of sheets. Row `index` is cell `index % CELLS` of sheet `index // CELLS`.

    A context: at its end all sheets are written.

    Args:
        folder: Output folder of the audit.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sheet = 0
        self._cells: list[bytes] = []
        self._threads = ThreadPoolExecutor(_THREADS, "textcam-sprites")
        self._writing: deque[Future[None]] = deque()
        (folder / FOLDER).mkdir(exist_ok=True)

    def __enter__(self) -> SpriteWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._threads:  # which waits for sheets that are being written
            if kind is None:
                self._begin()
                self._wait(0)

    def add(self, thumbnail: bytes) -> tuple[int, int]:
        """Add the next row's thumbnail; return its sheet and cell, (-1, -1) for an empty one.

        Raises:
            OSError: An earlier sheet cannot be written.
        """
        place = (self._sheet, len(self._cells)) if thumbnail else (-1, -1)
        self._cells.append(thumbnail)
        if len(self._cells) == CELLS:
            self._begin()
            self._wait(_THREADS)
        return place

    def _begin(self) -> None:
        """Begin to write a sheet; one without a thumbnail is left out."""
        if any(self._cells):
            path = self._folder / sheet_name(self._sheet)
            self._writing.append(self._threads.submit(_write, path, self._cells))
        self._cells = []
        self._sheet += 1

    def _wait(self, most: int) -> None:
        """Wait until at most so many sheets are being written; raises OSError."""
        while len(self._writing) > most:
            self._writing.popleft().result()


def _write(path: Path, cells: list[bytes]) -> None:
    write_whole(path, _sheet(cells))


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

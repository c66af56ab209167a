"""AVIF files, encoded by libavif and put together anew."""

from __future__ import annotations

import io
import struct

from PIL import Image


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "AVIF", **{"speed": 10, "quality": 95, "subsampling": "4:4:4", **options})
    return file.getvalue()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return box(kind, bytes((version, 0, 0, 0)) + content)


def bitstream(file: bytes) -> bytes:
    """Return the AV1 image of a file with one item, which follows everything else."""
    return file[file.index(b"mdat") + 4 :]


def claiming(file: bytes, width: int, height: int) -> bytes:
    """Return a file whose container names another size than its frames have."""
    place = file.index(b"ispe") + 8
    return file[:place] + struct.pack(">II", width, height) + file[place + 8 :]


def put_together(
    items: list[tuple[bytes, bytes]],
    references: bytes,
    sizes: list[tuple[int, int]],
    config: bytes,
    overlap: bool = False,
    version: int = 0,
) -> bytes:
    """Put a file of several items together.

    Args:
        items: Kind and content; the first is the picture.
        references: Content of the box of references.
        sizes: Width and height of each item.
        config: Box "av1C" of all AV1 items.
        overlap: All items have the content of the last.
        version: That of the list of places; from 1 on, the first item is in the box of data.
    """
    head = box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")
    count = len(items)
    entries = [
        full(b"infe", struct.pack(">HH", place, 0) + kind + b"\0", version=2)
        for place, (kind, _) in enumerate(items, 1)
    ]
    properties = [full(b"ispe", struct.pack(">II", *size)) for size in sizes]
    properties += [full(b"pixi", b"\3\x08\x08\x08"), config]
    links = [
        struct.pack(">HB", place, 3 if kind == b"av01" else 2)
        + bytes((place, count + 1))
        + (bytes((128 | (count + 2),)) if kind == b"av01" else b"")
        for place, (kind, _) in enumerate(items, 1)
    ]

    def meta(start: int) -> bytes:
        places, at = b"", start
        for place, (_, content) in enumerate(items, 1):
            begin = start + sum(len(body) for _, body in items[:-1]) if overlap else at
            size = len(items[-1][1]) if overlap else len(content)
            inside = version > 0 and place == 1
            method = struct.pack(">H", inside) if version else b""
            places += place.to_bytes(4 if version == 2 else 2, "big") + method
            places += struct.pack(">HHII", 0, 1, 0 if inside else begin, size)
            at += len(content)
        number = count.to_bytes(4 if version == 2 else 2, "big")
        return full(
            b"meta",
            full(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full(b"pitm", struct.pack(">H", 1))
            + full(b"iloc", b"\x44\0" + number + places, version)
            + full(b"iinf", struct.pack(">H", count) + b"".join(entries))
            + (full(b"iref", references) if references else b"")
            + (box(b"idat", items[0][1]) if version else b"")
            + box(
                b"iprp",
                box(b"ipco", b"".join(properties))
                + full(b"ipma", struct.pack(">I", count) + b"".join(links)),
            ),
        )

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", b"".join(content for _, content in items))


def grid(left: Image.Image, right: Image.Image, version: int = 0) -> bytes:
    """Return a file whose picture is two tiles of equal size, side by side."""
    tiles = [encoded(left), encoded(right)]
    width, height = left.size
    place = tiles[0].index(b"av1C") - 4
    layout = struct.pack(">BBBBHH", 0, 0, 0, 1, 2 * width, height)
    return put_together(
        [(b"grid", layout), *((b"av01", bitstream(tile)) for tile in tiles)],
        box(b"dimg", struct.pack(">HHHH", 1, 2, 2, 3)),
        [(2 * width, height), (width, height), (width, height)],
        tiles[0][place : place + 12],
        version=version,
    )

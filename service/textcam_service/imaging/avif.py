"""Sizes of the AV1 frames within an AVIF file.

Pillow tells the size that the container names. Its frames may be far larger, and libavif decodes
them whole before it scales them. Limits therefore hold for what the frames themselves say.

Files of more than one way to be read are refused: the frames that are looked at here must be those
that the decoder takes.
"""

from __future__ import annotations

from collections.abc import Iterator

# Kinds of open bitstream units (AV1 specification, 6.2.2).
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_MAX_LEB128 = 8  # bytes
# Most of what photographs have few of, so that no file keeps this module busy.
_MAX_LIST = 2**18  # bytes of a list of items
_MAX_IMAGES = 1024
_MAX_UNITS = 256  # of an image's bitstream


class AvifSequence(Exception):
    """The file holds a sequence of images."""


def frame_pixels(encoded: bytes) -> tuple[int, int]:
    """Return the pixels of the largest frame of a file, and of all that are decoded together.

    Frames are scaled to the size that the container names for them, so that this counts too.

    Raises:
        AvifSequence: The file is animated.
        ValueError: The file is damaged, or stores its images in an unusual way.
    """
    boxes = list(_boxes(encoded))
    if any(kind == b"moov" for kind, _ in boxes):
        raise AvifSequence
    inner = list(_boxes(_only(boxes, b"meta")[4:]))
    data = _only(inner, b"idat") if any(kind == b"idat" for kind, _ in inner) else b""
    images = _image_ids(_only(inner, b"iinf"))
    located = [parts for item, parts in _locations(_only(inner, b"iloc")) if item in images]
    total = sum(end - start for parts in located for _, start, end in parts)
    if len(located) > _MAX_IMAGES or total > len(encoded):
        raise ValueError("too many images")
    frames = [
        _frames(b"".join((data if inside else encoded)[start:end] for inside, start, end in parts))
        for parts in located
    ]
    # An image without a header of its own may be decoded by the one before.
    size = max((size for size, _ in frames), default=0)
    if not size:
        raise ValueError("no AV1 sequence header")
    held = [size * min(count, 9) for _, count in frames]  # 8 may be kept for reference
    # Of several tiles, libavif takes none as large as the picture that they make.
    named = _named_pixels(_only(inner, b"iprp"))
    tile = max((each for each in named if each < max(named)), default=max(named))
    return max(*held, *named), max(sum(held), tile * len(held))


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """List boxes, as kind and content, up to one whose size cannot be."""
    place = 0
    while place + 8 <= len(content):
        size, head = int.from_bytes(content[place : place + 4], "big"), 8
        name = content[place + 4 : place + 8]
        if size == 1:
            head = 16
            size = int.from_bytes(content[place + 8 : place + 16], "big")
        end = len(content) if size == 0 else place + size
        if end < place + head:
            return
        yield name, content[place + head : end]
        place = end


def _only(boxes: list[tuple[bytes, bytes]], kind: bytes) -> bytes:
    """Return the content of the one box of a kind."""
    found = [body for name, body in boxes if name == kind]
    if len(found) != 1:
        raise ValueError(f"{len(found)} boxes of kind '{kind.decode()}'")
    if len(found[0]) > _MAX_LIST and kind != b"meta":
        raise ValueError(f"a box of kind '{kind.decode()}' is too long")
    return found[0]


def _image_ids(content: bytes) -> set[int]:
    """Return the ids of the items that are AV1 images (ISO/IEC 14496-12, 8.11.6)."""
    found = set()
    for kind, entry in _boxes(content[6 if content[:1] == b"\0" else 8 :]):
        width = {2: 2, 3: 4}.get(entry[0]) if entry else None
        if kind != b"infe" or width is None:
            raise ValueError("an unusual list of items")
        if entry[6 + width : 10 + width] == b"av01":
            found.add(int.from_bytes(entry[4 : 4 + width], "big"))
    return found


def _named_pixels(content: bytes) -> list[int]:
    """Return the pixels of each size that a box of properties names (ISO/IEC 23008-12, 6.5.3)."""
    properties = _boxes(_only(list(_boxes(content)), b"ipco"))
    sizes = [body for kind, body in properties if kind == b"ispe"]
    if not all(len(body) >= 12 for body in sizes) or not sizes:
        raise ValueError("no size of an image")
    return [int.from_bytes(b[4:8], "big") * int.from_bytes(b[8:12], "big") for b in sizes]


class _Fields:
    """Numbers of a byte string, first to last, of some bits each."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def read(self, bits: int) -> int:
        """Read an unsigned number.

        Raises:
            ValueError: There are fewer bits.
        """
        end = self._place + bits
        if end > 8 * len(self._content):
            raise ValueError("a header ends early")
        touched = self._content[self._place // 8 : -(-end // 8)]
        self._place = end
        return (int.from_bytes(touched, "big") >> -end % 8) & ((1 << bits) - 1)

    def read_uvlc(self) -> None:
        """Skip a number of variable length (AV1 specification, 4.10.3)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros if zeros < 32 else 0)


def _locations(content: bytes) -> Iterator[tuple[int, list[tuple[bool, int, int]]]]:
    """List items and their parts: in the box of data or not, start, end (ISO 14496-12, 8.11.3)."""
    fields, seen = _Fields(content), set()
    version = fields.read(8)
    fields.read(24)
    offset, length, base, index = (8 * fields.read(4) for _ in range(4))
    for _ in range(fields.read(32 if version == 2 else 16)):
        item = fields.read(32 if version == 2 else 16)
        method = fields.read(16) if version else 0
        if version > 2 or method > 1 or item in seen:
            raise ValueError("an unusual place of an item")
        seen.add(item)
        fields.read(16)  # reference of data
        start = fields.read(base)
        parts = []
        for _ in range(fields.read(16)):
            fields.read(index if version else 0)
            begin = start + fields.read(offset)
            parts.append((method == 1, begin, begin + fields.read(length)))
        yield item, parts


def _frames(item: bytes) -> tuple[int, int]:
    """Return the pixels of an image's largest frame, and the number of its frames."""
    size = count = place = units = 0
    while place < len(item):
        units += 1
        head = item[place]
        place += 2 if head & 4 else 1  # an extension
        length = len(item) - place
        if head & 2:
            length, place = _leb128(item, place)
        if units > _MAX_UNITS or head & 128 or place + length > len(item):
            raise ValueError("a damaged bitstream")
        kind, content = head >> 3 & 15, item[place : place + length]
        if kind == _SEQUENCE_HEADER:
            size = max(size, _sequence_pixels(_Fields(content[:1024])))
        count += kind in (_FRAME, _FRAME_HEADER)
        place += length
    return size, count


def _leb128(content: bytes, place: int) -> tuple[int, int]:
    """Read a number in groups of 7 bits, the lowest first: it, and the place behind it."""
    value = 0
    for index, byte in enumerate(content[place : place + _MAX_LEB128]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, place + index + 1
    raise ValueError("a damaged bitstream")


def _sequence_pixels(fields: _Fields) -> int:
    """Read the largest frame's pixels from a sequence header (AV1 specification, 5.5.1)."""
    fields.read(4)  # profile, still picture
    reduced = fields.read(1)
    if reduced:
        fields.read(5)
    else:
        _skip_operating_points(fields)
    bits = fields.read(4) + 1, fields.read(4) + 1
    width, height = (fields.read(each) + 1 for each in bits)
    # Headers of frames may override the size, up to what so many bits hold; a reduced one may not.
    return width * height if reduced else 1 << sum(bits)


def _skip_operating_points(fields: _Fields) -> None:
    """Skip what an unreduced sequence header tells of times and operating points."""
    has_model = delay = 0
    if fields.read(1):  # timing
        fields.read(64)
        if fields.read(1):
            fields.read_uvlc()
        has_model = fields.read(1)
        if has_model:
            delay = fields.read(5) + 1
            fields.read(32 + 10)
    has_delay = fields.read(1)
    for _ in range(fields.read(5) + 1):
        fields.read(12)
        if fields.read(5) > 7:  # the level; above it, the tier follows
            fields.read(1)
        if has_model and fields.read(1):
            fields.read(2 * delay + 1)
        if has_delay and fields.read(1):
            fields.read(4)

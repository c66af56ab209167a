"""PNG metadata: long texts and profiles neither refuse a file nor are unpacked."""

import io
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from textcam_service.errors import InvalidRequest
from textcam_service.imaging.decoding import ImageLimits, decode
from textcam_service.imaging.png import without_long_metadata

LONG = "history " * 300_000  # 2.4 MB
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def saved(add=None, **options):
    """Encode a PNG, with the texts that `add` adds."""
    if add is not None:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        add(options["pnginfo"])
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG", **options)
    return file.getvalue()


def exif_text(padding=0):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0") + bytes(padding)
    return f"\nexif\n{len(content):8d}\n{content.hex()}\n"


def exif_of(padding, packed):
    text = exif_text(padding)
    return saved(lambda info: info.add_text("Raw profile type exif", text, zip=packed))


def chunk(kind, content):
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def with_chunks(*chunks, after_pixels=False):
    plain = saved()
    place = plain.index(b"IEND") - 4 if after_pixels else 33  # behind IHDR
    return plain[:place] + b"".join(chunks) + plain[place:]


PACKED = zlib.compress(LONG.encode())
FILES = {
    "iTXt, packed": saved(lambda text: text.add_itxt("XML:com.adobe.xmp", LONG, zip=True)),
    "iTXt": saved(lambda text: text.add_itxt("XML:com.adobe.xmp", LONG)),
    "zTXt": saved(lambda text: text.add_text("workflow", LONG, zip=True)),
    "tEXt": saved(lambda text: text.add_text("workflow", LONG)),
    "iCCP": saved(icc_profile=bytes(1_200_000)),
    "zTXt behind the pixels": with_chunks(chunk(b"zTXt", b"a\0\0" + PACKED), after_pixels=True),
    "zTXt of another method": with_chunks(chunk(b"zTXt", b"a\0\7" + PACKED)),
    "iCCP of another method": with_chunks(chunk(b"iCCP", b"a\0\7" + PACKED)),
    "EXIF of 2 MB": saved(
        lambda t: t.add_text("Raw profile type exif", exif_text(10**6), zip=True)
    ),
    "70 texts of 1 MB": with_chunks(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))] * 70),
    "texts with no keyword": with_chunks(
        chunk(b"zTXt", b""), chunk(b"iTXt", b"x"), chunk(b"iCCP", b"")
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_long_metadata_harms_no_picture(name):
    image = decode(FILES[name], ImageLimits())
    assert (np.asarray(image.pixels) == PIXELS).all()


def test_what_is_short_and_used_stays():
    profile = saved(icc_profile=b"a profile")
    assert without_long_metadata(profile) is profile
    for packed in (True, False):
        image = decode(exif_of(0, packed), ImageLimits())
        assert image.pixels.size == (24, 32)  # turned


def test_nothing_long_is_unpacked():
    bomb = zlib.compress(bytes(200 * 2**20))
    file = with_chunks(chunk(b"zTXt", b"a\0\0" + bomb), chunk(b"iCCP", b"a\0\0" + bomb))
    tracemalloc.start()
    decode(file, ImageLimits())
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_other_bytes_are_returned_as_they_are():
    jpeg = io.BytesIO()
    Image.fromarray(PIXELS).save(jpeg, "JPEG", comment=b"tEXt")
    for content in (b"", b"no image", jpeg.getvalue(), saved()):
        assert without_long_metadata(content) is content


def test_each_end_within_metadata_is_an_image_or_an_error_in_words():
    whole = FILES["iTXt, packed"]
    for length in range(8, len(whole), 97):
        try:
            decode(whole[:length], ImageLimits())
        except InvalidRequest as error:
            assert str(error)

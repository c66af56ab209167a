"""Formats: what is not decoded is named, with the cure."""

import io

import numpy as np
import pytest
from PIL import Image
from textcam_service import errors
from textcam_service.imaging.decoding import ImageLimits, decode
from textcam_service.imaging.formats import FORMATS, SUFFIXES, TAKEN, format_name

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))


def encoded(kind):
    file = io.BytesIO()
    PICTURE.save(file, kind)
    return file.getvalue()


def media(*brands):
    content = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(content) + 4).to_bytes(4, "big") + content + bytes(100)


FILES = {
    "GIF": encoded("GIF"),
    "BMP": encoded("BMP"),
    "TIFF or camera raw": encoded("TIFF"),
    "JPEG 2000": encoded("JPEG2000"),
    "icon": encoded("ICO"),
    "netpbm": encoded("PPM"),
    "PDF": encoded("PDF"),
    "DDS": encoded("DDS"),
    "HEIC": media(b"heic", b"mif1", b"heic"),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50),
    "SVG": b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
    "HTML": b"\n<!DOCTYPE html><html><body>Not found</body></html>",
    "video": media(b"isom", b"isom", b"mp41"),
    "camera raw": media(b"crx ", b"crx ", b"isom"),
}


@pytest.mark.parametrize("name", FILES)
def test_another_format_is_named_with_the_cure(name):
    assert format_name(FILES[name]) == name
    message = f"the bytes are {name}, not {TAKEN}: convert the image"
    with pytest.raises(errors.UnsupportedImage, match=message) as refused:
        decode(FILES[name], ImageLimits())
    assert refused.value.field == "encoded"


def test_heic_of_the_general_brand_is_named():
    assert format_name(media(b"mif1", b"mif1", b"heic")) == "HEIC"


@pytest.mark.parametrize("content", [b"no image", bytes(8), media(b"none"), b"\0\0\0\x10ftyp"])
def test_what_is_not_known_gets_no_name(content):
    assert format_name(content) is None
    with pytest.raises(errors.UnsupportedImage, match=f"not a {TAKEN} image"):
        decode(content, ImageLimits())


def test_a_file_of_each_decoded_format_is_taken():
    for kind in FORMATS:
        assert decode(encoded(kind), ImageLimits()).decoder == f"pillow/{kind}"
        assert {".jpg" if kind == "JPEG" else f".{kind.lower()}"} <= SUFFIXES

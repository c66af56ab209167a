"""Orientation: EXIF alone decides, in every format."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features
from textcam_service.imaging.decoding import ImageLimits, decode, whole_image
from textcam_service.imaging.orientation import exif_orientation

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"%s></rdf:RDF>'
    b"</x:xmpmeta>"
)
ATTRIBUTE = XMP % b' tiff:Orientation="6"/>'
ELEMENT = XMP % b"><tiff:Orientation>6</tiff:Orientation></rdf:Description>"
KINDS = ["JPEG", "PNG", "WEBP", *(["AVIF"] if features.check("avif") else [])]


def saved(kind, xmp, orientation=None):
    """Encode a picture, left half white, with XMP and perhaps EXIF."""
    image = Image.new("RGB", (64, 32))
    image.paste((255, 255, 255), (0, 0, 32, 32))
    options = {"xmp": xmp}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": text}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("xmp", [ATTRIBUTE, ELEMENT], ids=["attribute", "element"])
def test_an_orientation_in_xmp_alone_turns_nothing(kind, xmp):
    file = saved(kind, xmp)
    assert Image.open(io.BytesIO(file)).getexif()[0x0112] == 6  # Pillow's own reading
    if kind == "AVIF":
        assert exif_orientation(Image.open(io.BytesIO(file))) == 1
        return
    image = decode(file, ImageLimits())
    assert (image.width, image.height) == image.pixels.size == (64, 32)
    levels = np.asarray(whole_image(file), float).mean(axis=(0, 2))
    assert levels[5] > 240
    assert levels[-5] < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 32)), (3, (64, 32)), (8, (32, 64))])
def test_exif_goes_before_xmp(kind, orientation, size):
    assert decode(saved(kind, ATTRIBUTE, orientation), ImageLimits()).pixels.size == size


def test_exif_in_a_text_of_a_png_counts():
    """As ImageMagick writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(content):8d}\n{content.hex()}\n")
    file = io.BytesIO()
    Image.new("RGB", (64, 32)).save(file, "PNG", pnginfo=text)
    assert decode(file.getvalue(), ImageLimits()).pixels.size == (32, 64)

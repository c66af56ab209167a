"""Orientation: EXIF alone decides, as in the server."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features
from textcam_client._image_files.orientation import upright_step
from textcam_client.images import ImageSource

XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
KINDS = ["JPEG", "PNG", "WEBP", *(["AVIF"] if features.check("avif") else [])]


def saved(kind, **options):
    """Encode a picture with an orientation in its XMP."""
    image = Image.new("RGB", (64, 32))
    image.paste((255, 255, 255), (0, 0, 32, 32))
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    else:
        options["xmp"] = XMP
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_an_orientation_in_xmp_alone_turns_nothing(kind):
    file = saved(kind)
    opened = Image.open(io.BytesIO(file))
    assert opened.getexif()[0x0112] == 6  # Pillow's own reading
    assert upright_step(opened) is None
    for picture in (ImageSource(file).picture(), ImageSource(opened).payload()):
        levels = np.asarray(picture, float).mean(axis=(0, 2))
        assert levels.shape == (64,)
        assert levels[5] > 240
        assert levels[-5] < 15


@pytest.mark.parametrize("kind", KINDS)
def test_exif_goes_before_xmp(kind):
    exif = Image.Exif()
    exif[0x0112] = 8
    opened = Image.open(io.BytesIO(saved(kind, exif=exif)))
    assert upright_step(opened) == Image.Transpose.ROTATE_90


def test_an_orientation_that_a_caller_sets_on_a_pillow_image_counts():
    image = Image.new("RGB", (64, 32))
    image.getexif()[0x0112] = 6
    assert ImageSource(image).payload().shape == (64, 32, 3)

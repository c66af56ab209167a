"""PNG metadata: figures open what the server takes."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from textcam_client._image_files.png import without_long_metadata
from textcam_client.images import ImageSource

LONG = "history " * 300_000  # 2.4 MB


def saved(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def long_text(packed):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", LONG, zip=packed)
    return {"pnginfo": text}


@pytest.mark.parametrize(
    "options", [long_text(True), long_text(False), {"icc_profile": bytes(1_200_000)}]
)
def test_long_metadata_harms_no_picture(client, pixels, options):
    file = saved(pixels, **options)
    assert ImageSource(file).payload() == file
    np.testing.assert_array_equal(ImageSource(file).picture(), pixels)
    np.testing.assert_array_equal(client.explain(file).picture(), pixels)


def test_a_file_without_them_is_returned_as_it_is(png):
    assert without_long_metadata(png) is png

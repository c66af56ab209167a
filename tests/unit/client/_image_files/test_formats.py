"""Formats that servers do not take: opened here, and sent as pixels."""

import io

import numpy as np
import pytest
from PIL import Image
from textcam_client import InvalidRequest, UnsupportedImage
from textcam_client._image_files.formats import SERVED, open_unserved
from textcam_client.images import ImageSource
from textcam_service.imaging.formats import FORMATS


def encoded(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "JPEG2000", "PPM"])
def test_other_formats_are_sent_as_pixels(client, kind, pixels, tmp_path):
    file = encoded(pixels, kind)
    np.testing.assert_array_equal(ImageSource(file).payload(), pixels)
    path = tmp_path / "picture"
    path.write_bytes(file)
    answer = client.explain(path)
    assert answer.provenance.decoder == "raw"
    path.unlink()  # the result keeps the pixels
    np.testing.assert_array_equal(answer.picture(), pixels)


def test_a_tiff_in_cmyk_upside_down_is_sent_upright_in_rgb(pixels):
    inks = Image.fromarray(pixels).convert("CMYK")
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    inks.save(file, "TIFF", exif=exif)
    expected = np.asarray(inks.convert("RGB"))[::-1, ::-1]
    np.testing.assert_array_equal(ImageSource(file.getvalue()).payload(), expected)


def test_formats_that_servers_take_are_sent_as_they_are(pixels):
    assert SERVED == FORMATS
    for kind in SERVED:
        file = encoded(pixels, kind)
        assert open_unserved(file) is None
        assert ImageSource(file).payload() == file


def test_of_several_pictures_one_has_to_be_chosen(pixels):
    more = {"save_all": True, "append_images": [Image.fromarray(255 - pixels)]}
    for kind in ("GIF", "TIFF"):
        with pytest.raises(UnsupportedImage, match=f"the {kind} file has 2 pictures: open it"):
            ImageSource(encoded(pixels, kind, **more)).payload()


@pytest.mark.parametrize("tag", [{254: 1}, {50706: b"\1\4\0\0"}])
def test_the_preview_of_a_cameras_raw_data_is_not_taken_for_the_picture(pixels, tag):
    file = encoded(pixels, "TIFF", tiffinfo=tag)
    assert ImageSource(file).payload() == file  # the server names the format


@pytest.mark.parametrize("kind", ["EPS", "PDF"])
def test_files_that_may_be_programs_are_not_opened(client, pixels, kind):
    file = encoded(pixels, kind)
    assert ImageSource(file).payload() == file
    with pytest.raises(InvalidRequest):
        client.explain(file)

"""Colours of pictures: converted as the server converts them, and so are PIL images to send."""

import io

import icc_profiles
import numpy as np
import pytest
from PIL import Image
from textcam_client import draw_figure
from textcam_client._image_files.colours import to_srgb
from textcam_client.images import ImageSource
from textcam_service.imaging.decoding import ImageLimits, decode

ADOBE = icc_profiles.of_primaries(*icc_profiles.WIDE["Adobe RGB"])


@pytest.fixture
def muted(pixels):
    return (100 + pixels // 6).astype(np.uint8)


def test_figures_and_pictures_have_the_profiles_colours(client, muted):
    file = io.BytesIO()
    Image.fromarray(muted).save(file, "PNG", icc_profile=ADOBE)
    source = ImageSource(file.getvalue())
    assert source.payload() == file.getvalue()
    picture = np.asarray(source.picture())
    assert np.abs(picture - icc_profiles.srgb_of_primaries(muted, "Adobe RGB")).max() <= 1
    assert np.array_equal(picture, decode(file.getvalue(), ImageLimits()).pixels)
    answer = client.explain(file.getvalue())
    assert answer.provenance.decoder == "pillow/PNG icc"
    plain = client.explain(picture)
    assert np.array_equal(draw_figure(answer), draw_figure(plain))


def test_a_pil_images_profile_is_applied_and_the_image_stays(muted):
    image = Image.fromarray(muted)
    image.info["icc_profile"] = ADOBE
    sent = ImageSource(image).payload()
    assert np.abs(sent - icc_profiles.srgb_of_primaries(muted, "Adobe RGB")).max() <= 1
    assert np.array_equal(image, muted)


def test_arrays_are_srgb_already(pixels):
    assert np.array_equal(ImageSource(pixels).payload(), pixels)


def test_a_damaged_profile_is_ignored(muted):
    image = Image.fromarray(muted)
    image.info["icc_profile"] = ADOBE[:300]
    shown, note = to_srgb(image)
    assert note == "icc ignored"
    assert np.array_equal(shown, muted)

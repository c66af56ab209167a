"""Decoding: every bad input has its own error, odd but honest images work."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from textcam_service import errors
from textcam_service.core.types import Preprocessing
from textcam_service.imaging import ImageLimits, decode, from_pixels, prepare
from torchvision import transforms

LIMITS = ImageLimits(max_bytes=100_000, max_pixels=100_000)
RED = (200, 30, 40)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def solid(mode, colour, size=(32, 24)):
    return Image.new(mode, size, colour)


def noise(width=64, height=48):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


ANIMATION = {"save_all": True, "append_images": [solid("RGB", (0, 0, 255))], "duration": 50}
BOMB = bytearray(encoded(solid("L", 0), "PNG"))
BOMB[16:24] = (60_000).to_bytes(4, "big") * 2


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", errors.EmptyImage),
        (b"this is no image at all", errors.UnsupportedImage),
        (encoded(solid("RGB", RED), "GIF"), errors.UnsupportedImage),
        (encoded(solid("RGB", RED), "PNG", **ANIMATION), errors.AnimatedImage),
        (encoded(solid("RGB", RED), "WEBP", **ANIMATION), errors.AnimatedImage),
        (encoded(noise(), "JPEG")[:-900], errors.TruncatedImage),
        (encoded(noise(), "PNG")[:2000], errors.TruncatedImage),
        (b"\0" * 100_001, errors.ImageTooLarge),
        (encoded(solid("L", 0, (400, 300)), "PNG"), errors.ImageTooLarge),
        (bytes(BOMB), errors.ImageTooLarge),
    ],
)
def test_a_bad_image_gets_its_own_error(data, expected):
    with pytest.raises(errors.InvalidRequest) as refused:
        decode(data, LIMITS)
    # A forged size breaks the header's checksum, which Pillow may see first.
    assert type(refused.value) is expected or data == bytes(BOMB)
    assert refused.value.field == "encoded"


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (solid("CMYK", (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.fromarray(np.full((9, 9), 257 * 100, np.uint16)), "PNG", (100, 100, 100)),
        (solid("RGB", RED).quantize(4), "PNG", RED),
        (solid("RGBA", (*RED, 0)), "PNG", (255, 255, 255)),
        (solid("RGBA", (*RED, 255)), "WEBP", RED),
        (solid("LA", (50, 255)), "PNG", (50, 50, 50)),
        (solid("L", 77), "JPEG", (77, 77, 77)),
    ],
)
def test_unusual_modes_become_the_right_rgb(image, kind, expected):
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode(encoded(image, kind, **options), LIMITS)
    assert decoded.pixels.mode == "RGB"
    assert decoded.decoder == f"pillow/{kind}"
    got = np.asarray(decoded.pixels)[4, 4].astype(int)
    assert np.abs(got - expected).max() <= 3


def test_exif_rotation_is_honoured():
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    upright = decode(encoded(image, "JPEG", exif=exif), LIMITS).pixels
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] > 240
    assert upright.getpixel((10, 35))[0] < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_truncation_decodes_or_is_a_domain_error(kind):
    whole = encoded(noise(16, 16), kind)
    for length in range(0, len(whole), 7):
        try:
            decode(whole[:length], LIMITS)
        except errors.InvalidRequest:
            continue


@given(st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "WEBP", None]))
@settings(max_examples=200, deadline=None)
def test_hostile_bytes_raise_nothing_but_domain_errors(tail, kind):
    head = encoded(noise(8, 8), kind)[:60] if kind else b""
    try:
        decode(head + tail, LIMITS)
    except errors.InvalidRequest as error:
        assert str(error)


def test_raw_pixels_pass_unchanged_and_obey_the_limit():
    pixels = np.asarray(noise())
    assert (np.asarray(from_pixels(pixels, LIMITS).pixels) == pixels).all()
    with pytest.raises(errors.ImageTooLarge):
        from_pixels(np.zeros((400, 300, 3), np.uint8), LIMITS)


@pytest.mark.parametrize("size", [(300, 200), (200, 333), (64, 64), (500, 90)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preparation_is_torchvisions(size, interpolation):
    image = noise(*size)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mode = transforms.InterpolationMode(interpolation)
    reference = transforms.Compose(
        [
            transforms.Resize(72, mode),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )(image)
    mine, crop = prepare(image, Preprocessing(72, 64, 64, interpolation, mean, std))
    levels = (torch.from_numpy(mine) - reference).abs() * torch.tensor(std)[:, None, None] * 255
    assert levels.max() <= 2.5  # Pillow rounds between its two passes
    assert levels.mean() <= 0.2
    assert crop.left >= 0
    assert crop.left + crop.width <= size[0] + 1e-6


def test_a_very_long_image_costs_no_giant():
    image = Image.new("RGB", (9_000, 10), RED)
    tensor, _ = prepare(image, Preprocessing(256, 224, 224, "bicubic", (0, 0, 0), (1, 1, 1)))
    assert np.abs(tensor[:, 0, 0] * 255 - RED).max() <= 1

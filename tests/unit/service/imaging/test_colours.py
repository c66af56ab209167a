"""Colours: profiles are converted as the definitions of the colour spaces say."""

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import icc_profiles
import numpy as np
import pytest
from PIL import Image, ImageCms
from textcam_service.core.types import Preprocessing
from textcam_service.imaging import colours
from textcam_service.imaging.colours import to_srgb
from textcam_service.imaging.decoding import ImageLimits, decode, whole_image

LIMITS = ImageLimits()
SMALL = Preprocessing(18, 16, 16, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
ADOBE = icc_profiles.of_primaries(*icc_profiles.WIDE["Adobe RGB"])
GREY = icc_profiles.of_grey(1.8)
RNG = np.random.default_rng(0)
# Muted colours: even ProPhoto's are then within sRGB.
PIXELS = RNG.integers(90, 150, (24, 32, 3), np.uint8)
# Lab of paper, inks and what lies between; all inks together are black.
INKS = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1)
CORNERS = np.array([255, 128, 128]) - INKS @ [[70, 20, 25], [80, -40, 5], [20, 5, -60], [85, 0, 0]]
CORNERS = np.where(INKS[..., 3:] == 1, [0, 128, 128], CORNERS.clip(0, 255)).astype(np.uint8)
PRESS = icc_profiles.of_inks(CORNERS, padding=150_000)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def distance(image, expected):
    return np.abs(np.asarray(image, float) - expected).max()


@pytest.mark.parametrize("name", icc_profiles.WIDE)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_wide_space_is_converted_by_its_primaries_and_curve(name, kind):
    profile = icc_profiles.of_primaries(*icc_profiles.WIDE[name])
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(PIXELS), kind, icc_profile=profile, **lossless)
    image = decode(data, LIMITS)
    assert image.decoder == f"pillow/{kind} icc"
    assert distance(image.pixels, icc_profiles.srgb_of_primaries(PIXELS, name)) <= 1
    assert np.array_equal(whole_image(data), image.pixels)
    plain = decode(data, LIMITS, use_profile=False)
    assert np.array_equal(plain.pixels, PIXELS)
    assert np.array_equal(whole_image(data, use_profile=False), PIXELS)
    assert plain.decoder == f"pillow/{kind} icc ignored"


def test_a_photograph_in_adobe_rgb_gets_the_colours_of_its_primaries():
    data = (files("skimage") / "data" / "rocket.jpg").read_bytes()
    image = decode(data, LIMITS)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    expected = icc_profiles.srgb_of_primaries(stored, "Adobe RGB")
    inside = ((expected > 5) & (expected < 250)).all(-1)
    assert np.abs(np.asarray(image.pixels, float) - expected)[inside].max() <= 2
    assert image.decoder == "pillow/JPEG icc"


def test_a_profile_in_several_segments_tells_what_inks_look_like():
    inks = Image.fromarray(
        (INKS.reshape(4, 4, 4) * 255).astype(np.uint8).repeat(16, 0).repeat(16, 1), "CMYK"
    )
    data = encoded(inks, "JPEG", icc_profile=PRESS, quality=100, subsampling=0)
    assert data.count(b"ICC_PROFILE\0") == 3
    image = decode(data, LIMITS)
    assert image.decoder == "pillow/JPEG icc"
    expected = icc_profiles.srgb_of_lab(CORNERS).reshape(4, 4, 3)
    assert distance(np.asarray(image.pixels)[8::16, 8::16], expected) <= 3
    assert distance(decode(data, LIMITS, use_profile=False).pixels, np.asarray(image.pixels)) > 20


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_greys_are_converted_by_their_curve(mode):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(levels)
    if mode == "I;16":
        image = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode == "LA":
        image.putalpha(Image.new("L", image.size, 255))
    image.info["icc_profile"] = GREY
    shown, note = to_srgb(image)
    assert note == colours.CONVERTED
    assert distance(shown, icc_profiles.srgb_of_grey(levels, 1.8)[..., None]) <= 2


def test_a_grey_image_with_a_profile_of_rgb_is_converted_by_its_curve():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = decode(encoded(Image.fromarray(levels), "PNG", icc_profile=ADOBE), LIMITS)
    expected = icc_profiles.srgb_of_grey(levels, 563 / 256)
    assert distance(image.pixels, expected[..., None]) <= 1


def test_transparency_is_laid_over_white_behind_the_conversion():
    alpha = RNG.integers(0, 256, PIXELS.shape[:2], np.uint8)
    layers = Image.fromarray(np.dstack([PIXELS, alpha]))
    image = decode(encoded(layers, "PNG", icc_profile=ADOBE), LIMITS)
    share = alpha[..., None] / 255
    shown = icc_profiles.srgb_of_primaries(PIXELS, "Adobe RGB")
    assert distance(image.pixels, share * shown + (1 - share) * 255) <= 2
    palette = Image.fromarray(PIXELS).quantize(8)
    known = np.asarray(palette.convert("RGB"))
    image = decode(encoded(palette, "PNG", icc_profile=ADOBE, transparency=3), LIMITS)
    expected = icc_profiles.srgb_of_primaries(known, "Adobe RGB")
    expected[np.asarray(palette) == 3] = 255
    assert distance(image.pixels, expected) <= 1


def test_a_reduced_jpeg_is_converted_too():
    data = encoded(Image.new("RGB", (240, 240), (140, 100, 110)), "JPEG", icc_profile=ADOBE)
    image = decode(data, LIMITS, SMALL)
    assert image.decoder == "pillow/JPEG 1:4 icc"
    stored = np.asarray(Image.open(io.BytesIO(data)))[0, 0]
    assert distance(image.pixels, icc_profiles.srgb_of_primaries(stored, "Adobe RGB")) <= 1


@pytest.mark.parametrize("source", ["LittleCMS", "HP"])
def test_a_profile_of_srgb_costs_no_conversion(source, monkeypatch):
    if source == "HP":
        image = Image.open(files("skimage") / "data" / "astronaut.png")
        image.load()
    else:
        image = Image.fromarray(PIXELS)
        content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image.info["icc_profile"] = content
    assert to_srgb(image) == (image, "")
    monkeypatch.setattr(ImageCms, "buildTransform", None)  # built once in the process
    assert to_srgb(image)[0] is image


PLAIN = Image.fromarray(PIXELS)
UNUSABLE = {
    "no profile": b"no profile",
    "of CMYK": PRESS,
    "of grey": GREY,
    "too long": ADOBE + bytes(2**22),
    "of names": ADOBE[:12] + b"nmcl" + ADOBE[16:],
    "of Lab": ADOBE[:16] + b"Lab " + ADOBE[20:],
    "of no tags": ADOBE[:128] + bytes(4),
    "of 2**32 - 1 tags": ADOBE[:128] + b"\xff" * 4 + ADOBE[132:],
    "without primaries": ADOBE.replace(b"rXYZ", b"none"),
    **{f"{length} bytes": ADOBE[:length] for length in range(1, len(ADOBE) - 14, 23)},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_profile_that_cannot_be_used_is_ignored_with_a_note(name):
    data = encoded(PLAIN, "WEBP", icc_profile=UNUSABLE[name], lossless=True)
    image = decode(data, LIMITS)
    assert np.array_equal(image.pixels, PIXELS)
    assert image.decoder == "pillow/WEBP icc ignored"


def test_damaged_profiles_raise_nothing():
    inks = Image.new("CMYK", (4, 4), (10, 20, 30, 40))
    for seed in range(300):
        rng = np.random.default_rng(seed)
        content = bytearray(icc_profiles.of_inks(CORNERS) if seed % 2 else ADOBE)
        for place in rng.integers(0, min(len(content), 600), 4):
            content[place] = rng.integers(256)
        image = (inks if seed % 2 else PLAIN).copy()
        image.info["icc_profile"] = bytes(content)
        shown, note = to_srgb(image)
        assert (shown.mode, shown.size) == ("RGB", image.size)
        assert note in ("", colours.CONVERTED, colours.IGNORED)


def table(kind, points, content):
    """A table of colours under a name; of mAB, with its claim at byte 32."""
    if kind == b"mAB ":
        return kind + bytes(4) + b"\4\3\0\0" + struct.pack(">5I", 32, 0, 0, 32, 0) + bytes(
            [points] * 4
        ).ljust(16, b"\0") + b"\1\0\0\0" + content  # fmt: skip
    return kind + bytes(4) + bytes((4, 3, points, 0)) + bytes(36) + bytes(4 * 256) + content


@pytest.mark.parametrize("kind", [b"mft1", b"mft2", b"mAB ", b"mpet"])
def test_tables_that_claim_more_than_there_is_never_reach_the_library(kind, monkeypatch):
    """LittleCMS would reserve 280 MB for what a profile of 2 kB claims."""
    seen = []
    monkeypatch.setattr(ImageCms, "ImageCmsProfile", seen.append)
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *_: None)
    claim = icc_profiles.profile(b"CMYK", b"Lab ", b"prtr", {b"A2B1": table(kind, 80, bytes(900))})
    image = Image.new("CMYK", (4, 4))
    image.info["icc_profile"] = claim
    assert to_srgb(image)[1] == colours.IGNORED
    assert not seen


def test_threads_share_a_transform():
    pictures = [Image.fromarray(RNG.integers(0, 256, (200, 300, 3), np.uint8)) for _ in range(8)]
    for picture in pictures:
        picture.info["icc_profile"] = ADOBE
    alone = [to_srgb(picture)[0].tobytes() for picture in pictures]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            together = threads.map(lambda picture: to_srgb(picture)[0].tobytes(), pictures)
            assert list(together) == alone


def test_profiles_are_forgotten_beyond_a_bound():
    for exponent in np.linspace(1.2, 2.8, 40):
        image = Image.new("L", (2, 2))
        image.info["icc_profile"] = icc_profiles.of_grey(exponent)
        assert to_srgb(image)[1] == colours.CONVERTED
    assert colours._read.cache_info().currsize <= 16

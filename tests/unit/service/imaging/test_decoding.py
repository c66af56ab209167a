"""Decoding: every bad input has its own error, odd but honest images work."""

import dataclasses
import io
import math

import numpy as np
import pytest
import simplejpeg
import timm
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from textcam_service import errors
from textcam_service.core.heatmap import heatmap
from textcam_service.core.types import Preprocessing
from textcam_service.imaging.decoding import ImageLimits, decode, from_pixels, prepare, whole_image
from torchvision import transforms

LIMITS = ImageLimits(max_bytes=100_000, max_pixels=100_000)
RED = (200, 30, 40)
# A network so small that test images are large: a shorter side of 108 is reduced to 1:2.
SMALL = Preprocessing(18, 16, 16, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
ROOMY = ImageLimits()
# From upright to how a camera stores it, by the orientation it then notes.
BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def solid(mode, colour, size=(32, 24)):
    return Image.new(mode, size, colour)


def noise(width=64, height=48):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def picture(width, height):
    """Waves of some sizes and a little noise: what photographs are made of."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + y / 31), np.cos(y / 13), np.sin((x + y) / 23)]
    levels = 127 + 100 * np.stack(waves, axis=-1)
    levels += np.random.default_rng(0).normal(0, 8, levels.shape)
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def verdict(data, preprocessing):
    """The decoded image, or the type of the error."""
    try:
        return decode(data, ROOMY, preprocessing)
    except errors.InvalidRequest as error:
        return type(error)


def turbo(data, image, strict=True):
    """The same by another binding of libjpeg-turbo, not turned upright."""
    height, width = (-(-side // image.reduction) for side in (image.height, image.width))
    return simplejpeg.decode_jpeg(data, min_height=height, min_width=width, strict=strict)


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
@pytest.mark.parametrize("preprocessing", [None, SMALL])
def test_a_bad_image_gets_its_own_error(data, expected, preprocessing):
    with pytest.raises(errors.InvalidRequest) as refused:
        decode(data, LIMITS, preprocessing)
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


@pytest.mark.parametrize(
    ("size", "reduction"),
    [((107, 500), 1), ((108, 500), 2), ((215, 216), 2), ((301, 217), 4), ((641, 433), 4)],
)
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"subsampling": 2, "progressive": True},
        {"mode": "L"},
    ],
)
def test_a_jpeg_is_reduced_as_libjpeg_turbo_does_while_three_pixels_remain_for_each_of_the_networks(
    size, reduction, options
):
    mode = options.get("mode", "RGB")
    options = {name: value for name, value in options.items() if name != "mode"}
    data = encoded(picture(*size).convert(mode), "JPEG", quality=85, **options)
    image = decode(data, ROOMY, SMALL)
    assert image.reduction == reduction
    assert image.decoder == ("pillow/JPEG" if reduction == 1 else f"pillow/JPEG 1:{reduction}")
    assert (image.width, image.height) == size
    assert min(image.pixels.size) >= 3 * SMALL.resize or reduction == 1
    assert (np.asarray(image.pixels) == turbo(data, image)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(304, 248), (301, 247)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_image_gives_the_whole_ones_network_input_and_crop(orientation, size, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(*size).convert(mode), "JPEG", quality=90, exif=exif)
    whole, reduced = decode(data, ROOMY), decode(data, ROOMY, SMALL)
    # A side that cannot be divided would begin with a part of a pixel, were it turned around.
    assert reduced.reduction == (4 if size == (304, 248) or orientation == 1 else 1)
    assert (reduced.width, reduced.height) == whole.pixels.size == (whole.width, whole.height)
    assert whole.pixels.size == (size if orientation < 5 else size[::-1])
    assert whole_image(data).tobytes() == whole.pixels.tobytes()
    reference, crop = prepare(whole, SMALL)
    mine, mine_crop = prepare(reduced, SMALL)
    assert mine_crop == crop
    levels = np.abs(mine - reference) * 255
    assert levels.mean() <= 0.6
    assert levels.max() <= 5
    # The mark discerns: a shift by one pixel of the image, 1/14 of the network's, is seen.
    moved, _ = prepare(whole.pixels.transform(whole.pixels.size, 0, (1, 0, 2, 0, 1, 0)), SMALL)
    assert np.abs(moved - reference).mean() * 255 > 0.6


def test_only_a_jpeg_is_reduced_and_only_for_a_network():
    large = picture(600, 500)
    assert decode(encoded(large, "PNG"), ROOMY, SMALL).pixels.size == (600, 500)
    assert decode(encoded(large, "WEBP"), ROOMY, SMALL).decoder == "pillow/WEBP"
    assert decode(encoded(large, "JPEG"), ROOMY).pixels.size == (600, 500)


def test_an_unknown_orientation_counts_for_nothing():
    exif = Image.Exif()
    exif[0x0112] = 77
    image = decode(encoded(picture(304, 248), "JPEG", exif=exif), ROOMY, SMALL)
    assert (image.width, image.height, image.pixels.mode) == (304, 248, "RGB")


def malformed_exif(orientation):
    """An orientation behind a description that claims to be of fractions."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "described"
    text, fractions = b"\x01\x0e\x00\x02", b"\x01\x0e\x00\x05"
    assert text in exif.tobytes()
    return exif.tobytes().replace(text, fractions) + bytes(100)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_each_orientation_is_honoured_though_the_rest_of_the_exif_is_malformed(kind, orientation):
    upright = picture(48, 40)
    stored = upright.transpose(BACK[orientation]) if orientation > 1 else upright
    options = {} if kind == "PNG" else {"quality": 95}
    image = decode(encoded(stored, kind, exif=malformed_exif(orientation), **options), ROOMY, SMALL)
    assert (image.width, image.height) == image.pixels.size == (48, 40)
    assert np.abs(np.asarray(image.pixels, float) - np.asarray(upright)).mean() < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_that_cannot_be_read_counts_as_no_orientation(kind):
    unreadable = malformed_exif(6).replace(b"MM\x00*", b"MMMM")
    image = decode(encoded(picture(48, 40), kind, exif=unreadable), ROOMY)
    assert (image.width, image.height) == image.pixels.size == (48, 40)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(
    st.sampled_from(["JPEG", "PNG", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=6),
)
@settings(max_examples=300, deadline=None)
@example("JPEG", [])  # an AttributeError of Pillow's exif_transpose()
@example("WEBP", [])
def test_damaged_exif_harms_no_image(kind, edits):
    exif = bytearray(malformed_exif(6))
    for place, value in edits:
        exif[place % len(exif)] = value
    image = decode(encoded(solid("RGB", RED), kind, exif=bytes(exif)), LIMITS)
    assert sorted(image.pixels.size) == [24, 32]


def test_a_palette_image_without_its_palette_is_damaged():
    whole = encoded(noise().quantize(16), "PNG")
    at = whole.index(b"PLTE") - 4
    length = int.from_bytes(whole[at : at + 4], "big") + 12
    with pytest.raises(errors.TruncatedImage, match="send it again whole"):
        decode(whole[:at] + whole[at + length :], LIMITS)


JPEGS = [
    encoded(picture(200, 144), "JPEG", quality=85, **options)
    for options in ({"subsampling": 2}, {"subsampling": 0, "progressive": True})
]


@given(
    st.sampled_from(JPEGS),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=4),
)
@example(JPEGS[0], 0.5, [])
@example(JPEGS[1], 1.0, [(0.5, 3)])
@settings(max_examples=150, deadline=None)
def test_a_damaged_jpeg_is_judged_alike_reduced_and_whole(whole, kept, flips):
    data = bytearray(whole)
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    data = bytes(data[: round(kept * len(data))])
    judged, reduced = verdict(data, None), verdict(data, SMALL)
    if isinstance(judged, type) or isinstance(reduced, type):
        assert judged == reduced
        return
    assert judged.pixels.size == (reduced.width, reduced.height)
    # Damage may leave a picture; libjpeg-turbo by itself then makes the same of it.
    for image in (judged, reduced):
        try:
            oracle = turbo(data, image, strict=False)
        except ValueError:
            continue  # it refuses what Pillow takes
        assert (np.asarray(image.pixels) == oracle).all()


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


@pytest.mark.parametrize("size", [(300, 200), (200, 333), (64, 64), (500, 90), (61, 20)])
@pytest.mark.parametrize("crop_mode", ["squash", "border"])
@pytest.mark.parametrize(
    ("crop", "share", "interpolation"),
    [((64, 64), 1.0, "bicubic"), ((64, 64), 0.9, "bilinear"), ((96, 72), 1.0, "lanczos")],
)
def test_other_crop_modes_are_timms(size, crop_mode, crop, share, interpolation):
    image = noise(*size)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    reference = timm.data.create_transform(
        (3, *crop),
        crop_mode=crop_mode,
        crop_pct=share,
        interpolation=interpolation,
        mean=mean,
        std=std,
    )(image)
    resize = int(max(crop) / share)
    mine, _ = prepare(image, Preprocessing(resize, *crop, interpolation, mean, std, crop_mode))
    assert mine.shape == (3, *crop)
    levels = (torch.from_numpy(mine) - reference).abs() * torch.tensor(std)[:, None, None] * 255
    assert levels.max() <= 2.5  # Pillow rounds between its two passes
    assert levels.mean() <= 0.2


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(300, 200), (150, 400)])
def test_a_heatmap_lands_on_what_the_network_saw_in_each_crop_mode(crop_mode, size):
    """A red patch, found in the network's input, is drawn where it stands in the image."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top = width // 2 - 40, height // 2 + 20
    pixels[top : top + 40, left : left + 30, 0] = 255
    contract = Preprocessing(36, 32, 32, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), crop_mode)
    tensor, crop = prepare(Image.fromarray(pixels), contract)
    heat = heatmap(tensor[0], crop, height, width)
    rows, columns = np.nonzero(heat > 0.5)
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    pixel = max(crop.width, crop.height) / 32
    assert np.abs(np.subtract(found, (left, top, left + 30, top + 40))).max() <= pixel
    assert heat[: max(top - int(2 * pixel), 0)].max(initial=0) == 0


def test_beside_a_bordered_image_is_the_mean_colour():
    contract = Preprocessing(32, 32, 32, "bicubic", (0.5, 0.25, 0.75), (0.2, 0.2, 0.2), "border")
    tensor, crop = prepare(solid("RGB", RED, (80, 40)), contract)
    assert np.abs(tensor[:, :8]).max() < 0.02  # to whole levels
    assert np.abs(tensor[:, 24:]).max() < 0.02
    assert np.abs(tensor[0, 8:24] - (200 / 255 - 0.5) / 0.2).max() < 1e-4
    assert (crop.left, crop.top, crop.width, crop.height) == (0, -20, 80, 80)


@pytest.mark.parametrize("crop_mode", ["squash", "border"])
def test_a_reduced_jpeg_keeps_each_crop_modes_geometry(crop_mode):
    contract = Preprocessing(18, 16, 16, "bicubic", (0.0,) * 3, (1.0,) * 3, crop_mode)
    data = encoded(picture(400, 300), "JPEG", quality=95)
    reduced, whole = decode(data, ROOMY, contract), decode(data, ROOMY)
    assert reduced.reduction > 1
    small, crop = prepare(reduced, contract)
    large, same = prepare(whole, contract)
    assert crop == same
    assert np.abs(small - large).max() * 255 <= 12


def test_a_very_long_image_costs_no_giant():
    image = Image.new("RGB", (9_000, 10), RED)
    tensor, _ = prepare(image, Preprocessing(256, 224, 224, "bicubic", (0, 0, 0), (1, 1, 1)))
    assert np.abs(tensor[:, 0, 0] * 255 - RED).max() <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interpolation": "nearest"}, "'nearest' is not one of bilinear, bicubic, lanczos"),
        ({"crop_mode": "stretch"}, "'stretch' is not one of center, squash, border"),
        ({"resize": 36.5}, "resize 36.5 is not a positive whole number"),
        ({"height": 0}, "height 0 is not a positive"),
        ({"width": -32}, "width -32 is not a positive"),
        ({"mean": (0.5,)}, "mean .* is not three"),
        ({"mean": (0.5, 0.5, math.nan)}, "mean .* finite"),
        ({"mean": 0.5}, "mean 0.5 is not three"),
        ({"std": (0.25,)}, "std .* is not three"),
        ({"std": (0.0, 0.25, 0.25)}, "std .* above 0"),
        ({"std": (0.25, 0.25, math.inf)}, "std .* finite"),
    ],
)
def test_a_preprocessing_that_cannot_be_served_names_its_fault(wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **wrong)

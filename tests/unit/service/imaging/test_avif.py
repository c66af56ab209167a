"""AVIF: taken like the others, within limits that hold for the frames and not their container."""

import io
import struct
import time

import avif_files
import cv2
import icc_profiles
import numpy as np
import pytest
from avif_files import box, encoded
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, Image, features
from textcam_service import errors
from textcam_service.imaging.avif import AvifSequence, frame_pixels
from textcam_service.imaging.decoding import ImageLimits, decode, whole_image

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
LIMITS = ImageLimits(max_pixels=20_000)
WIDTH, HEIGHT = 120, 88
BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def smooth(width=WIDTH, height=HEIGHT, turn=0.0):
    """Colours that differ from each other at each corner."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 29 + turn), np.cos(y / 23), np.sin((x + 2 * y) / 61 + turn)]
    return Image.fromarray((127 + 80 * np.stack(waves, -1)).astype(np.uint8))


PICTURE = smooth()
FILE = encoded(PICTURE)
SEQUENCE = encoded(PICTURE, save_all=True, append_images=[smooth(turn=1.0)])


def distance(image, expected):
    return np.abs(np.asarray(image, float) - np.asarray(expected, float)).mean()


def test_an_avif_file_is_decoded_as_opencv_decodes_it():
    image = decode(FILE, LIMITS)
    assert image.decoder == "pillow/AVIF"
    oracle = cv2.imdecode(np.frombuffer(FILE, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert distance(image.pixels, oracle) <= 0.6
    assert distance(image.pixels, PICTURE) <= 3
    assert np.array_equal(whole_image(FILE), image.pixels)


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_deeper_colours_are_rounded(depth):
    scale = 2 ** (depth - 8)
    pixels = np.asarray(PICTURE)[..., ::-1].astype(np.uint16 if depth > 8 else np.uint8)
    options = [cv2.IMWRITE_AVIF_QUALITY, 95, cv2.IMWRITE_AVIF_DEPTH, depth]
    done, file = cv2.imencode(".avif", pixels * scale, [*options, cv2.IMWRITE_AVIF_SPEED, 10])
    assert done
    assert frame_pixels(file.tobytes()) == (WIDTH * HEIGHT, WIDTH * HEIGHT)
    assert distance(decode(file.tobytes(), LIMITS).pixels, PICTURE) <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_containers_rotation_is_applied_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "described"
    stored = PICTURE.transpose(BACK[orientation]) if orientation > 1 else PICTURE
    file = encoded(stored, exif=exif)
    assert (b"irot" in file or b"imir" in file) == (orientation > 1)
    image = decode(file, LIMITS)
    assert (image.width, image.height) == image.pixels.size == (WIDTH, HEIGHT)
    assert distance(image.pixels, PICTURE) <= 3


@pytest.mark.parametrize("premultiplied", [False, True])
def test_transparency_is_laid_over_white(premultiplied):
    alpha = np.broadcast_to(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, WIDTH))
    layers = Image.fromarray(np.dstack([np.asarray(PICTURE), alpha]))
    file = encoded(layers, alpha_premultiplied=premultiplied)
    assert (b"prem" in file) == premultiplied
    share = alpha[..., None] / 255
    expected = share * np.asarray(PICTURE) + (1 - share) * 255
    assert distance(decode(file, LIMITS).pixels, expected) <= 3
    assert frame_pixels(file) == (WIDTH * HEIGHT, 2 * WIDTH * HEIGHT)


def test_greys_and_profiles_are_read():
    grey = decode(encoded(PICTURE.convert("L")), LIMITS)
    assert distance(grey.pixels, PICTURE.convert("L").convert("RGB")) <= 3
    muted = Image.fromarray((90 + np.asarray(PICTURE) // 5).astype(np.uint8))
    profile = icc_profiles.of_primaries(*icc_profiles.WIDE["Adobe RGB"])
    image = decode(encoded(muted, icc_profile=profile), LIMITS)
    assert image.decoder == "pillow/AVIF icc"
    shown = icc_profiles.srgb_of_primaries(np.asarray(muted), "Adobe RGB")
    assert distance(image.pixels, shown) <= 3


@pytest.mark.parametrize("version", [0, 1, 2])
def test_tiles_are_put_together_and_counted(version):
    left, right = smooth(64, 80), smooth(64, 80, 2.0)
    file = avif_files.grid(left, right, version)
    assert frame_pixels(file) == (128 * 80, 128 * 80)
    image = decode(file, LIMITS)
    assert image.pixels.size == (128, 80)
    assert distance(image.pixels, np.hstack([left, right])) <= 3


LARGE = encoded(smooth(200, 150))
# The header of a sequence lets each frame have a size of its own.
UNREDUCED = SEQUENCE.replace(b"moov", b"free").replace(b"avis", b"avif")
PLAIN = avif_files.bitstream(FILE)
CONFIG = FILE[FILE.index(b"av1C") - 4 :][:12]


def many(count):
    items = [(b"av01", PLAIN)] * count
    return avif_files.put_together(items, b"", [(WIDTH, HEIGHT)] * count, CONFIG)


@pytest.mark.parametrize(
    ("file", "limit"),
    [
        (LARGE, 200 * 150),
        (avif_files.claiming(LARGE, 10, 10), 200 * 150),
        (avif_files.grid(smooth(), smooth()), 2 * WIDTH * HEIGHT),
        (UNREDUCED, 128 * 128),
        (many(9), 9 * WIDTH * HEIGHT / 4),
    ],
    ids=["whole", "small container", "tiles", "frames of their own size", "many images"],
)
def test_frames_above_the_limit_are_never_decoded(file, limit, monkeypatch):
    assert decode(file, ImageLimits(max_pixels=int(limit)))
    monkeypatch.setattr(AvifImagePlugin.AvifImageFile, "load", None)
    with pytest.raises(errors.ImageTooLarge, match="send it smaller"):
        decode(file, ImageLimits(max_pixels=int(limit) - 1))


def test_tiles_that_the_container_names_large_are_never_scaled_to_it(monkeypatch):
    tiles = [(b"grid", struct.pack(">BBBBHH", 0, 0, 0, 0, WIDTH, HEIGHT)), (b"av01", PLAIN)]
    dimg = box(b"dimg", struct.pack(">HHH", 1, 1, 2))
    honest, large = (
        avif_files.put_together(tiles, dimg, [(WIDTH, HEIGHT), size], CONFIG)
        for size in ((WIDTH, HEIGHT), (9000, 9000))
    )
    assert decode(honest, LIMITS).pixels.size == (WIDTH, HEIGHT)
    assert Image.open(io.BytesIO(large)).size == (WIDTH, HEIGHT)
    monkeypatch.setattr(AvifImagePlugin.AvifImageFile, "load", None)
    with pytest.raises(errors.ImageTooLarge, match="81,000,000 pixels"):
        decode(large, LIMITS)


@pytest.mark.parametrize("brand", [b"avis", b"avif"])
def test_a_sequence_is_refused_as_animated(brand):
    file = SEQUENCE.replace(b"avis", brand)
    with pytest.raises(AvifSequence):
        frame_pixels(file)
    with pytest.raises(errors.AnimatedImage, match="send the frame"):
        decode(file, LIMITS)


def test_every_truncation_is_a_domain_error():
    for length in range(len(FILE)):
        with pytest.raises(errors.InvalidRequest):
            decode(FILE[:length], LIMITS)


@given(
    st.sampled_from([FILE, UNREDUCED, avif_files.grid(smooth(64, 64), smooth(64, 64))]),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=5),
)
@example(FILE, [(428, 0)])  # a RuntimeError of libavif
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_images_or_domain_errors(file, edits):
    damaged = bytearray(file)
    for place, value in edits:
        damaged[place % len(damaged)] = value
    try:
        decode(bytes(damaged), LIMITS)
    except errors.InvalidRequest as error:
        assert error.field == "encoded"


def units(count):
    """An image of so many empty units of padding."""
    content = b"\x7a\0" * count + PLAIN
    return avif_files.put_together([(b"av01", content)], b"", [(WIDTH, HEIGHT)], CONFIG)


def overlapping(count):
    items = [(b"av01", b"")] * count + [(b"av01", PLAIN + bytes(10**6))]
    sizes = [(WIDTH, HEIGHT)] * len(items)
    return avif_files.put_together(items, b"", sizes, CONFIG, overlap=True)


@pytest.mark.parametrize(
    "file",
    [
        units(10**6),
        overlapping(100),
        FILE + box(b"meta", bytes(4)),
        FILE.replace(b"iloc", b"free"),
        FILE.replace(b"\x12\0\x0a", b"\x12\0\x82", 1),
        FILE.replace(b"\x44\0\0\1", b"\x44\0\xff\xff", 1),
    ],
    ids=["units", "overlapping", "two lists", "no places", "forbidden bit", "short list"],
)
def test_what_no_encoder_writes_is_refused_at_once(file):
    began = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        frame_pixels(file)
    assert time.process_time() - began < 1

"""Resampling with SIMD against Pillow's own."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from textcam_service.imaging import resampling
from textcam_service.imaging.resampling import resample

pytestmark = pytest.mark.skipif(resampling.simd is None, reason="no cykooz.resizer for this CPU")


def picture(width, height, seed=0):
    """Noise of several scales, to the ends of the range."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(height // 5, 1), max(width // 5, 1), 3), np.uint8)
    base = Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)
    noise = rng.normal(0, 40, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(base) + noise, 0, 255).astype(np.uint8))


def pillows(image, size, interpolation, box):
    return np.asarray(image.resize(size, resampling._PILLOW[interpolation], box=box))


def require_alike(mine, reference):
    levels = np.abs(mine.astype(int) - reference)
    assert mine.shape == reference.shape
    assert levels.max() <= 2
    assert (levels > 0).mean() <= 0.04


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (480, 640), (288, 432), (300, 1200), (1200, 300), (90, 70)]
)
def test_a_centre_crop_is_pillows(width, height, interpolation):
    """Taller images too, in which Pillow goes down the columns first."""
    side = min(width, height) * 224 / 256
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    image = picture(width, height)
    mine = resample(image, (224, 224), interpolation, box)
    require_alike(mine, pillows(image, (224, 224), interpolation, box))


@pytest.mark.parametrize("seed", range(40))
def test_any_part_at_any_size_is_pillows(seed):
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(3, 500, 2))
    left, right = np.sort(rng.random(2)) * (width - 1) + (0.0, 1.0)
    top, bottom = np.sort(rng.random(2)) * (height - 1) + (0.0, 1.0)
    box = (float(left), float(top), float(right), float(bottom))
    size = tuple(int(side) for side in rng.integers(1, 300, 2))
    interpolation = str(rng.choice(["bilinear", "bicubic", "lanczos"]))
    image = picture(width, height, seed)
    mine = resample(image, size, interpolation, box)
    levels = np.abs(mine.astype(int) - pillows(image, size, interpolation, box))
    assert levels.max() <= 2
    assert levels.mean() <= 0.05


@pytest.mark.parametrize(
    ("size", "box", "between"),
    [
        ((4000, 4000), (0, 0, 4000, 4000), (224, 4000)),
        ((300, 60_000), (20.5, 100, 244.5, 324), (232, 224)),
        ((60_000, 300), (100, 20.5, 324, 244.5), (224, 232)),
    ],
)
def test_between_the_passes_lies_only_what_counts(monkeypatch, size, box, between):
    """The first image takes 64 MB a copy."""
    made, new = [], Image.new
    monkeypatch.setattr(
        Image, "new", lambda mode, size, *colour: made.append(size) or new(mode, size, *colour)
    )
    image = new("RGB", size, (9, 8, 7))
    mine = resample(image, (224, 224), "bicubic", box)
    (width, height), last = made
    assert last == (224, 224)
    assert width <= between[0]
    assert height <= between[1]
    assert (mine == (9, 8, 7)).all()


def test_a_picture_longer_than_the_resampler_takes_is_left_to_pillow():
    image = Image.new("RGB", (200_000, 3), (9, 8, 7))
    mine = resample(image, (32, 32), "bicubic", (0, 0, 200_000, 3))
    assert (mine == (9, 8, 7)).all()


def test_a_picture_of_many_blocks_of_memory_is_read_as_a_whole():
    """Pillow keeps it in several blocks of 16 MB."""
    pixels = np.random.default_rng(0).integers(0, 256, (2500, 3000, 3), np.uint8)
    image, box = Image.fromarray(pixels), (0.0, 0.0, 3000.0, 2500.0)
    levels = np.abs(
        resample(image, (60, 50), "bicubic", box).astype(int)
        - pillows(image, (60, 50), "bicubic", box)
    )
    assert levels.max() <= 1


def test_without_it_pillow_resamples(monkeypatch):
    image, box = picture(200, 100), (10.5, 0, 90.5, 80)
    monkeypatch.setattr(resampling, "simd", None)
    mine = resample(image, (40, 40), "lanczos", box)
    np.testing.assert_array_equal(mine, pillows(image, (40, 40), "lanczos", box))


@pytest.mark.parametrize(("machine", "starts"), [("x86_64", False), ("aarch64", True)])
def test_only_where_it_has_no_wheels_may_it_be_missing(machine, starts):
    """Where it is a dependency, its absence is a broken installation."""
    script = (
        "import platform, sys; sys.modules['cykooz_resizer'] = None; "
        f"platform.machine = lambda: {machine!r}; "
        "from textcam_service.imaging.resampling import simd; assert simd is None"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is starts, done.stderr

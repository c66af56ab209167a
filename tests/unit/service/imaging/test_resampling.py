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


@pytest.mark.parametrize(("width", "height"), [(500, 300), (150, 400)])
def test_a_strip_at_a_time_is_the_same(width, height, monkeypatch):
    image, box = picture(width, height), (3.3, 5.0, width - 7.7, height - 2.5)
    whole = resample(image, (64, 48), "bicubic", box)
    monkeypatch.setattr(resampling, "_STRIP", 1000)
    np.testing.assert_array_equal(resample(image, (64, 48), "bicubic", box), whole)


def test_no_more_than_a_strip_is_copied_of_a_large_image(monkeypatch):
    """The whole of this image takes 64 MB a copy."""
    taken = []
    crop = Image.Image.crop
    monkeypatch.setattr(
        Image.Image, "crop", lambda image, box: taken.append(box) or crop(image, box)
    )
    resample(Image.new("RGB", (4000, 4000)), (224, 224), "bicubic", (0, 0, 4000, 4000))
    assert len(taken) > 50
    assert max((box[2] - box[0]) * (box[3] - box[1]) for box in taken) <= resampling._STRIP
    taken.clear()
    image = Image.new("RGB", (200_000, 3), (9, 8, 7))
    mine = resample(image, (32, 32), "bicubic", (0, 0, 200_000, 3))
    assert not taken
    assert (mine == (9, 8, 7)).all()


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

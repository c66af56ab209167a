"""Heatmaps of an answer: no more than fit a message, and only while they are waited for."""

import io
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from textcam.v1 import types_pb2 as types_pb
from textcam_client._heatmaps import geometry
from textcam_client._heatmaps.colormap import blend
from textcam_client._heatmaps.view import HeatmapContext, Peak
from textcam_service.core.heatmap import heatmap
from textcam_service.core.methods import METHODS
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import Crop
from textcam_service.errors import DeadlineExpired, ResponseTooLarge
from textcam_service.serving.grpc.explainer.heatmaps import HeatmapEncoder, ImageInfo
from textcam_service.serving.grpc.explainer.requests import Job, TopK

HEIGHT, WIDTH = 900, 1400
SCENE = ImageInfo(HEIGHT, WIDTH, "pillow/PNG", Crop(250, 0, 900, 900))
RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
MAP = RNG.random((7, 7)).astype(np.float32)
CROP = geometry.Crop(250, 0, 900, 900)
PEAK = Peak(MAP, CROP)
VIEW = HeatmapContext((HEIGHT, WIDTH), CROP, None, PEAK)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


JOB = Job(
    encoded=png(PIXELS),
    pixels=None,
    target=TopK(2),
    wish=PhraseFilter(3),
    groups=True,
    heatmap=types_pb.HEATMAP_FORM_OVERLAY,
    predictions=1,
    method=METHODS["cam"],
    may_degrade=False,
)
LEVELS = replace(JOB, heatmap=types_pb.HEATMAP_FORM_IMAGE)


def drawing(job=JOB, *, deadline=None, max_bytes=2**30):
    return HeatmapEncoder(job, SCENE, deadline, max_bytes)


def test_heatmaps_are_foretold_to_the_pixel():
    drawing(LEVELS, max_bytes=3 * HEIGHT * WIDTH).check(3)
    with pytest.raises(ResponseTooLarge, match=r"2 target\(s\) of a 1400 x 900 .* 'saliency'"):
        drawing(LEVELS, max_bytes=3 * HEIGHT * WIDTH - 1).check(3)


def test_the_size_of_overlays_is_not_foretold():
    drawing(max_bytes=10).check(1000)


@pytest.mark.parametrize("job", [JOB, LEVELS])
def test_no_more_heatmaps_are_drawn_than_fit_a_message(job):
    one = drawing(job).draw(MAP, PEAK).ByteSize()
    limited = drawing(job, max_bytes=3 * one)
    for _ in range(3):
        limited.draw(MAP, PEAK)
    with pytest.raises(ResponseTooLarge):
        limited.draw(MAP, PEAK)


@pytest.mark.parametrize("job", [JOB, replace(JOB, encoded=None, pixels=PIXELS)])
def test_an_overlay_lies_on_the_whole_image(job):
    drawn = Image.open(io.BytesIO(drawing(job).draw(MAP, PEAK).overlay_png))
    expected = blend(PIXELS, VIEW.heatmap(MAP, None, PEAK, smooth=True))
    np.testing.assert_array_equal(np.asarray(drawn), expected)


def test_levels_are_the_heatmap_rounded():
    levels = np.frombuffer(drawing(LEVELS).draw(MAP, PEAK).image.data, np.uint8)
    expected = heatmap(MAP, SCENE.crop, HEIGHT, WIDTH, float(MAP.max())).ravel()
    assert np.abs(levels / 255 - expected).max() <= 0.5 / 255 + 1e-6


def test_what_nobody_waits_for_is_not_drawn():
    wanted = drawing()
    wanted.draw(MAP, PEAK)
    wanted.cancel()
    with pytest.raises(DeadlineExpired):
        wanted.draw(MAP, PEAK)
    in_time = drawing(deadline=time.monotonic() + 60)
    in_time.raise_if_cancelled()
    late = drawing(deadline=time.monotonic() - 0.001)
    with pytest.raises(DeadlineExpired, match="while the answer was made; allow more time"):
        late.raise_if_cancelled()

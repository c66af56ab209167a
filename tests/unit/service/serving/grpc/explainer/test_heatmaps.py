"""Heatmaps of an answer: no more than fit a message, and only while they are waited for."""

import io
from dataclasses import replace

import icc_profiles
import numpy as np
import pytest
from PIL import Image
from textcam_client._heatmaps import geometry
from textcam_client._heatmaps.colormap import blend
from textcam_client._heatmaps.view import HeatmapContext, Peak
from textcam_service.core.heatmap import heatmap
from textcam_service.core.methods import METHODS
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import Crop
from textcam_service.errors import DeadlineExpired, ResponseTooLarge
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.jobs import ExplainJob, HeatmapForm, TopK
from textcam_service.serving.engine.results import ImageInfo
from textcam_service.serving.grpc.explainer.heatmaps import HeatmapEncoder, check_map_count

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


JOB = ExplainJob(
    png(PIXELS), METHODS["cam"], PhraseFilter(3), target=TopK(2), heatmap=HeatmapForm.OVERLAY
)
LEVELS = replace(JOB, heatmap=HeatmapForm.IMAGE)


def drawing(job=JOB, *, token=None, max_bytes=2**30):
    return HeatmapEncoder(job, SCENE, token or CancellationToken(None), max_bytes)


def test_the_size_of_heatmaps_is_predicted_to_the_pixel():
    check_map_count(LEVELS, SCENE, 3, 3 * HEIGHT * WIDTH)
    with pytest.raises(ResponseTooLarge, match=r"2 target\(s\) of a 1400 x 900 .* 'saliency'"):
        check_map_count(LEVELS, SCENE, 3, 3 * HEIGHT * WIDTH - 1)


def test_the_size_of_overlays_is_not_predicted():
    check_map_count(JOB, SCENE, 1000, 10)


@pytest.mark.parametrize("job", [JOB, LEVELS])
def test_no_more_heatmaps_are_drawn_than_fit_a_message(job):
    one = drawing(job).draw(MAP, PEAK).ByteSize()
    limited = drawing(job, max_bytes=3 * one)
    for _ in range(3):
        limited.draw(MAP, PEAK)
    with pytest.raises(ResponseTooLarge):
        limited.draw(MAP, PEAK)


@pytest.mark.parametrize("job", [JOB, replace(JOB, image=PIXELS)])
def test_an_overlay_lies_on_the_whole_image(job):
    drawn = Image.open(io.BytesIO(drawing(job).draw(MAP, PEAK).overlay_png))
    expected = blend(PIXELS, VIEW.heatmap(MAP, None, PEAK, smooth=True))
    np.testing.assert_array_equal(np.asarray(drawn), expected)


@pytest.mark.parametrize("used", [True, False])
def test_an_overlay_has_the_colours_that_the_model_saw(used):
    adobe = icc_profiles.of_primaries(*icc_profiles.WIDE["Adobe RGB"])
    muted = (100 + PIXELS // 6).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(muted).save(file, "PNG", icc_profile=adobe)
    scene, job = replace(SCENE, use_profile=used), replace(JOB, image=file.getvalue())
    encoder = HeatmapEncoder(job, scene, CancellationToken(None), 2**30)
    drawn = Image.open(io.BytesIO(encoder.draw(MAP, PEAK).overlay_png))
    shown = icc_profiles.srgb_of_primaries(muted, "Adobe RGB") if used else muted
    expected = blend(np.rint(shown).astype(np.uint8), VIEW.heatmap(MAP, None, PEAK, smooth=True))
    assert np.abs(np.asarray(drawn, int) - expected).max() <= 2


def test_levels_are_the_heatmap_rounded():
    levels = np.frombuffer(drawing(LEVELS).draw(MAP, PEAK).image.data, np.uint8)
    expected = heatmap(MAP, SCENE.crop, HEIGHT, WIDTH, float(MAP.max())).ravel()
    assert np.abs(levels / 255 - expected).max() <= 0.5 / 255 + 1e-6


def test_no_heatmap_is_drawn_once_the_token_is_cancelled():
    token = CancellationToken(None)
    awaited = drawing(token=token)
    awaited.draw(MAP, PEAK)
    token.cancel()
    with pytest.raises(DeadlineExpired):
        awaited.draw(MAP, PEAK)

"""Figures of pseudo-masks, against cases whose answer is known by hand."""

import numpy as np
import pytest
from textcam_service.core.types import Crop, Prediction
from textcam_service.offline.evaluation.cases import Observation, scene_truth
from textcam_service.offline.evaluation.masks import judge_masks


def seen(count):
    prediction, crop = Prediction(0, "x", 0.9, 3.0), Crop(0, 0, 96, 96)
    maps = np.zeros((1, 2, 2), np.float32)
    cases = scene_truth(count, seed=5).cases
    return [Observation(case, prediction, np.zeros(2), maps, crop) for case in cases]


def test_the_truth_itself_is_perfect_and_sees_the_image():
    observations = seen(3)
    heats = [o.case.key_mask.astype(np.float32) for o in observations]
    given = []

    def mask_of(heat, image):
        given.append(image)
        return heat > 0.5

    figures = judge_masks(observations, heats, mask_of)
    assert (figures.iou, figures.iou_median, figures.found) == (1, 1, 1)
    assert (figures.covered, figures.precise) == (1, 1)
    np.testing.assert_array_equal(given[2], np.asarray(observations[2].case.image))


def test_overlaps_are_counted_as_by_hand():
    """A mask of everything, then an empty one: the object's share of the image, then 0."""
    observations = seen(2)
    heats = [np.ones((96, 96), np.float32), np.zeros((96, 96), np.float32)]
    figures = judge_masks(observations, heats, lambda heat, _image: heat > 0)
    share = observations[0].case.key_mask.mean()
    assert figures.iou == pytest.approx(share / 2)
    assert figures.iou_median == pytest.approx(share / 2)
    assert figures.found == 0
    assert figures.covered == 0.5
    assert figures.precise == pytest.approx(share / 2)

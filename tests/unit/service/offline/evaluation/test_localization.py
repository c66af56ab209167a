"""Heatmaps against masks whose answer is known by hand."""

import numpy as np
import pytest
from PIL import Image
from textcam_service.core.types import Crop, Prediction
from textcam_service.offline.evaluation.cases import (
    Case,
    Observation,
    explain_case,
    scene_truth,
)
from textcam_service.offline.evaluation.localization import (
    centered_gaussian,
    judge_groups,
    judge_localization,
    points_at,
)
from textcam_service.scenes.world import Scene, SceneObject
from toy_bundle import AXES, ToyBackbone, toy_bundle


def observed(case, class_index):
    prediction = Prediction(class_index, "x", 0.9, 3.0)
    size = case.image.width
    maps = np.zeros((1, 2, 2), np.float32)
    return Observation(case, prediction, np.zeros(2), maps, Crop(0, 0, size, size))


def test_pointing_allows_half_a_cell():
    mask = np.zeros((20, 20), bool)
    mask[10, 10] = True
    heat = np.zeros((20, 20), np.float32)
    assert not points_at(heat, mask)
    for column, hit in ((10, True), (14, True), (15, False)):
        heat[:] = 0
        heat[10, column] = 1
        assert points_at(heat, mask) is hit


def test_a_perfect_map_scores_one_and_its_opposite_nought():
    truth = scene_truth(3)
    seen = [observed(case, case.class_index) for case in truth.cases]
    perfect = judge_localization(seen, lambda o: o.case.key_mask.astype(np.float32))
    assert (perfect.pointing, perfect.energy, perfect.iou_best, perfect.iou_fixed) == (1, 1, 1, 1)
    opposite = judge_localization(seen, lambda o: (~o.case.key_mask).astype(np.float32))
    assert opposite.energy == 0
    assert opposite.iou_best == 0
    assert centered_gaussian(seen[0]).argmax() == 48 * 96 + 48


def toy_observation(means, corners):
    """Two objects, a red cube top left and a green cube bottom right, of 32 x 32 pixels.

    Channel k's map has its whole mean in one corner's cell of 4 x 4.
    """
    items = [SceneObject("cube", colour, "rubber", "large", 0, 0) for colour in ("red", "green")]
    masks = np.zeros((2, 32, 32), bool)
    masks[0, :6, :6] = masks[1, 26:, 26:] = True
    maps = np.zeros((len(means), 4, 4), np.float32)
    for channel, (mean, corner) in enumerate(zip(means, corners, strict=True)):
        maps[channel][corner] = 16 * mean
    scene = Scene(tuple(items), "plain", 0.0, 0)
    case = Case("a", Image.new("RGB", (32, 32)), 0, frozenset(), scene, masks)
    prediction = Prediction(0, "seen", 0.9, float(sum(means)))
    return Observation(case, prediction, np.zeros(2), maps, Crop(0, 0, 32, 32))


TOP_LEFT, TOP_RIGHT = (0, 0), (0, 3)


def test_a_group_is_right_where_its_own_map_peaks_on_an_object_of_its_phrase():
    """The map of "red" peaks on the red object, that of "cube" beside both; nothing is blue."""
    seen = [toy_observation([4, 2, 0, 1], [TOP_LEFT, TOP_RIGHT, TOP_LEFT, TOP_LEFT])]
    rationale = explain_case(toy_bundle(), seen[0], 5)
    assert [phrase.text for phrase in rationale.phrases] == ["red", "cube", "blue"]
    found = judge_groups(toy_bundle(), seen)
    # Any point on an object is right for "cube" (both are), and half of them for "red".
    assert found == {"pointing": 0.5, "chance": 0.75, "groups": 2}
    # The whole map peaks where "red" does, and there stands a cube as well.
    assert judge_groups(toy_bundle(), seen, "whole")["pointing"] == 1


def test_groups_that_speak_against_are_not_judged():
    """Three channels for "red" and a stronger one against it: said, but its evidence is -1."""
    bundle = toy_bundle(ToyBackbone([1, 1, 1, -1, 1]), AXES[[0, 0, 0, 0, 1]])
    seen = [toy_observation([1, 1, 1, 4, 1], 5 * [TOP_LEFT])]
    rationale = explain_case(bundle, seen[0], 5)
    said = {phrase.text: phrase.evidence for phrase in rationale.phrases}
    assert said == pytest.approx({"red": -1, "cube": 1})
    assert judge_groups(bundle, seen) == {"pointing": 1, "chance": 1, "groups": 1}


def test_nothing_to_judge_is_nan_and_not_nought():
    found = judge_groups(toy_bundle(), [toy_observation([0, 0, 0, 1], 4 * [TOP_LEFT])])
    assert np.isnan([found["pointing"], found["chance"]]).all()
    assert found["groups"] == 0

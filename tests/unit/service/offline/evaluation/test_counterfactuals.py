"""Phrases taken out of scenes, and effects ranked with what that costs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from textcam_service.offline.evaluation import counterfactuals
from textcam_service.offline.evaluation.cases import (
    Case,
    Truth,
    observe,
)
from textcam_service.offline.evaluation.controls import with_directions
from textcam_service.offline.evaluation.counterfactuals import (
    Removals,
    counterfactual_agreement,
    effects_of,
    removals,
    without_phrase,
)
from textcam_service.scenes.classes import CLASSES, class_scene
from textcam_service.scenes.world import Scene, SceneObject
from toy_bundle import AXES, PHRASES, ToyBackbone, toy_bundle

SCENE = Scene((SceneObject("cube", "red", "rubber", "large", 0.0, 0.0),), "plain", 0.0, 0)


def toy_picture(scene):
    """A renderer: 200 of red if something is red, 100 of green for a cube, 50 of blue for plain."""
    told = [(200, "red"), (100, "cube"), (50, "plain floor")]
    colour = [value if phrase in scene.phrases else 0 for value, phrase in told]
    return np.full((4, 4, 3), colour, np.uint8)


@pytest.fixture
def removed(monkeypatch):
    """Of one toy scene: the red cube's colour is the class's, its shape and the floor are not."""
    monkeypatch.setattr(
        counterfactuals, "render", lambda scene: SimpleNamespace(image=toy_picture(scene))
    )
    bundle = toy_bundle(ToyBackbone(bias=0.3, constant=0.25))
    case = Case("a", Image.fromarray(toy_picture(SCENE)), 0, frozenset(), SCENE)
    truth = Truth([case], {0: frozenset({"red", "metal"})})
    return bundle, removals(bundle, observe(bundle, [case]), truth)


def test_of_a_scene_as_many_other_phrases_are_removed_as_the_classs_own(removed):
    """Red costs 2, cube 1, plain floor 0.5; metal is not true, and nothing else is known."""
    own, other = removed[1].phrases.tolist()
    assert PHRASES[own] == "red"
    assert PHRASES[other] in {"cube", "plain floor"}
    cost = {"cube": 1.0, "plain floor": 0.5}[PHRASES[other]]
    assert removed[1].costs == pytest.approx([2, cost], abs=1e-5)
    assert removed[1].places.tolist() == [0, 0]


def test_effects_are_ranked_with_what_removal_costs(removed):
    bundle, one = removed
    three = replace(one, places=np.zeros(3, np.int64), phrases=np.arange(3), costs=COSTS)
    # Channel k supports phrase k: the effects are the evidence, 2, 1 and 0.5.
    assert effects_of(three, bundle) == pytest.approx([2, 1, 0.5], abs=1e-5)
    found = counterfactual_agreement(three, bundle)
    assert found["rank_correlation"] == found["within_scene"] == pytest.approx(1)
    assert found["pairs"] == 3
    turned = with_directions(bundle, AXES[[2, 1, 0, 3]])
    assert counterfactual_agreement(three, turned)["rank_correlation"] == pytest.approx(-1)


COSTS = np.array([2.0, 1.0, 0.5])


def test_phrases_that_share_a_channel_both_have_its_effect(removed):
    """As in no sum: an effect counts a channel for every phrase that it supports."""
    bundle, one = removed
    both = np.float32([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    shared = with_directions(bundle, both / np.linalg.norm(both, axis=1, keepdims=True))
    three = replace(one, places=np.zeros(3, np.int64), phrases=np.arange(3), costs=COSTS)
    assert effects_of(three, shared) == pytest.approx([2, 3, 0.5], abs=1e-5)


def test_ranks_are_taken_over_all_pairs_and_within_each_scene(removed):
    """Scene 0 is ranked rightly, scene 1 the other way round, scene 2 has two phrases alone."""
    places = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    costs = np.array([1.0, 2, 3, 11, 12, 13, 5, 6])
    estimates = np.array([1.0, 2, 3, 13, 12, 11, 6, 5])
    some = Removals([], places, np.zeros(8, np.int64), costs)
    found = counterfactual_agreement(some, estimates)
    ranks = np.array([0, 1, 2, 7, 6, 5, 4, 3]) - np.array([0, 1, 2, 5, 6, 7, 3, 4])
    assert found["rank_correlation"] == pytest.approx(1 - 6 * (ranks**2).sum() / (8 * 63))
    assert found["within_scene"] == pytest.approx((1 - 1) / 2)
    assert (found["within_low"], found["within_high"]) == (-1, 1)
    assert found["low"] < found["rank_correlation"] < found["high"]
    # What is the same for all phrases of a scene ranks none of them, however well it ranks scenes.
    by_scene = counterfactual_agreement(some, np.array([2.0, 12, 5])[places])
    assert by_scene["within_scene"] == 0
    assert by_scene["rank_correlation"] > 0.8


def test_nothing_removed_is_not_known():
    none: np.ndarray = np.zeros(0, np.int64)
    found = counterfactual_agreement(Removals([], none, none, np.zeros(0)), np.zeros(0))
    assert found["pairs"] == 0
    assert np.isnan([found["rank_correlation"], found["within_scene"], found["low"]]).all()


RNG = np.random.default_rng(0)


def test_a_removed_phrase_is_no_longer_true_and_nothing_else_changes():
    for index in range(60):
        scene = class_scene(np.random.default_rng(index), index % 10)
        name = CLASSES[index % 10].name
        assert name in scene.phrases
        other = without_phrase(scene, name, RNG)
        assert name not in other.phrases
        assert other.floor == scene.floor
        assert [o.x for o in other.objects] == [o.x for o in scene.objects]
        assert (
            f"{scene.floor} floor" not in without_phrase(scene, f"{scene.floor} floor", RNG).phrases
        )
    assert without_phrase(scene, "pink cube", RNG) is None
    assert without_phrase(scene, "wet floor", RNG) is None

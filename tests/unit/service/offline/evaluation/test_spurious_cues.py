"""Cues of a biased world: what names them, and what takes them away."""

from dataclasses import replace

import numpy as np
import pytest
from planted_bundle import SETTINGS
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.offline.evaluation import spurious_cues
from textcam_service.offline.evaluation.spurious_cues import (
    cue_phrases,
    perturbed_settings,
    without_cue,
)
from textcam_service.scenes.classes import BIASED, CLASSES, SceneClass, class_scene


def test_a_cue_is_taken_away_and_the_key_stays():
    for class_index, phrase in BIASED.cue_phrases.items():
        scene = class_scene(np.random.default_rng(3), class_index, BIASED, cue=True)
        bare = without_cue(scene, class_index, BIASED)
        assert len(bare.objects) == len(scene.objects)
        assert phrase in scene.phrases
        assert phrase not in bare.phrases
        assert CLASSES[class_index].name in bare.phrases
        assert phrase in cue_phrases(class_index, BIASED)
    named = cue_phrases(BIASED.object_class, BIASED)
    assert {"yellow", "yellow sphere", "small yellow metal"} <= named
    assert not {"large yellow sphere", "sphere", "yellow cone", "small sphere"} & named
    cue = SceneClass(BIASED.cue)
    assert not any(cue.has(item.attributes) for item in bare.objects)


def test_each_setting_of_the_choice_is_moved_by_a_tenth_either_way_and_no_other():
    settings = RationaleSettings(min_new=0.5, min_more=0.4, min_odds=1.05)
    moves = {name: change(settings) for name, change in perturbed_settings(settings).items()}
    assert list(moves) == [
        "min_new x 0.9", "min_new x 1.1", "min_more x 0.9", "min_more x 1.1",
        "min_odds x 0.9", "min_odds x 1.1",
    ]  # fmt: skip
    for name, change in moves.items():
        setting, factor = name.split(" x ")
        moved = max(getattr(settings, setting) * float(factor), 1.0 if "odds" in name else 0.0)
        assert change == replace(settings, **{setting: moved})
    assert moves["min_new x 0.9"].min_new == pytest.approx(0.45)
    assert moves["min_odds x 0.9"].min_odds == 1.0  # not below what it may be
    # Moves are of the judged bank's value, whatever another bank's is.
    other = perturbed_settings(settings)["min_new x 1.1"](RationaleSettings(min_new=9.0))
    assert other.min_new == pytest.approx(0.55)


def test_a_cue_is_named_where_it_is_said_by_the_settings_that_are_asked_for(planted):
    bundle, fit, truth = planted
    rows = np.flatnonzero(truth[:, 3])[:40]
    evidence, logits = fit.probing.evidence[rows].astype(np.float64), np.zeros((len(rows), 2))
    twin = spurious_cues._Twin(bundle, 0, frozenset({"phrase 3"}), logits, evidence, None, None)
    assert twin.named(SETTINGS) >= 0.9
    assert twin.named(replace(SETTINGS, min_probability=1.0)) == 0
    # By scores, where it is true it is further from its null than where it is not.
    scores = spurious_cues._scores(bundle, fit.probing.evidence, np.array([3]))[:, 0]
    assert scores[truth[:, 3] == 1].min() > np.median(scores)

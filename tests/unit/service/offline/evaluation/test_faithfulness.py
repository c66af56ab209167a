"""Faithfulness: what an explanation says, against what a toy network computes."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.special import expit
from sklearn.metrics import auc
from textcam_service.artefacts.backbone import NO_HEAD
from textcam_service.offline.evaluation import run
from textcam_service.offline.evaluation.cases import (
    Case,
    observe,
)
from textcam_service.offline.evaluation.faithfulness import channel_ablation, perturbation
from textcam_service.offline.evaluation.report import as_text
from textcam_service.scenes.world import Scene, SceneObject
from toy_bundle import ToyBackbone, corner_picture, toy_bundle

SCENE = Scene((SceneObject("cube", "red", "rubber", "large", 0.0, 0.0),), "plain", 0.0, 0)


def toy_picture(scene):
    """A renderer: 200 of red if something is red, 100 of green for a cube, 50 of blue for plain."""
    told = [(200, "red"), (100, "cube"), (50, "plain floor")]
    colour = [value if phrase in scene.phrases else 0 for value, phrase in told]
    return np.full((4, 4, 3), colour, np.uint8)


def area(mean_reds):
    """Under the probability of a class with logit red / 100, from mean reds at each step."""
    probability = expit(np.array(mean_reds) / 100)
    return auc(np.linspace(0, 1, len(probability)), probability)


def test_deletion_and_drop_by_hand():
    bundle = toy_bundle()
    seen = observe(bundle, [Case("a", corner_picture())])
    heat = np.zeros((4, 4), np.float32)
    heat[:2, :2] = [[1, 0.9], [0.8, 0.5]]
    # One pixel a step becomes 40: four fall by 120 of the sum of 640, then twelve rise by 40.
    hot = [640 - 120 * i for i in range(5)] + [160 + 40 * i for i in range(1, 13)]
    kept = [160, 148, 136, 100] + 12 * [40]  # heat * 160 + (1 - heat) * 40
    found = perturbation(bundle, seen, lambda _: heat)
    assert found["deletion_auc"] == pytest.approx(area(np.array(hot) / 16), abs=1e-6)
    assert sum(kept) > 640
    assert (found["average_drop"], found["increase"]) == (0, 1)

    cold = [640 + 40 * i for i in range(13)] + [1120 - 120 * i for i in range(1, 5)]
    found = perturbation(bundle, seen, lambda _: np.float32(heat == 0))
    assert found["deletion_auc"] == pytest.approx(area(np.array(cold) / 16), abs=1e-6)
    before, after = expit(0.4), expit(0.1)  # red becomes the mean, black stays
    assert found["average_drop"] == pytest.approx((before - after) / before, abs=1e-6)
    assert found["increase"] == 0


def test_insertion_puts_pixels_back_into_a_blurred_picture_hottest_first():
    bundle = toy_bundle()
    picture = corner_picture()
    heat = np.arange(16, 0, -1, dtype=np.float32).reshape(4, 4) / 16  # reading order
    own = np.asarray(picture)[:, :, 0].ravel().astype(float)
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(8)))[:, :, 0].ravel()
    assert soft.max() < 100  # so blurring took the corner away
    reds = [own[:i].sum() + soft[i:].sum() for i in range(17)]
    seen = observe(bundle, [Case("a", picture)])
    found = perturbation(bundle, seen, lambda _: heat)
    assert found["insertion_auc"] == pytest.approx(area(np.array(reds) / 16), abs=1e-6)


def test_figures_are_means_over_images():
    bundle = toy_bundle()
    seen = observe(bundle, [Case(name, corner_picture()) for name in "ab"])
    falling = np.arange(16, 0, -1, dtype=np.float32).reshape(4, 4) / 16
    heats = {"a": falling, "b": 1 - falling}
    both = perturbation(bundle, seen, lambda o: heats[o.case.name])
    each = [perturbation(bundle, [o], lambda o: heats[o.case.name]) for o in seen]
    assert each[0] != each[1]
    for name, value in both.items():
        assert value == pytest.approx((each[0][name] + each[1][name]) / 2)
    assert both["increase"] == 0.5


def test_pixels_of_equal_heat_go_by_chance_not_from_the_top_down():
    """Then the mean red stays 40 in expectation; from the top down it would fall to 10 at once."""
    bundle = toy_bundle(ToyBackbone([10, 0, 0, 0]))
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, :, 0] = 160
    seen = observe(bundle, [Case(str(i), Image.fromarray(pixels)) for i in range(40)])
    found = perturbation(bundle, seen, lambda _: np.zeros((4, 4), np.float32))
    top_down = [640 - 120 * i for i in range(5)] + [160 + 40 * i for i in range(1, 13)]
    from_the_top = area(10 * np.array(top_down) / 16)
    assert found["deletion_auc"] == pytest.approx(expit(4), abs=0.01)
    assert expit(4) - from_the_top > 0.05


def test_without_a_groups_channels_the_logit_falls_by_its_evidence_or_the_error_is_told():
    backbone = ToyBackbone([1, -0.5, 2, 1], bias=0.3, constant=0.25)
    bundle = toy_bundle(backbone)
    bright, dark = (
        Case(name, Image.fromarray(toy_picture(SCENE) // share), 0)
        for name, share in (("bright", 1), ("dark", 2))
    )
    seen = observe(bundle, [bright, dark])
    # 2 - 0.5 + 1 + 0.25 + 0.3, and half of the colours' share of it.
    logits = [o.prediction.logit for o in seen]
    assert logits == pytest.approx([3.05, 1.8], abs=1e-5)
    assert channel_ablation(bundle, seen) < 1e-6
    # A logit that the channels do not add up to: off by 0.7, of the largest.
    wrong = replace(seen[1], prediction=replace(seen[1].prediction, logit=logits[1] + 0.7))
    assert channel_ablation(bundle, [seen[0], wrong]) == pytest.approx(0.7 / 3.05, abs=1e-5)


def test_a_head_that_cannot_be_run_has_no_channel_ablation_and_the_report_says_so():
    backbone = ToyBackbone()
    backbone.manifest.head_kind = NO_HEAD
    bundle = toy_bundle(backbone)
    assert np.isnan(channel_ablation(bundle, observe(bundle, [Case("a", corner_picture())])))
    (note,) = run._notes(bundle)
    assert note == (
        "ablation_error is left out: it takes a head that can run by itself, and this one's is "
        "'none'"
    )
    assert run._notes(toy_bundle()) == []
    report = {"judged": 1, "images": 1, "accuracy": None, "notes": [note]}
    assert as_text(report).splitlines()[-1] == note


def test_labels_are_judged_by_their_own_probability():
    """The second label's logit is 0 and the first's red / 100: alone it has the same sigmoid."""
    heat = np.zeros((4, 4), np.float32)
    heat[:2, :2] = 1
    bundle = toy_bundle(ToyBackbone(bias=1.0, multi_label=True))
    (seen,) = observe(bundle, [Case("a", corner_picture())])
    assert seen.prediction.probability == pytest.approx(expit(1.4), abs=1e-6)
    found = perturbation(bundle, [seen], lambda _: np.float32(heat == 0))
    before, after = expit(1.4), expit(1.1)  # red becomes the mean, black stays
    assert found["average_drop"] == pytest.approx((before - after) / before, abs=1e-6)
    other = toy_bundle(ToyBackbone(weights=(-1.0, 0, 0, 0), bias=-1.0, multi_label=True))
    (second,) = observe(other, [Case("a", corner_picture())])
    assert second.prediction.class_name == "other"
    assert second.prediction.probability == 0.5  # of a logit of 0, whatever the other label's

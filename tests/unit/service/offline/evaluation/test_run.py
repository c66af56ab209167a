"""The evaluation's figures, against cases whose answer is known by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from textcam_service.core.types import Crop, Prediction
from textcam_service.errors import InvalidTruth
from textcam_service.offline.evaluation.cases import (
    Case,
    Observation,
    Truth,
    read_truth,
    scene_truth,
)
from textcam_service.offline.evaluation.faithfulness import without_phrase
from textcam_service.offline.evaluation.localization import centred_gaussian, judge_place, points_at
from textcam_service.offline.evaluation.phrases import (
    Judged,
    SaidPhrase,
    judge_words,
    judged,
    others,
    word_figures,
    word_intervals,
    word_reliability,
)
from textcam_service.offline.evaluation.report import as_text, write_report
from textcam_service.offline.evaluation.spurious_cues import cue_phrases, without_cue
from textcam_service.scenes.classes import BIASED, CLASSES, SceneClass, class_scene

RNG = np.random.default_rng(0)


def observed(case, class_index=0):
    prediction = Prediction(class_index, "x", 0.9, 3.0)
    size = case.image.width
    maps = np.zeros((1, 2, 2), np.float32)
    return Observation(case, prediction, np.zeros(2), maps, Crop(0, 0, size, size))


def photograph(name="a", phrases=()):
    return Case(name, Image.new("RGB", (8, 8)), None, frozenset(phrases))


def said(*phrases):
    return [SaidPhrase(*phrase) for phrase in phrases]


def laid(phrases, right, doubtful=(), words=()):
    """What is said of an image beside its truth."""
    return Judged(tuple(said(*phrases)), frozenset(right), frozenset(doubtful), frozenset(words))


def test_words_are_counted_as_by_hand():
    truth = Truth(
        [],
        {0: frozenset({"red", "cube", "red cube"})},
        {0: frozenset({"red", "cube"})},
    )
    told = {
        "a": said(("red", 2.0), ("sphere", 1.0), ("cube", -1.0), ("blue", 1.0)),
        "b": said(("sphere", 1.0)),
        "c": [],
    }
    seen = [observed(photograph(name)) for name in told]
    figures = judge_words(seen, truth, lambda o: told[o.case.name])
    assert figures.precision == pytest.approx(2 / 5)  # of all phrases together
    assert figures.precision_1 == 1 / 2  # of the two images that say something
    assert figures.precision_3 == pytest.approx((2 / 3 + 0) / 2)
    assert figures.none == pytest.approx(1 / 3)
    assert figures.recall == pytest.approx(1 / 3)
    assert figures.evidence_share == pytest.approx((2 + 1) / (5 + 1))
    assert figures.swapped == figures.precision  # their truth is the same
    assert math.isnan(figures.ece)
    assert figures.phrases == pytest.approx(5 / 3)


def test_doubtful_phrases_are_neither_right_nor_wrong():
    case = replace(photograph(phrases={"dog"}), doubtful=frozenset({"Wet Nose"}))
    phrases = said(("wet nose", 3.0, 0.9), ("cat", 1.0, 0.6), ("dog", 1.0, 0.8))
    row = judged(observed(case), Truth([]), phrases)
    assert row.marks().tolist()[1:] == [0, 1]
    assert math.isnan(row.marks()[0])
    figures = word_figures([row])
    assert (figures.precision, figures.precision_3, figures.evidence_share) == (0.5, 0.5, 0.5)
    assert math.isnan(figures.precision_1)  # the only first phrase is doubtful
    assert figures.phrases == 3
    assert figures.ece == pytest.approx((abs(0.6 - 0) + abs(0.8 - 1)) / 2)
    # Of a doubtful phrase the image's own truth decides, whatever is true of its class.
    both = judged(observed(case), Truth([], {0: frozenset({"wet nose"})}), phrases)
    assert math.isnan(both.marks()[0])


def test_evidence_that_nothing_has_is_not_known():
    for evidence, share in ((2.0, 1), (-1.0, 1), (0.0, math.nan), (math.nan, math.nan)):
        figures = word_figures([laid([("dog", evidence)], {"dog"})])
        assert figures.evidence_share == pytest.approx(share, nan_ok=True)
    # Words against the target count by their size.
    assert word_figures([laid([("dog", 1.0), ("cat", -3.0)], {"dog"})]).evidence_share == 0.25


def test_letter_case_and_spaces_around_do_not_matter():
    seen = [observed(photograph(phrases={" Guide DOG"}))]
    assert judge_words(seen, Truth([]), lambda _: said(("guide dog", 1.0))).precision_1 == 1


def test_saying_nothing_is_told_apart_from_saying_wrong_things():
    silent = judge_words([observed(photograph(phrases={"dog"}))], Truth([]), lambda _: [])
    assert (silent.none, silent.phrases) == (1, 0)
    assert all(
        math.isnan(value)
        for value in (silent.precision, silent.precision_1, silent.precision_3, silent.recall)
    )
    wrong = word_figures([laid([("cat", 1.0)], {"dog"}), laid([], {"dog"})])
    assert (wrong.none, wrong.precision, wrong.precision_1) == (0.5, 0, 0)


def test_lists_are_exchanged_with_every_other_image_and_never_stay():
    rounds = others(7)
    assert len(rounds) == 20
    for exchanged in rounds:
        assert sorted(exchanged) == list(range(7))
        assert (exchanged != np.arange(7)).all()
    assert len({tuple(exchanged) for exchanged in rounds}) > 10
    assert others(1).shape == (0, 1)


def test_what_is_said_of_everything_is_as_right_of_other_images():
    common = [laid([("animal", 1.0)], {"animal"}) for _ in range(4)]
    own = [laid([(name, 1.0)], {name}) for name in "abcd"]
    assert word_figures(common).swapped == word_figures(common).precision == 1
    assert (word_figures(own).precision, word_figures(own).swapped) == (1, 0)
    # Of two images each gets the other's truth: one phrase right of four, one doubtful of two.
    pair = [
        laid([("a", 1.0), ("b", 1.0)], {"a"}),
        laid([("c", 1.0), ("d", 1.0)], {"b"}, doubtful={"a"}),
    ]
    assert word_figures(pair).swapped == pytest.approx(1 / 3)
    assert math.isnan(word_figures(pair[:1]).swapped)


def test_reliability_compares_probabilities_with_the_truth_in_ranges():
    rows = [
        laid([("a", 1.0, 0.92), ("b", 1.0, 0.98), ("c", 1.0, 0.55)], {"a", "c"}),
        laid([("a", 1.0, 0.94), ("d", 1.0, None)], {"a"}),
        laid([("c", 1.0, 0.5)], set(), doubtful={"c"}),
    ]
    table = word_reliability(rows)
    assert list(table) == ["0.5 to 0.6", "0.9 to 1.0"]
    assert table["0.9 to 1.0"] == pytest.approx(
        {"probability": (0.92 + 0.98 + 0.94) / 3, "observed": 2 / 3, "phrases": 3}
    )
    gaps = abs(0.55 - 1) * 1 + abs((0.92 + 0.98 + 0.94) / 3 - 2 / 3) * 3
    assert word_figures(rows).ece == pytest.approx(gaps / 4)
    assert word_reliability([laid([("a", 1.0)], {"a"})]) == {}


def test_intervals_hold_what_chance_would_change():
    """Of 400 independent phrases, half of them right: 0.5 -+ 1.96 sqrt(0.25 / 400)."""
    rows = [laid([("a", 1.0)], {"a"} if place % 2 else set()) for place in range(400)]
    low, high = word_intervals(rows)
    assert low.precision == pytest.approx(0.5 - 0.049, abs=0.006)
    assert high.precision == pytest.approx(0.5 + 0.049, abs=0.006)
    assert (low.none, high.none, low.phrases, high.phrases) == (0, 0, 1, 1)
    assert math.isnan(low.ece)
    # Ten phrases of one image are one draw, not ten.
    many = [laid(5 * [("a", 1.0)], {"a"} if place % 2 else set()) for place in range(400)]
    assert word_intervals(many)[0].precision == low.precision
    assert word_intervals(rows)[0].precision == low.precision  # the seed is fixed


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
    perfect = judge_place(seen, lambda o: o.case.key_mask.astype(np.float32))
    assert (perfect.pointing, perfect.energy, perfect.iou_best, perfect.iou_fixed) == (1, 1, 1, 1)
    opposite = judge_place(seen, lambda o: (~o.case.key_mask).astype(np.float32))
    assert opposite.energy == 0
    assert opposite.iou_best == 0
    assert centred_gaussian(seen[0]).argmax() == 48 * 96 + 48


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


def test_a_scene_case_knows_its_key():
    case = scene_truth(1).cases[0]
    matching = [
        CLASSES[0].has(item.attributes)
        for item, mask in zip(case.scene.objects, case.masks, strict=True)
        if (mask == case.key_mask).all()
    ]
    assert matching == [True]


def test_a_truth_file_is_read(tmp_path):
    Image.new("RGB", (9, 8)).save(tmp_path / "a.png")
    (tmp_path / "truth.json").write_text(
        json.dumps(
            {
                "images": [
                    {"file": "a.png", "phrases": ["dog"], "class_index": 2, "doubtful": ["paw"]}
                ],
                "class_phrases": {"2": ["animal"]},
            }
        )
    )
    truth = read_truth(tmp_path / "truth.json")
    marked = (tmp_path / "truth.json").read_text("utf-8")
    (tmp_path / "marked.json").write_text(marked, "utf-8-sig")
    assert read_truth(tmp_path / "marked.json").class_phrases == truth.class_phrases
    assert truth.cases[0].image.size == (9, 8)
    assert truth.cases[0].doubtful == {"paw"}
    assert truth.right(truth.cases[0], 2) == {"dog", "animal"}
    assert truth.right(truth.cases[0], 1) == {"dog"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no truth file"),
        ("[]", "no truth file"),
        ('{"images": [{}]}', "no truth file"),
        ('{"images": [{"file": "none.png"}]}', "none.png is not there"),
        ('{"images": [{"file": "truth.json", "phrases": "dog"}]}', "no list of phrases"),
        ('{"images": [{"file": "truth.json", "doubtful": ["a", 1]}]}', "no list of phrases"),
        ('{"images": [{"file": "truth.json", "class_index": "3"}]}', "is no index"),
        ('{"images": []}', "names no image"),
    ],
)
def test_a_bad_truth_file_says_what_is_wrong(tmp_path, content, message):
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(InvalidTruth, match=message):
        read_truth(tmp_path / "truth.json")
    with pytest.raises(InvalidTruth, match=r"absent\.json cannot be read"):
        read_truth(tmp_path / "absent.json")


def test_a_report_is_written_as_json_text_and_chart(tmp_path):
    row = {"precision": 0.5, "swapped": 0.25, "recall": float("nan")}
    report = {
        "images": 4,
        "judged": 3,
        "accuracy": 0.75,
        "words": {"TextCAM": row, "control: random directions": row},
    }
    text = as_text(report)
    assert "3 of 4 images judged" in text
    assert "0.250" in text
    paths = write_report(report, tmp_path)
    strict = json.loads(paths[0].read_text(), parse_constant=pytest.fail)
    assert strict["words"]["TextCAM"]["recall"] is None
    assert [path.name for path in paths] == ["report.json", "report.txt", "report.png"]
    assert Image.open(paths[2]).width > 300

"""Measures of said phrases, counted by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from textcam_service.core.types import Crop, Prediction
from textcam_service.offline.evaluation.cases import (
    Case,
    Observation,
    Truth,
)
from textcam_service.offline.evaluation.phrases import (
    Judged,
    SaidPhrase,
    derangements,
    judge_phrases,
    judged,
    phrase_intervals,
    phrase_metrics,
    phrase_reliability,
)


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
    figures = judge_phrases(seen, truth, lambda o: told[o.case.name])
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
    figures = phrase_metrics([row])
    assert (figures.precision, figures.precision_3, figures.evidence_share) == (0.5, 0.5, 0.5)
    assert math.isnan(figures.precision_1)  # the only first phrase is doubtful
    assert figures.phrases == 3
    assert figures.ece == pytest.approx((abs(0.6 - 0) + abs(0.8 - 1)) / 2)
    # Of a doubtful phrase the image's own truth decides, whatever is true of its class.
    both = judged(observed(case), Truth([], {0: frozenset({"wet nose"})}), phrases)
    assert math.isnan(both.marks()[0])


def test_evidence_that_nothing_has_is_not_known():
    for evidence, share in ((2.0, 1), (-1.0, 1), (0.0, math.nan), (math.nan, math.nan)):
        figures = phrase_metrics([laid([("dog", evidence)], {"dog"})])
        assert figures.evidence_share == pytest.approx(share, nan_ok=True)
    # Words against the target count by their size.
    assert phrase_metrics([laid([("dog", 1.0), ("cat", -3.0)], {"dog"})]).evidence_share == 0.25


def test_letter_case_and_spaces_around_do_not_matter():
    seen = [observed(photograph(phrases={" Guide DOG"}))]
    assert judge_phrases(seen, Truth([]), lambda _: said(("guide dog", 1.0))).precision_1 == 1


def test_saying_nothing_is_told_apart_from_saying_wrong_things():
    silent = judge_phrases([observed(photograph(phrases={"dog"}))], Truth([]), lambda _: [])
    assert (silent.none, silent.phrases) == (1, 0)
    assert all(
        math.isnan(value)
        for value in (silent.precision, silent.precision_1, silent.precision_3, silent.recall)
    )
    wrong = phrase_metrics([laid([("cat", 1.0)], {"dog"}), laid([], {"dog"})])
    assert (wrong.none, wrong.precision, wrong.precision_1) == (0.5, 0, 0)


def test_lists_are_exchanged_with_every_other_image_and_never_stay():
    rounds = derangements(7)
    assert len(rounds) == 20
    for exchanged in rounds:
        assert sorted(exchanged) == list(range(7))
        assert (exchanged != np.arange(7)).all()
    assert len({tuple(exchanged) for exchanged in rounds}) > 10
    assert derangements(1).shape == (0, 1)


def test_what_is_said_of_everything_is_as_right_of_other_images():
    common = [laid([("animal", 1.0)], {"animal"}) for _ in range(4)]
    own = [laid([(name, 1.0)], {name}) for name in "abcd"]
    assert phrase_metrics(common).swapped == phrase_metrics(common).precision == 1
    assert (phrase_metrics(own).precision, phrase_metrics(own).swapped) == (1, 0)
    # Of two images each gets the other's truth: one phrase right of four, one doubtful of two.
    pair = [
        laid([("a", 1.0), ("b", 1.0)], {"a"}),
        laid([("c", 1.0), ("d", 1.0)], {"b"}, doubtful={"a"}),
    ]
    assert phrase_metrics(pair).swapped == pytest.approx(1 / 3)
    assert math.isnan(phrase_metrics(pair[:1]).swapped)


def test_reliability_compares_probabilities_with_the_truth_in_ranges():
    rows = [
        laid([("a", 1.0, 0.92), ("b", 1.0, 0.98), ("c", 1.0, 0.55)], {"a", "c"}),
        laid([("a", 1.0, 0.94), ("d", 1.0, None)], {"a"}),
        laid([("c", 1.0, 0.5)], set(), doubtful={"c"}),
    ]
    table = phrase_reliability(rows)
    assert list(table) == ["0.5 to 0.6", "0.9 to 1.0"]
    assert table["0.9 to 1.0"] == pytest.approx(
        {"probability": (0.92 + 0.98 + 0.94) / 3, "observed": 2 / 3, "phrases": 3}
    )
    gaps = abs(0.55 - 1) * 1 + abs((0.92 + 0.98 + 0.94) / 3 - 2 / 3) * 3
    assert phrase_metrics(rows).ece == pytest.approx(gaps / 4)
    assert phrase_reliability([laid([("a", 1.0)], {"a"})]) == {}


def test_intervals_hold_what_chance_would_change():
    """Of 400 independent phrases, half of them right: 0.5 -+ 1.96 sqrt(0.25 / 400)."""
    rows = [laid([("a", 1.0)], {"a"} if place % 2 else set()) for place in range(400)]
    low, high = phrase_intervals(rows)
    assert low.precision == pytest.approx(0.5 - 0.049, abs=0.006)
    assert high.precision == pytest.approx(0.5 + 0.049, abs=0.006)
    assert (low.none, high.none, low.phrases, high.phrases) == (0, 0, 1, 1)
    assert math.isnan(low.ece)
    # Ten phrases of one image are one draw, not ten.
    many = [laid(5 * [("a", 1.0)], {"a"} if place % 2 else set()) for place in range(400)]
    assert phrase_intervals(many)[0].precision == low.precision
    assert phrase_intervals(rows)[0].precision == low.precision  # the seed is fixed

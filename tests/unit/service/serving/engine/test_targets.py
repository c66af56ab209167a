"""Scores of classes, and the choice of those to explain."""

import numpy as np
import pytest
from scipy.special import expit
from textcam_service.serving.engine.jobs import Classes, Contrast, TopK
from textcam_service.serving.engine.targets import ClassScores

NAMES = ("bird", "cat", "dog", "eel")
SCORES = ClassScores(np.array([1.0, 3.0, 1.0, 2.0], np.float32), NAMES)


def test_a_prediction_has_the_softmax_over_all_classes():
    cat = SCORES.of(1)
    assert (cat.class_index, cat.class_name, cat.logit) == (1, "cat", 3.0)
    exponents = np.exp([1, 3, 1, 2])
    assert cat.probability == pytest.approx(exponents[1] / exponents.sum())


def test_classes_are_ranked_and_equal_ones_stay_in_their_order():
    ranked = [own.class_name for own in SCORES.most_probable(9)]
    assert ranked == ["cat", "eel", "bird", "dog"]
    assert SCORES.most_probable(0) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (TopK(2), [("cat", None), ("eel", None)]),
        (Classes((2, 0)), [("dog", None), ("bird", None)]),
        (Contrast(0, 3), [("bird", "eel")]),
    ],
)
def test_targets_are_the_classes_that_a_job_names(spec, expected):
    found = [
        (target.class_name, reference and reference.class_name)
        for target, reference in SCORES.targets(spec)
    ]
    assert found == expected


def test_labels_have_a_probability_each_and_the_highest_is_the_first_target():
    """Both of the first are present: a caller may ask for several."""
    logits = np.array([40.0, 50.0, -1.0, 0.0], np.float32)
    scores = ClassScores(logits, NAMES, multi_label=True)
    np.testing.assert_allclose(scores.probabilities, expit(logits), atol=1e-7)
    found = [target.class_name for target, _ in scores.targets(TopK(2))]
    assert found == ["cat", "bird"]  # though both probabilities are 1 in float64

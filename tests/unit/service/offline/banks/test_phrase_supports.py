"""Supports of a vocabulary that is exchanged for another."""

from dataclasses import replace

import numpy as np
from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.reliability import ReliabilityBin
from textcam_service.core.rationale.wording import PhraseSupports
from textcam_service.offline.banks.phrase_supports import chosen_phrases

D, V, C = 6, 3, 4


PHRASES, KINDS = ("fur", "red", "animal"), ("part", "colour", "category")


CALIBRATION = Calibration(
    mean=np.array([0.1, -0.2, 0.3], np.float32),
    deviation=0.0625,
    prior=np.array([0.5, 0.01, 0.0], np.float32),
    grounded=np.array([True, True, False]),
    slope=0.75,
    prior_weight=1.25,
    offset=-0.5,
    temperature=0.85,
    source="class_table",
    images=321,
    said=(0.5, 1.0, -0.25),
    bins=(ReliabilityBin(0.7, 0.8, 0.75, 0.8125, 16), ReliabilityBin(0.9, 1.0, 0.95, 1.0, 3)),
)


TABLE = np.array([[0.87, 0, 0], [0.25, 0.52, 0], [0, 0, 0], [0, 0.87, 0]], np.float32)


def supports():
    rng = np.random.default_rng(0)
    return PhraseSupports(
        supports=rng.normal(0, 0.2, (D, V)).astype(np.float16).astype(np.float32),
        likeness=rng.integers(-127, 128, (V, V)).astype(np.int8),
        calibration=CALIBRATION,
        apart=np.array([[0, 2]]),
        repeats=np.array([[0, 1], [3, 0]]),
        attributes=ClassAttributes.of(TABLE),
    )


def test_phrases_that_stay_keep_what_is_known_of_them_and_new_ones_are_not_grounded():
    old = supports()
    found = chosen_phrases(old, PHRASES, ("animal", "green", "fur"))
    kept = [2, 0]  # the old places of the first and the third
    np.testing.assert_array_equal(found.supports[:, [0, 2]], old.supports[:, kept])
    assert not found.supports[:, 1].any()
    np.testing.assert_array_equal(
        found.likeness[np.ix_([0, 2], [0, 2])], old.likeness[np.ix_(kept, kept)]
    )
    assert not found.likeness[1].any()
    assert not found.likeness[:, 1].any()
    calibration = found.calibration
    assert calibration.mean.tolist() == [old.calibration.mean[2], 0, old.calibration.mean[0]]
    assert calibration.prior.tolist() == [0, 0, 0.5]
    assert calibration.grounded.tolist() == [False, False, True]
    assert (calibration.slope, calibration.bins) == (CALIBRATION.slope, CALIBRATION.bins)
    assert found.apart.tolist() == [[2, 0]]
    assert found.repeats.tolist() == [[3, 2]]
    expected = np.zeros((C, 3), np.float32)
    expected[:, 2] = TABLE[:, 0]
    np.testing.assert_array_equal(found.attributes.dense(), expected)


def test_a_vocabulary_of_new_phrases_alone_says_nothing():
    found = chosen_phrases(replace(supports(), attributes=None), PHRASES, ("green", "blue"))
    assert not found.calibration.grounded.any()
    assert (found.apart.shape, found.repeats.shape, found.attributes) == ((0, 2), (0, 2), None)
    assert not found.calibration.is_supported(np.full(2, 9.0), 1.0).any()

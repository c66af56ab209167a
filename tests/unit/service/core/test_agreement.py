import numpy as np
import pytest
from textcam_service.core.agreement import (
    AgreementThresholds,
    ExplanationAgreement,
    ImageAgreement,
    compare_rationales,
    evidence_shares,
    map_correlation,
    same_top,
    share_difference,
)
from textcam_service.core.types import Phrase, Rationale, SaliencyGroup

MAP = np.array([[1.0, 0.0], [0.0, 3.0]], np.float32)


def rationale(evidence, rest=1.0, saliency_map=MAP):
    phrases = tuple(
        Phrase(text, index, 1.0, 1.0, value) for index, (text, value) in enumerate(evidence.items())
    )
    own = SaliencyGroup(-1, np.zeros(0, np.int64), rest, max(rest, 0), min(rest, 0), MAP)
    return Rationale(0.0, 0.0, 0.0, saliency_map, phrases, (), own)


def test_maps_correlate_whatever_their_level_and_scale():
    assert map_correlation(MAP, 5 + 2 * MAP) == pytest.approx(1)
    assert map_correlation(MAP, -MAP) == pytest.approx(-1)
    other = np.array([[0.5, 2.0], [1.0, 1.0]])
    expected = np.corrcoef(MAP.ravel(), other.ravel())[0, 1]
    assert map_correlation(MAP, other) == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.0, 0.3, -1e4])
def test_a_flat_map_agrees_with_a_flat_map_alone(level):
    flat = np.full((7, 7), level, np.float32)
    noisy = (flat * (1 + 1e-7 * np.arange(49).reshape(7, 7) / 49)).astype(np.float32)
    assert map_correlation(flat, np.full((3, 3), 0.1, np.float32)) == 1
    assert map_correlation(flat, noisy) == 1
    assert map_correlation(flat, MAP) == 0
    assert map_correlation(MAP, flat) == 0


def test_maps_of_different_size_are_compared_on_the_finer_grid_of_each_axis():
    coarse = np.array([[0.0, 1.0]])
    fine = np.array([[0.0, 0.25, 0.75, 1.0]])
    assert map_correlation(coarse, fine) == pytest.approx(1)
    assert map_correlation(fine.T, coarse.T) == pytest.approx(1)
    assert map_correlation(coarse, np.array([[0.0], [1.0]])) == pytest.approx(0)


def test_a_map_with_no_number_correlates_with_nothing():
    assert np.isnan(map_correlation(np.full((2, 2), np.nan), MAP))


def test_shares_are_of_all_evidence_and_their_difference_is_at_most_one():
    own = evidence_shares(rationale({"fur": 2.0, "wood": -1.0}, rest=1.0))
    assert own == {"fur": 0.5, "wood": -0.25, "": 0.25}
    assert share_difference(own, own) == 0
    assert share_difference(own, {"": 0.25, "fur": 0.25, "grass": 0.5}) == pytest.approx(0.5)
    assert share_difference({"fur": 1.0}, {"wood": 1.0}) == 1
    assert evidence_shares(rationale({}, rest=0.0)) == {"": 0.0}


def test_rationales_are_compared_by_map_first_phrase_and_shares():
    one, other = rationale({"fur": 1.0, "wood": 2.0}), rationale({"fur": 2.0, "ice": 1.0})
    found = compare_rationales(one, other, top1=False)
    assert found == ImageAgreement(
        top1=False,
        map_correlation=pytest.approx(1),
        first_phrase=True,
        share_difference=pytest.approx(0.5),
    )
    silent = rationale({})
    assert not compare_rationales(one, silent, top1=True).first_phrase
    assert compare_rationales(silent, silent, top1=True).first_phrase


def test_agreement_is_the_mean_over_images():
    images = [ImageAgreement(index > 0, index / 10, index % 2 == 0, 0.1) for index in range(11)]
    found = ExplanationAgreement.average(images)
    assert found == ExplanationAgreement(
        images=11,
        top1=pytest.approx(10 / 11),
        map_correlation=pytest.approx(0.5),
        map_correlation_p5=pytest.approx(0.05),
        first_phrase=pytest.approx(6 / 11),
        share_difference=pytest.approx(0.1),
    )


def test_each_missed_threshold_is_named():
    found = ExplanationAgreement(60, 0.97, 0.98, 0.9, float("nan"), 0.4)
    missed = found.missed(AgreementThresholds(share_difference=0.3))
    assert missed == [
        "top1 0.970, at least 0.98 is required",
        "first_phrase nan, at least 0.95 is required",
        "share_difference 0.400, at most 0.3 is required",
    ]
    assert not found.meets(AgreementThresholds())
    assert found.meets(AgreementThresholds(0.97, 0.98, -1.0)) is False  # nan meets nothing


def test_a_difference_that_was_not_measured_misses_a_threshold_below_one():
    found = ExplanationAgreement(60, 1.0, 1.0, 1.0, 1.0)
    assert found.meets(AgreementThresholds())
    assert found.missed(AgreementThresholds(share_difference=0.99)) == [
        "share_difference not measured, at most 0.99 is required"
    ]


@pytest.mark.parametrize(
    ("one", "other", "exclusive", "labels"),
    [
        ([3.0, 1.0, -1.0], [2.0, 0.5, -4.0], True, True),
        ([3.0, 1.0, -1.0], [1.0, 3.0, -1.0], False, True),  # both present in both
        ([3.0, -0.1, -1.0], [1.0, 3.0, -1.0], False, False),  # the first sees one of them
        ([-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0], False, False),  # none is present
    ],
)
def test_the_most_probable_class_is_the_same_or_another_label_that_both_find_present(
    one, other, exclusive, labels
):
    logits = np.array(one), np.array(other)
    assert same_top(*logits, multi_label=False) == exclusive
    assert same_top(*logits, multi_label=True) == labels

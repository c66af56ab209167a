"""Soft labels out of image-text scores, on cases whose answer is known."""

import numpy as np
import pytest
from scipy.special import logit, softmax
from textcam_service.core.concepts.soft_labels import prior_of_scores, soft_labels


@pytest.mark.parametrize("share", [0.05, 0.25, 0.8])
def test_the_prior_is_exact_where_a_phrase_has_a_constant_share_or_none(share):
    """p is 0.6 where the phrase is true and 0 elsewhere."""
    true = np.arange(200) < share * 200
    shares = np.stack([np.where(true, 0.6, 0), np.where(true, 0.4, 1)], axis=1)
    scores = np.log(np.maximum(shares, 1e-30)) / 100
    assert prior_of_scores(scores, 100.0)[0] == pytest.approx(share)


def test_the_prior_is_the_participation_ratio_of_the_softmax():
    scores = np.random.default_rng(0).normal(0.2, 0.02, (300, 40))
    shares = softmax(50 * scores, axis=1)
    expected = [np.sum(p) ** 2 / np.sum(p**2) / len(p) for p in shares.T]
    assert prior_of_scores(scores, 50.0) == pytest.approx(expected)


def test_a_phrase_that_is_always_or_never_true_keeps_its_logit_finite():
    always = prior_of_scores(np.full((50, 2), 0.3), 100.0)
    assert always == pytest.approx([0.999, 0.999])
    scores = np.eye(2000)[:, :2]
    scores[:, 1] = 0.5  # the first is true of one image in 2000
    assert prior_of_scores(scores, 1e4) == pytest.approx([0.001, 0.999])


def test_labels_are_a_sigmoid_of_the_score_and_in_the_mean_the_prior():
    rng = np.random.default_rng(1)
    scores = rng.normal(0.2, 0.03, (400, 30)) + rng.normal(0, 0.02, 30)
    labels = soft_labels(scores, 100.0).astype(np.float64)
    assert labels.mean(axis=0) == pytest.approx(prior_of_scores(scores, 100.0), abs=1e-4)
    # log(p / (1 - p)) = 2 x 100 x score - t, wherever float32 can tell p from 0 and 1.
    between = (labels > 1e-3) & (labels < 1 - 1e-3)
    odds = logit(np.where(between, labels, np.nan))
    thresholds = 200 * scores - odds
    spread = np.nanmax(thresholds, axis=0) - np.nanmin(thresholds, axis=0)
    assert between.sum() > 1000
    assert spread.max() < 0.01

"""Evidence embedding and sparse choice."""

import numpy as np
import pytest
from scipy.optimize import nnls
from textcam_service.core.rationale.phrases import (
    _non_negative_fit,
    center_texts,
    choose_phrases,
    evidence_embedding,
)
from textcam_service.core.rationale.settings import RationaleSettings


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_evidence_embedding_by_hand():
    channels = np.eye(3, dtype=np.float32)
    mean = np.array([0.0, 0.0, 2.0])
    plain = RationaleSettings(root=False, prior=0)
    assert evidence_embedding(np.array([3.0, -4.0, 0.0]), channels, mean, plain) == pytest.approx(
        [0.6, -0.8, 0]
    )
    rooted = RationaleSettings(root=True, prior=0)
    assert evidence_embedding(np.array([9.0, -16.0, 0.0]), channels, mean, rooted) == pytest.approx(
        [0.6, -0.8, 0]
    )
    with_prior = RationaleSettings(root=False, prior=1.0)
    expected = unit(np.array([0.6, -0.8, 1.0]))
    assert evidence_embedding(np.array([3.0, -4, 0]), channels, mean, with_prior) == pytest.approx(
        expected
    )


def test_orthogonal_phrases_get_their_similarity_less_half_the_price():
    settings = RationaleSettings(sparsity=0.2, decorrelation=0.5)
    choice = choose_phrases(unit(np.array([3.0, 4.0, 0])), np.eye(3), 3, settings)
    assert choice.indices.tolist() == [1, 0]
    assert choice.scores == pytest.approx([0.8 - 0.1, 0.6 - 0.1])
    assert choice.similarities == pytest.approx([0.8, 0.6])


def test_a_near_duplicate_of_a_chosen_phrase_is_never_chosen():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        base = unit(rng.standard_normal((6, 8)))
        texts = unit(np.repeat(base, 4, axis=0) + 0.05 * rng.standard_normal((24, 8)))
        settings = RationaleSettings(candidates=24, max_similarity=0.8)
        choice = choose_phrases(unit(rng.standard_normal(8)), texts, 5, settings)
        chosen = texts[choice.indices]
        gram = chosen @ chosen.T - np.eye(len(chosen))
        assert len(set(choice.indices.tolist())) == len(choice.indices) >= 1
        assert gram.max(initial=0) <= 0.8
        assert (choice.scores > 0).all()
        assert choice.similarities[0] == choice.similarities.max()


def test_coefficients_are_those_of_non_negative_least_squares():
    """Where some are held at 0, and where none is."""
    rng, held = np.random.default_rng(5), set()
    for _ in range(40):
        vectors, wanted = rng.standard_normal((8, 4)), rng.standard_normal(8)
        reference, _ = nnls(vectors, wanted)
        held.add((reference == 0).any())
        mine = _non_negative_fit(vectors.T @ vectors, vectors.T @ wanted)
        np.testing.assert_allclose(mine, reference, atol=1e-7)
    assert held == {True, False}
    # Two phrases that are one: no single minimum, and any is as good.
    assert _non_negative_fit(np.ones((2, 2)), np.ones(2)).sum() == pytest.approx(1)


def test_the_choice_lowers_the_objective_below_the_best_single_phrase():
    rng = np.random.default_rng(3)
    texts, target = unit(rng.standard_normal((20, 6))), unit(rng.standard_normal(6))
    settings = RationaleSettings(sparsity=0.01, decorrelation=0.1, candidates=20)

    def objective(indices, beta):
        v = texts[indices]
        gram = v @ v.T
        cross = beta @ np.maximum(gram - np.diag(np.diag(gram)), 0) @ beta
        return np.sum((target - beta @ v) ** 2) + 0.01 * beta.sum() + 0.1 * cross

    one = choose_phrases(target, texts, 1, settings)
    five = choose_phrases(target, texts, 5, settings)
    assert objective(five.indices, five.scores) < objective(one.indices, one.scores) < 1.0
    # A stationary point: no chosen coefficient can be nudged for the better.
    for i in range(len(five.scores)):
        for step in (-1e-3, 1e-3):
            moved = five.scores.copy()
            moved[i] += step
            assert objective(five.indices, moved) >= objective(five.indices, five.scores)


def test_centred_texts_lose_their_mean_direction_and_one_phrase_stays():
    texts = unit(np.array([[1.0, 0.2], [1.0, -0.2]]))
    assert center_texts(texts) == pytest.approx(np.array([[0, 1], [0, -1]]))
    assert center_texts(texts[:1]) == pytest.approx(texts[:1])

"""The mathematics of a rationale against hand computation and its own promises."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls
from textcam_client._heatmaps.geometry import Crop as ClientCrop
from textcam_client._heatmaps.geometry import upsample
from textcam_service.core.cam import activation_scores, channel_evidence, saliency_map
from textcam_service.core.heatmap import heatmap, to_uint8
from textcam_service.core.methods import CamTerms
from textcam_service.core.preprocess import center_crop
from textcam_service.core.probability import softmax
from textcam_service.core.rationale.phrases import (
    _non_negative_fit,
    centre_texts,
    choose_phrases,
    evidence_embedding,
)
from textcam_service.core.rationale.rationale import explain_target, sentence
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.rationale.wording import EmbeddingWording
from textcam_service.core.types import Crop, Prediction, Preprocessing


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def synthetic(seed, count, channels=40, dimensions=12, phrases=30):
    """What explain_target takes but for the logit and the bias, worded by embeddings."""
    rng = np.random.default_rng(seed)
    return {
        "activation_maps": np.maximum(rng.standard_normal((channels, 5, 6)), 0).astype(np.float32),
        "terms": CamTerms(rng.standard_normal(channels)),
        "logits": np.zeros(3, np.float32),
        "class_index": 0,
        "phrase_filter": PhraseFilter(count),
        "wording": EmbeddingWording(
            unit(rng.standard_normal((channels, dimensions))).astype(np.float32),
            unit(rng.standard_normal(dimensions)).astype(np.float32),
            centre_texts(unit(rng.standard_normal((phrases, dimensions)))),
            ("part", "") * (phrases // 2),
            RationaleSettings(),
        ),
        "phrases": [f"phrase {i}" for i in range(phrases)],
    }


def test_map_evidence_and_softmax_by_hand():
    maps = np.array([[[1.0, 3.0]], [[2.0, 0.0]]], np.float32)
    weights = np.array([2.0, -1.0])
    assert activation_scores(maps).tolist() == [2.0, 1.0]
    assert channel_evidence(weights, maps).tolist() == [4.0, -1.0]
    assert saliency_map(weights, maps).tolist() == [[0.0, 6.0]]
    assert softmax(np.array([0.0, np.log(3.0)])) == pytest.approx([0.25, 0.75])
    assert softmax(np.array([1e4, 0.0])).tolist() == [1.0, 0.0]


def test_weights_by_position_by_hand():
    maps = np.array([[[1.0, 3.0]], [[2.0, 0.0]]], np.float32)
    weights = np.array([[[2.0, 1.0]], [[-1.0, 5.0]]])
    assert channel_evidence(weights, maps).tolist() == [2.5, -1.0]
    assert saliency_map(weights, maps).tolist() == [[0.0, 3.0]]


def test_what_a_method_does_not_account_for_is_its_gap_and_is_said():
    terms = CamTerms(np.zeros(40), np.ones((5, 6), np.float32))
    made = explain_target(logit=3.0, bias=0.5, **{**synthetic(0, 2), "terms": terms})
    assert made.gap == 2.5
    assert made.saliency_map.tolist() == np.ones((5, 6)).tolist()
    cat = Prediction(0, "cat", 0.9, 3.0)
    assert "of the logit +3.0 the method leaves +3.0 open" in sentence(cat, None, made)


def test_evidence_on_a_scale_of_its_own_is_said_in_shares_and_never_as_a_logits():
    case = synthetic(0, 2)
    terms = CamTerms(1e-4 * case["terms"].weights, in_logit_units=False)
    made = explain_target(logit=3.0, bias=0.5, **{**case, "terms": terms})
    assert not made.in_logit_units
    first, second, rest = (part.evidence for part in (*made.groups, made.rest))
    whole = abs(first) + abs(second) + abs(rest)
    one, two = (phrase.text for phrase in made.phrases)
    assert first > 0 > second
    assert sentence(Prediction(0, "cat", 0.9, 3.0), None, made) == (
        f"'cat' (90%): the model saw {one} ({first / whole:+.0%}); against it: {two} "
        f"({second / whole:+.0%}); other channels add {rest / whole:+.0%}, in shares of the "
        "method's evidence, not of the logit +3.0."
    )


def rationale_of(bias=0.5, **evidence):
    """A rationale whose phrases were chosen in the order of the arguments."""
    made = explain_target(logit=3.0, bias=bias, **synthetic(0, 1))
    phrases = tuple(
        replace(made.phrases[0], text=text, evidence=amount) for text, amount in evidence.items()
    )
    rest = replace(made.rest, evidence=0.0)
    return replace(made, phrases=phrases, rest=rest, gap=0.0)


@pytest.mark.parametrize(
    ("evidence", "seen"),
    [
        (
            {"wing": 1.1, "sky": 0.4, "rocket": 3.0},
            "the model saw rocket (+3.0), wing (+1.1) and sky (+0.4)",
        ),
        (
            {"bee": -0.2, "fur": 1.0, "butterfly": -0.5, "ear": 2.0},
            "the model saw ear (+2.0) and fur (+1.0); against it: butterfly (-0.5) and bee (-0.2)",
        ),
        ({"butterfly": -0.5}, "the phrases speak against it: butterfly (-0.5)"),
        ({"haze": -0.04}, "the model saw haze (+0.0)"),
        ({}, "none of the words that may be said is likely enough for what the model saw"),
    ],
)
def test_a_sentence_goes_by_evidence_and_says_last_what_is_against(evidence, seen):
    said = sentence(Prediction(0, "cat", 0.9, 3.0), None, rationale_of(**evidence))
    which = "other" if evidence else "its"
    assert said == (
        f"'cat' (90%): {seen}; {which} channels add +0.0 and the bias +0.5 to make the logit +3.0."
    )


def test_what_rounds_to_nothing_is_said_without_a_minus():
    said = sentence(Prediction(0, "cat", 0.9, 3.0), None, rationale_of(bias=-0.01, fur=3.0))
    assert "the bias +0.0 to make" in said
    shares = replace(rationale_of(fur=3.0, haze=-0.001), in_logit_units=False)
    assert "haze (+0%)" in sentence(Prediction(0, "cat", 0.9, 3.0), None, shares)


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_group_maps_add_up_to_the_map_and_evidence_to_the_logit(seed, by_position):
    case, bias = synthetic(seed, 5), 0.7
    weights = np.random.default_rng(seed).standard_normal((40, 5, 6) if by_position else 40)
    case["terms"] = CamTerms(weights)
    logit = float(channel_evidence(weights, case["activation_maps"]).sum()) + bias
    made = explain_target(logit=logit, bias=bias, **case)
    parts = [*made.groups, made.rest]
    total = sum(part.saliency_map.astype(np.float64) for part in parts)
    np.testing.assert_allclose(total, made.saliency_map, rtol=1e-4, atol=1e-4)
    assert bias + sum(part.evidence for part in parts) == pytest.approx(logit, rel=1e-4)
    assert made.saliency_map.mean() == pytest.approx(logit - bias, rel=1e-3, abs=1e-4)
    ids = np.concatenate([part.channel_ids for part in parts])
    assert sorted(ids.tolist()) == list(range(40))
    for part in parts:
        assert part.evidence_for >= 0 >= part.evidence_against
        assert part.evidence_for + part.evidence_against == pytest.approx(part.evidence)
        assert part.saliency_map.mean() == pytest.approx(part.evidence, rel=1e-3, abs=1e-5)
    assert [p.evidence for p in made.phrases] == [g.evidence for g in made.groups]


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
    assert centre_texts(texts) == pytest.approx(np.array([[0, 1], [0, -1]]))
    assert centre_texts(texts[:1]) == pytest.approx(texts[:1])


def test_heatmap_is_the_clients_within_a_grey_level():
    values = np.random.default_rng(0).standard_normal((7, 7)).astype(np.float32)
    crop = Crop(left=12.5, top=0.0, width=60.0, height=60.0)
    mine = heatmap(values, crop, 60, 85)
    support = np.maximum(values, 0) / values.max()
    theirs = upsample(support, ClientCrop(12.5, 0.0, 60.0, 60.0), (60, 85), (60, 85))
    assert np.abs(mine - theirs).max() <= 1 / 255
    assert (mine[:, :12] == 0).all()
    assert (mine[:, 73:] == 0).all()
    assert to_uint8(mine).max() > 200


def test_a_shifted_grid_moves_the_heat_and_not_the_crop():
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 1
    plain, moved = Crop(10, 0, 40, 40), Crop(10, 0, 40, 40, shift_x=-5.0, shift_y=3.0)
    still, shifted = heatmap(values, plain, 40, 60), heatmap(values, moved, 40, 60)
    np.testing.assert_allclose(shifted[3:, 10:40], still[:-3, 15:45], atol=1e-6)
    assert not shifted[:, :10].any()
    assert not shifted[:, 50:].any()
    client_crop = ClientCrop(10, 0, 40, 40, -5.0, 3.0)
    np.testing.assert_allclose(
        shifted, upsample(values, client_crop, (40, 60), (40, 60)), atol=1e-6
    )
    half = upsample(values, client_crop, (40, 60), (20, 30))
    np.testing.assert_allclose(half.max(), 1, atol=0.3)


@pytest.mark.parametrize("size", [(2300, 3100), (2, 3_000_000)])
def test_a_large_heatmap_is_the_clients_and_takes_little_beyond_itself(size):
    height, width = size
    values = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    crop = Crop(left=width / 4 + 0.5, top=0.0, width=width / 2, height=height)
    tracemalloc.start()
    mine = heatmap(values, crop, height, width, 1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < mine.nbytes + 50 * 2**20
    at_edges = [*range(1020, 1030), *range(width // 2 - 5, width // 2 + 5), width - 1]
    client_crop = ClientCrop(crop.left, crop.top, crop.width, crop.height)
    theirs = upsample(values, client_crop, (height, width), (height, width))
    np.testing.assert_allclose(mine[:, at_edges], theirs[:, at_edges], atol=1e-5)


def test_a_map_without_support_is_an_empty_heatmap():
    assert not heatmap(-np.ones((3, 3)), Crop(0, 0, 9, 9), 9, 9).any()


def test_centre_crop_by_hand():
    preprocessing = Preprocessing(256, 224, 224, "bilinear", (0, 0, 0), (1, 1, 1))
    crop = center_crop(512, 1024, preprocessing)
    assert (crop.top, crop.left, crop.height, crop.width) == (32.0, 288.0, 448.0, 448.0)

"""The mathematics of a rationale against hand computation and its own promises."""

from dataclasses import replace

import numpy as np
import pytest
from textcam_service.core.cam import channel_evidence
from textcam_service.core.methods import CamTerms
from textcam_service.core.rationale.phrases import (
    center_texts,
)
from textcam_service.core.rationale.rationale import ExplainedScore, explain_target
from textcam_service.core.rationale.sentence import sentence
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.rationale.wording import EmbeddingWording
from textcam_service.core.types import Prediction


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def score(logit, bias):
    return ExplainedScore(np.zeros(3, np.float32), 0, logit, bias)


def synthetic(seed, count, channels=40, dimensions=12, phrases=30):
    """What explain_target takes but for the score, worded by embeddings."""
    rng = np.random.default_rng(seed)
    return {
        "activation_maps": np.maximum(rng.standard_normal((channels, 5, 6)), 0).astype(np.float32),
        "terms": CamTerms(rng.standard_normal(channels)),
        "phrase_filter": PhraseFilter(count),
        "wording": EmbeddingWording(
            unit(rng.standard_normal((channels, dimensions))).astype(np.float32),
            unit(rng.standard_normal(dimensions)).astype(np.float32),
            center_texts(unit(rng.standard_normal((phrases, dimensions)))),
            ("part", "") * (phrases // 2),
            RationaleSettings(),
        ),
        "phrases": [f"phrase {i}" for i in range(phrases)],
    }


def test_what_a_method_does_not_account_for_is_its_gap_and_is_said():
    terms = CamTerms(np.zeros(40), np.ones((5, 6), np.float32))
    made = explain_target(score=score(3.0, 0.5), **{**synthetic(0, 2), "terms": terms})
    assert made.gap == 2.5
    assert made.saliency_map.tolist() == np.ones((5, 6)).tolist()
    cat = Prediction(0, "cat", 0.9, 3.0)
    assert "of the logit +3.0 the method leaves +3.0 open" in sentence(cat, None, made)


def test_evidence_on_a_scale_of_its_own_is_said_in_shares_and_never_as_a_logits():
    case = synthetic(0, 2)
    terms = CamTerms(1e-4 * case["terms"].weights, in_logit_units=False)
    made = explain_target(score=score(3.0, 0.5), **{**case, "terms": terms})
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
    made = explain_target(score=score(3.0, bias), **synthetic(0, 1))
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
    made = explain_target(score=score(logit, bias), **case)
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

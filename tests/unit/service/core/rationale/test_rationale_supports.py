"""Rationales by supports: sums, effects, relative maps, and how they are said."""

import numpy as np
import pytest
from textcam_service.core.cam import channel_evidence
from textcam_service.core.concepts.supports import contrasts, effects
from textcam_service.core.methods import CamTerms
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.rationale import ExplainedScore, explain_target
from textcam_service.core.rationale.sentence import sentence
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports, SupportWording, stored_likeness
from textcam_service.core.types import Prediction
from textcam_service.core.vertices import Vertices, placed

CAT, DOG = Prediction(0, "cat", 0.9, 3.0), Prediction(1, "dog", 0.1, 1.0)
NO_PAIRS = np.zeros((0, 2), np.int64)
D, V = 40, 12


def explained(seed=0, *, by_position=False, maps=None, weights=None, slope=1.0):
    """A rationale by random supports, and what it was made of."""
    rng = np.random.default_rng(seed)
    if maps is None:
        maps = np.maximum(rng.standard_normal((D, 5, 6)), 0).astype(np.float32)
    if weights is None:
        weights = rng.standard_normal(maps.shape if by_position else D)
    supports = (0.2 * rng.standard_normal((D, V))).astype(np.float32)
    calibration = Calibration(
        mean=np.zeros(V, np.float32),
        deviation=0.1,
        prior=np.full(V, 0.5, np.float32),
        grounded=np.ones(V, bool),
        slope=slope,
        prior_weight=1.0,
        offset=1.0,
        temperature=0.0,
        source="labels",
        images=10,
    )
    bank = PhraseSupports(supports, stored_likeness(np.eye(V)), calibration, NO_PAIRS, NO_PAIRS)
    kinds = ("part", "colour", "") * (V // 3)
    evidence = channel_evidence(weights, maps)
    made = explain_target(
        maps,
        CamTerms(weights),
        ExplainedScore(np.zeros(2, np.float32), 0, float(evidence.sum()) + 0.7, 0.7),
        phrases=[f"phrase {place}" for place in range(V)],
        wording=SupportWording(bank, kinds, RationaleSettings(min_new=0, min_odds=1)),
        phrase_filter=PhraseFilter(4, min_probability=0.0),
    )
    chosen = supports[:, [phrase.vocabulary_index for phrase in made.phrases]]
    return made, maps, weights, evidence, chosen


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_groups_and_rest_add_up_to_logit_and_map_and_each_channel_is_in_one(seed, by_position):
    made, maps, weights, _, chosen = explained(seed, by_position=by_position)
    assert len(made.phrases) >= 2
    parts = [*made.groups, made.rest]
    total = sum(part.evidence for part in parts)
    assert made.bias + total == pytest.approx(made.logit, rel=1e-9)
    assert made.gap == pytest.approx(0, abs=1e-9)
    whole = (weights if by_position else weights[:, None, None]) * maps
    np.testing.assert_allclose(made.saliency_map, whole.sum(axis=0), atol=1e-4)
    summed = sum(part.saliency_map.astype(float) for part in parts)
    np.testing.assert_allclose(summed, whole.sum(axis=0), atol=1e-4)
    ids = np.concatenate([part.channel_ids for part in parts])
    assert sorted(ids.tolist()) == list(range(D))
    for place, group in enumerate(made.groups):
        strongest = chosen.argmax(axis=1) == place
        strong = chosen.max(axis=1) >= RationaleSettings().join
        assert group.channel_ids.tolist() == np.flatnonzero(strongest & strong).tolist()


@pytest.mark.parametrize("by_position", [False, True])
def test_relative_maps_are_the_maps_by_contrast_and_size_of_weight(by_position):
    made, maps, weights, _, chosen = explained(1, by_position=by_position)
    size = np.abs(weights if by_position else weights[:, None, None])
    size = size / size.mean()
    for group, own in zip(made.groups, contrasts(chosen), strict=True):
        by_hand = sum(own[channel] * size[channel] * maps[channel] for channel in range(D))
        np.testing.assert_allclose(group.relative_map, by_hand - by_hand.mean(), atol=1e-5)
    assert made.rest.relative_map is None
    # Contrasts of all phrases are 0 in sum.
    whole = sum(group.relative_map.astype(float) for group in made.groups)
    np.testing.assert_allclose(whole, 0, atol=1e-4)


def test_each_phrase_has_its_share_effect_probability_and_kind():
    made, _, _, evidence, chosen = explained(2)
    shares = [phrase.evidence for phrase in made.phrases]
    assert shares == [group.evidence for group in made.groups]
    assert [phrase.effect for phrase in made.phrases] == pytest.approx(effects(evidence, chosen))
    for phrase in made.phrases:
        odds = phrase.score + 1.0  # the prior is a half
        assert phrase.probability == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-5)
        assert phrase.kind == ("part", "colour", "")[phrase.vocabulary_index % 3]
    assert len({phrase.effect for phrase in made.phrases} & set(shares)) == 0


def test_where_nothing_is_said_all_is_rest():
    made = explained(0, slope=-1.0)[0]
    assert (made.phrases, made.groups) == ((), ())
    assert made.rest.channel_ids.tolist() == list(range(D))
    assert made.rest.evidence == pytest.approx(made.logit - made.bias)
    np.testing.assert_array_equal(made.rest.saliency_map, made.saliency_map)
    said = sentence(CAT, None, made)
    assert said.startswith(
        "'cat' (90%): none of the words that may be said is likely enough for what the model "
        "saw; its channels add "
        f"{made.rest.evidence:+.1f} and the bias +0.7 to make the logit {made.logit:+.1f}."
    )
    assert "effect" not in said


def test_maps_of_vertices_are_placed_each_where_it_belongs():
    """Relative ones as well, in the order of their phrases."""
    rng = np.random.default_rng(3)
    maps = rng.random((D, 7, 1)).astype(np.float32)
    made = explained(3, maps=maps)[0]
    vertices = Vertices(rng.uniform(0, 30, (7, 2)), 30, 30)
    there = placed(made, vertices)
    np.testing.assert_allclose(there.saliency_map, vertices.place(made.saliency_map))
    np.testing.assert_allclose(
        there.rest.saliency_map, vertices.place(made.rest.saliency_map), atol=1e-6
    )
    assert there.rest.relative_map is None
    assert len(made.groups) > 2
    for group, before in zip(there.groups, made.groups, strict=True):
        np.testing.assert_allclose(
            group.saliency_map, vertices.place(before.saliency_map), atol=1e-6
        )
        np.testing.assert_allclose(
            group.relative_map, vertices.place(before.relative_map), atol=1e-6
        )
        assert (group.evidence, group.phrase_index) == (before.evidence, before.phrase_index)

"""Wordings: by supports on planted problems, by embeddings as the paper's functions have it."""

from dataclasses import replace

import numpy as np
import pytest
from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.concepts.supports import evidence_by_phrase, likeness, phrase_supports
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.calibration_fitting import fit_calibration
from textcam_service.core.rationale.phrases import center_texts, choose_phrases, evidence_embedding
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings, WordSettings
from textcam_service.core.rationale.wording import (
    EmbeddingWording,
    PhraseSupports,
    SupportWording,
    stored_likeness,
)

NO_PAIRS = np.zeros((0, 2), np.int64)
SETTINGS = RationaleSettings()
LOGITS = np.zeros(4)


# --- by supports: planted ------------------------------------------------------------------------

IMAGES, CHANNELS, PHRASES = 600, 200, 16


def planted():
    """Which phrases are true of each image, and the channels' evidence, which follows them."""
    rng = np.random.default_rng(5)
    true = rng.random((IMAGES, PHRASES)) < 0.15
    carried = rng.standard_normal((PHRASES, CHANNELS))
    scores = true @ carried + 0.5 * rng.standard_normal((IMAGES, CHANNELS))
    opinions = true + 0.3 * rng.standard_normal((IMAGES, PHRASES))
    return true, scores, opinions


TRUE, SCORES, OPINIONS = planted()


def refitted(order):
    """A wording whose channels are taken for others, fitted as a bank's is."""
    supports = phrase_supports(SCORES[:, order], OPINIONS)
    labels = TRUE.astype(float)
    projected = evidence_by_phrase(SCORES, supports)
    calibration = fit_calibration(projected, labels, labels.mean(axis=0), "labels")
    alike = stored_likeness(likeness(np.corrcoef(OPINIONS.T), supports))
    bank = PhraseSupports(supports, alike, calibration, NO_PAIRS, NO_PAIRS)
    return SupportWording(bank, ("",) * PHRASES, SETTINGS)


def said_of(wording):
    return [wording.choose(evidence, LOGITS, 0, PhraseFilter(5)) for evidence in SCORES]


def test_what_is_said_of_planted_images_is_true_as_often_as_it_says():
    choices = said_of(refitted(np.arange(CHANNELS)))
    given = np.concatenate([choice.probabilities for choice in choices])
    right = np.concatenate([TRUE[row, c.indices] for row, c in enumerate(choices)])
    assert len(given) > IMAGES
    assert right.mean() > 0.9
    assert given.mean() == pytest.approx(right.mean(), abs=0.05)
    assert given.min() >= SETTINGS.min_probability
    # Where nothing was planted, nothing is said.
    assert all(not len(choices[row].indices) for row in np.flatnonzero(~TRUE.any(axis=1)))


def test_with_shuffled_channels_refitted_nothing_is_said():
    order = np.random.default_rng(0).permutation(CHANNELS)
    assert sum(len(choice.indices) for choice in said_of(refitted(order))) == 0


def test_scores_and_similarities_are_of_the_evidence():
    wording = refitted(np.arange(CHANNELS))
    supports, calibration = wording.bank.supports, wording.bank.calibration
    row = int(np.flatnonzero(TRUE.sum(axis=1) == 3)[0])
    choice = wording.choose(7 * SCORES[row], LOGITS, 0, PhraseFilter(5))
    for place, index in enumerate(choice.indices):
        own = supports[:, index].astype(float)
        cosine = SCORES[row] @ own / np.linalg.norm(SCORES[row]) / np.linalg.norm(own)
        assert choice.similarities[place] == pytest.approx(cosine, rel=1e-4)
        along = SCORES[row] @ own / np.linalg.norm(SCORES[row])
        score = (along - calibration.mean[index]) / calibration.deviation
        assert choice.scores[place] == pytest.approx(score, rel=1e-3)
    assert wording.supports(choice.indices) == pytest.approx(supports[:, choice.indices])
    assert wording.min_support == SETTINGS.join


# --- by supports: filters ------------------------------------------------------------------------

KINDS = ("part", "colour", "thing", "category", "category", "")


def made(scores, prior=0.2, **changes):
    """A wording of 6 channels, each of which is a phrase's own; and evidence for it."""
    calibration = Calibration(
        mean=np.zeros(6, np.float32),
        deviation=0.1,
        prior=np.full(6, prior, np.float32),
        grounded=np.ones(6, bool),
        slope=1.0,
        prior_weight=1.0,
        offset=0.0,
        temperature=0.0,
        source="labels",
        images=10,
    )
    alike = stored_likeness(np.eye(6))
    bank = PhraseSupports(np.eye(6, dtype=np.float32), alike, calibration, NO_PAIRS, NO_PAIRS)
    wording = SupportWording(replace(bank, **changes), KINDS, SETTINGS)
    evidence = np.array(scores, float) / 10  # so that its own length decides nothing here
    assert np.linalg.norm(evidence) < 1
    rest = np.sqrt(1 - np.sum(evidence**2))
    bank = replace(wording.bank, supports=np.eye(7, 6, dtype=np.float32))
    return replace(wording, bank=bank), np.append(evidence, rest)


def chosen(given, phrase_filter, class_index=0, logits=LOGITS):
    wording, evidence = given
    return wording.choose(evidence, logits, class_index, phrase_filter).indices.tolist()


def test_phrases_are_said_in_the_order_of_their_scores_and_broad_ones_not():
    assert chosen(made([3, 5, 4, 6, 2, 0]), PhraseFilter(5)) == [1, 2, 0]


def test_a_broad_word_is_said_where_nothing_else_can_be_and_then_one():
    assert chosen(made([0, 0, 0, 4, 5, 0]), PhraseFilter(5)) == [4]
    assert chosen(made([0, 0, 0, 1, 1, 0]), PhraseFilter(5)) == []


def test_only_kinds_that_are_wished_for_are_said():
    given = made([4, 5, 3, 2, 2, 4.5])
    assert chosen(given, PhraseFilter(5, kinds=frozenset({"part", "thing"}))) == [0, 2]
    assert chosen(given, PhraseFilter(5, kinds=frozenset({"scene"}))) == []


def test_who_asks_for_broad_words_gets_several():
    given = made([0, 0, 0, 4, 5, 0])
    assert chosen(given, PhraseFilter(5, kinds=frozenset({"category"}))) == [4, 3]


def test_a_lower_threshold_adds_phrases_and_takes_none_away():
    """Alike phrases: the less probable one scores higher, and would explain the other away."""
    wording, evidence = made([3.4, 0, 4.2, 0, 0, 0])
    priors = np.array([0.5, 0.2, 0.02, 0.2, 0.2, 0.2], np.float32)
    alike = np.eye(6)
    alike[0, 2] = alike[2, 0] = 0.95
    bank = replace(
        wording.bank,
        calibration=replace(wording.bank.calibration, prior=priors),
        likeness=stored_likeness(alike),
    )
    own = replace(wording, bank=bank)
    sure = own.choose(evidence, LOGITS, 0, PhraseFilter(5)).indices.tolist()
    assert sure == [0]
    low = own.choose(evidence, LOGITS, 0, PhraseFilter(5, min_probability=0.0)).indices.tolist()
    assert low[: len(sure)] == sure
    assert (
        own.choose(evidence, LOGITS, 0, PhraseFilter(1, min_probability=0.0)).indices.tolist()
        == sure
    )


def test_a_lower_threshold_keeps_a_broad_word_that_was_said():
    given = made([2, 0, 0, 4, 5, 0])
    assert chosen(given, PhraseFilter(5)) == [4]
    assert chosen(given, PhraseFilter(5, min_probability=0.2)) == [4, 0]


@pytest.mark.parametrize(("least", "said"), [(None, [0, 1]), (0.0, [0, 1, 2]), (0.95, [0])])
def test_a_request_may_set_its_own_threshold(least, said):
    """With a prior of a fifth: probabilities of 0.97, 0.82 and 0.6."""
    given = made([5, 2.95, 1.8, 0, 0, 0])
    wording, evidence = given
    assert chosen(given, PhraseFilter(5, min_probability=least)) == said
    choice = wording.choose(evidence, LOGITS, 0, PhraseFilter(5, min_probability=0.0))
    prior = np.log(0.201 / 0.801)
    expected = [1 / (1 + np.exp(-(score + prior))) for score in (5, 2.95, 1.8)]
    assert choice.probabilities == pytest.approx(expected, abs=1e-4)


def test_a_repeated_name_is_said_if_it_is_wished_for_and_of_other_classes():
    repeats = np.array([[1, 0], [2, 1]])
    given = made([5, 4, 0, 0, 0, 0], repeats=repeats)
    assert chosen(given, PhraseFilter(5), class_index=0) == [0, 1]
    assert chosen(given, PhraseFilter(5), class_index=1) == [1]
    assert chosen(given, PhraseFilter(5, repeat_class=True), class_index=1) == [0, 1]
    wording, evidence = given
    wording = replace(wording, settings=replace(SETTINGS, repeat_class=True))
    assert chosen((wording, evidence), PhraseFilter(5), class_index=1) == [0, 1]
    assert chosen((wording, evidence), PhraseFilter(5, repeat_class=False), class_index=1) == [1]


def test_pairs_that_say_the_same_are_not_said_together():
    assert chosen(made([5, 4, 3, 0, 0, 0], apart=np.array([[0, 1]])), PhraseFilter(5)) == [0, 2]


def test_the_networks_opinion_raises_what_is_true_of_the_classes_it_holds_possible():
    """Two classes at even odds: one has the first phrase, both have the second."""
    table = ClassAttributes.of(np.array([[0.8, 0.9, 0, 0, 0, 0], [0, 0.9, 0, 0, 0, 0]]))
    wording, evidence = made([2, 2, 2, 0, 0, 0], attributes=table)
    calibration = replace(wording.bank.calibration, temperature=0.5)
    wording = replace(wording, bank=replace(wording.bank, calibration=calibration))
    choice = wording.choose(evidence, np.zeros(2), 0, PhraseFilter(5, min_probability=0.0))
    opinion = {0: 0.4, 1: 0.9, 2: 0.0}
    by_evidence = 2 + np.log(0.201 / 0.801)
    for index, probability in zip(choice.indices, choice.probabilities, strict=True):
        own = np.log((opinion[index] + 1e-3) / (1 - opinion[index] + 1e-3))
        odds = 0.2 * by_evidence + 0.75 * own + 1.4
        assert probability == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-4)
    assert choice.indices.tolist() == [1, 0, 2]
    # At half the temperature a difference of logits of 1 counts as one of 2.
    surer = wording.choose(evidence, np.array([1.0, 0]), 0, PhraseFilter(1, min_probability=0.0))
    first = 0.8 / (1 + np.exp(-2.0))
    odds = 0.2 * by_evidence + 0.75 * np.log((0.901) / (0.101)) + 1.4
    assert surer.probabilities == pytest.approx([1 / (1 + np.exp(-odds))], abs=1e-4)
    opinions = table.mixed(np.array([1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(2.0))]))
    assert opinions[:2] == pytest.approx([first, 0.9])


# --- the table -----------------------------------------------------------------------------------


def test_a_sparse_table_is_the_dense_one():
    rng = np.random.default_rng(1)
    dense = np.where(rng.random((7, 9)) < 0.3, rng.random((7, 9)), 0).astype(np.float32)
    table = ClassAttributes.of(dense)
    np.testing.assert_array_equal(table.dense(), dense)
    weights = rng.dirichlet(np.ones(7))
    assert table.mixed(weights) == pytest.approx(weights @ dense, abs=1e-6)


# --- by embeddings -------------------------------------------------------------------------------


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(8)

    def vectors(count):
        found = rng.standard_normal((count, 12)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    kinds = ("part", "colour", "") * 10
    return EmbeddingWording(vectors(40), vectors(1)[0], center_texts(vectors(30)), kinds, SETTINGS)


def test_by_embeddings_words_are_the_papers(embeddings):
    for seed in range(20):
        evidence = np.random.default_rng(seed).standard_normal(40)
        target = evidence_embedding(
            evidence, embeddings.channel_embeddings, embeddings.mean_embedding, SETTINGS
        )
        expected = choose_phrases(target, embeddings.text_embeddings, 5, SETTINGS)
        # Whatever the logits, the class and what only calibrated words know.
        phrase_filter = PhraseFilter(5, min_probability=0.9, repeat_class=True)
        found = embeddings.choose(evidence, LOGITS, 3, phrase_filter)
        assert found.indices.tolist() == expected.indices.tolist()
        assert found.scores.tolist() == expected.scores.tolist()
        assert found.similarities.tolist() == expected.similarities.tolist()
        assert found.probabilities is None


def test_by_embeddings_supports_are_cosines(embeddings):
    found = embeddings.supports(np.array([3, 0]))
    expected = embeddings.channel_embeddings @ embeddings.text_embeddings[[3, 0]].T
    np.testing.assert_array_equal(found, expected)
    assert embeddings.min_support == SETTINGS.min_support


def test_by_embeddings_kinds_are_chosen_among_as_if_there_were_no_others(embeddings):
    evidence = np.random.default_rng(0).standard_normal(40)
    found = embeddings.choose(evidence, LOGITS, 0, PhraseFilter(5, kinds=frozenset({"colour"})))
    own = replace(embeddings, text_embeddings=embeddings.text_embeddings[1::3], kinds=())
    expected = own.choose(evidence, LOGITS, 0, PhraseFilter(5))
    assert found.indices.tolist() == [1 + 3 * index for index in expected.indices]
    assert found.scores.tolist() == expected.scores.tolist()


def test_a_kind_that_no_phrase_has_leaves_nothing_to_say(embeddings):
    evidence = np.random.default_rng(0).standard_normal(40)
    found = embeddings.choose(evidence, LOGITS, 0, PhraseFilter(5, kinds=frozenset({"scene"})))
    assert found.indices.tolist() == found.scores.tolist() == []


# --- settings ------------------------------------------------------------------------------------


def test_a_server_changes_of_a_banks_settings_what_it_names():
    own = RationaleSettings(min_probability=0.6, join=0.2)
    assert WordSettings().over(own) == own
    changed = WordSettings("embeddings", 0.0).over(own)
    assert changed == replace(own, wording="embeddings", min_probability=0.0)

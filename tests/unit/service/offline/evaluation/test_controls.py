"""Controls of the words: supports of no channel, calibrated as a bank's own, and cues' moves."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from textcam_service.artefacts.bank import BankArtefact, ConceptBank, Vocabulary
from textcam_service.core.concepts.supports import correlations, phrase_supports
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.grounding import BY_SCORES, Opinions
from textcam_service.offline.banks.phrases import Probing, fitted
from textcam_service.offline.evaluation import controls, spurious_cues
from textcam_service.offline.evaluation.controls import (
    Fit,
    control_bundles,
    fit_of,
    random_channels,
    says_of_image,
    shuffled_channels,
)
from textcam_service.offline.evaluation.spurious_cues import moved_settings

IMAGES, CHANNELS, PHRASES = 1500, 8, 8
SETTINGS = RationaleSettings(min_probability=0.5)


@pytest.fixture(scope="module")
def planted():
    """(bundle, fit, truth): channel j answers images of which phrase j is true, and no other.

    Each phrase is true of one image in five; what is thought of them is the truth.
    """
    rng = np.random.default_rng(5)
    truth = (rng.random((IMAGES, PHRASES)) < 0.2).astype(np.float32)
    answers = np.eye(PHRASES, dtype=np.float32)
    scores = truth @ answers + 0.2 * rng.random((IMAGES, CHANNELS)).astype(np.float32)
    labels = 0.05 + 0.85 * truth  # nobody is quite sure
    opinions = Opinions(truth, labels, labels.mean(axis=0), "labels", correlations(truth, truth))
    logits = np.zeros((IMAGES, 2), np.float32)
    embeddings = (truth + 1e-3) / np.linalg.norm(truth + 1e-3, axis=1, keepdims=True)
    probing = Probing(
        scores, scores, logits, embeddings, np.zeros((IMAGES, 0)), np.full(IMAGES, -1)
    )
    names = tuple(f"phrase {place}" for place in range(PHRASES))
    nothing = np.zeros((0, 2), np.int64)
    blank = PhraseSupports(
        phrase_supports(scores, truth),
        None,
        SimpleNamespace(temperature=0.0),
        nothing,
        nothing,
    )
    supports = fitted(blank, probing, opinions, ("",) * PHRASES, SETTINGS)
    bank = ConceptBank(
        np.eye(CHANNELS, PHRASES, dtype=np.float32), np.zeros(CHANNELS, bool), None, None, "", "e",
        {}, supports,
    )  # fmt: skip
    words = Vocabulary(names, np.eye(PHRASES, dtype=np.float32), "e")
    bundle = ModelBundle("planted", "1", None, BankArtefact(bank, words, "", ""), SETTINGS)
    return bundle, Fit(probing, opinions), truth


def said_and_right(bundle, fit, truth, images=200):
    said = right = 0
    rows = np.flatnonzero(truth.any(axis=1))[:images]
    for row in rows:
        evidence = fit.probing.evidence[row].astype(np.float64)
        chosen = bundle.wording.choose(evidence, np.zeros(2), 0, PhraseFilter(5)).indices
        said, right = said + len(chosen), right + truth[row, chosen].sum()
    return said / images, right / max(said, 1)


def test_planted_phrases_are_said_and_shuffled_ones_only_without_a_fit(planted):
    bundle, fit, truth = planted
    said, right = said_and_right(bundle, fit, truth)
    assert said > 0.7
    assert right > 0.95
    # Every phrase has another's channel: said as surely, unless the calibration learns of it.
    kept, right = said_and_right(shuffled_channels(bundle), fit, truth)
    assert kept > 0.7
    assert right < 0.5
    for control in (shuffled_channels, random_channels):
        refitted, right = said_and_right(control(bundle, fit), fit, truth)
        assert refitted * (1 - right) < 0.1, control


def test_controls_are_named_by_what_they_are_and_change_supports_alone(planted):
    bundle = planted[0]
    own = bundle.artefact.bank.supports
    made = control_bundles(bundle)
    assert set(made) == {"control: random supports", "control: shuffled channels"}
    shuffled = made["control: shuffled channels"].artefact.bank.supports
    assert sorted(map(tuple, shuffled.supports)) == sorted(map(tuple, own.supports))
    assert not np.array_equal(shuffled.supports, own.supports)
    assert shuffled.calibration is own.calibration
    drawn = made["control: random supports"].artefact.bank.supports.supports
    size = np.sqrt((drawn**2).mean() / (own.supports**2).mean())
    assert size == pytest.approx(1, abs=0.25)
    assert np.abs(np.corrcoef(drawn.ravel(), own.supports.ravel())[0, 1]) < 0.35

    papers = replace(bundle, settings=replace(SETTINGS, wording="embeddings"))
    made = control_bundles(papers)
    assert set(made) == {"control: random directions", "control: shuffled channels"}
    for other in made.values():
        assert other.artefact.bank.supports is own
        assert not np.array_equal(
            other.artefact.bank.channel_embeddings, bundle.artefact.bank.channel_embeddings
        )


def test_a_fit_needs_probing_images_the_embedder_and_the_same_labels(planted, monkeypatch):
    bundle, fit, _ = planted
    embedder = SimpleNamespace(identity="e")
    assert fit_of(bundle, embedder, None) == (None, "the bank has no probing images beside it")
    assert fit_of(bundle, None, fit.probing) == (None, "the bank's embedder is not given")
    monkeypatch.setattr(controls, "phrase_opinions", lambda *_: fit.opinions)
    found, why = fit_of(replace(bundle, backbone=SimpleNamespace()), embedder, fit.probing)
    assert (found.opinions, why) == (fit.opinions, "")
    other = replace(fit.opinions, source=BY_SCORES)
    monkeypatch.setattr(controls, "phrase_opinions", lambda *_: other)
    found, why = fit_of(bundle, embedder, fit.probing)
    assert found is None
    assert why == "the bank was fitted on labels, which it does not hold"
    papers = replace(bundle, settings=replace(SETTINGS, wording="embeddings"))
    assert fit_of(papers, embedder, fit.probing) == (None, "")


def test_the_embedders_opinion_is_its_own_and_not_the_channels(planted):
    """Its embedding of an image is the truth itself here; it has no evidence to share out."""
    bundle, fit, truth = planted
    rows = [row for row in range(200) if truth[row].sum() == 1][:20]
    shown = iter(fit.probing.embeddings[rows])
    embedder = SimpleNamespace(embed_images=lambda _: next(shown)[None])
    explain = says_of_image(bundle, embedder, fit)
    seen = SimpleNamespace(
        case=SimpleNamespace(image=None),
        prediction=SimpleNamespace(class_index=0),
        logits=np.zeros(2),
    )
    for row in rows:
        said = explain(seen)
        assert [phrase.text for phrase in said] == [f"phrase {truth[row].argmax()}"]
        assert np.isnan(said[0].evidence)
        assert said[0].probability >= 0.5


def test_each_setting_of_the_choice_is_moved_by_a_tenth_either_way_and_no_other():
    settings = RationaleSettings(min_new=0.5, min_more=0.4, min_odds=1.05)
    moves = {name: change(settings) for name, change in moved_settings(settings).items()}
    assert list(moves) == [
        "min_new x 0.9", "min_new x 1.1", "min_more x 0.9", "min_more x 1.1",
        "min_odds x 0.9", "min_odds x 1.1",
    ]  # fmt: skip
    for name, change in moves.items():
        setting, factor = name.split(" x ")
        moved = max(getattr(settings, setting) * float(factor), 1.0 if "odds" in name else 0.0)
        assert change == replace(settings, **{setting: moved})
    assert moves["min_new x 0.9"].min_new == pytest.approx(0.45)
    assert moves["min_odds x 0.9"].min_odds == 1.0  # not below what it may be
    # Moves are of the judged bank's value, whatever another bank's is.
    other = moved_settings(settings)["min_new x 1.1"](RationaleSettings(min_new=9.0))
    assert other.min_new == pytest.approx(0.55)


def test_a_cue_is_named_where_it_is_said_by_the_settings_that_are_asked_for(planted):
    bundle, fit, truth = planted
    rows = np.flatnonzero(truth[:, 3])[:40]
    evidence, logits = fit.probing.evidence[rows].astype(np.float64), np.zeros((len(rows), 2))
    twin = spurious_cues._Twin(bundle, 0, frozenset({"phrase 3"}), logits, evidence, None, None)
    assert twin.named(SETTINGS) >= 0.9
    assert twin.named(replace(SETTINGS, min_probability=1.0)) == 0
    # By scores, where it is true it is further from its null than where it is not.
    scores = spurious_cues._scores(bundle, fit.probing.evidence, np.array([3]))[:, 0]
    assert scores[truth[:, 3] == 1].min() > np.median(scores)

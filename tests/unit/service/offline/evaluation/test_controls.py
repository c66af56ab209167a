"""Controls of the phrases: supports of no channel, calibrated as a bank's own."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from planted_bundle import SETTINGS
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.offline.banks.grounding import BY_SCORES
from textcam_service.offline.evaluation import controls
from textcam_service.offline.evaluation.controls import (
    control_bundles,
    embedder_explainer,
    fit_of,
    random_channels,
    shuffled_channels,
)


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
    monkeypatch.setattr(controls, "ground_phrases", lambda *_: fit.grounding)
    found, why = fit_of(replace(bundle, backbone=SimpleNamespace()), embedder, fit.probing)
    assert (found.grounding, why) == (fit.grounding, "")
    other = replace(fit.grounding, source=BY_SCORES)
    monkeypatch.setattr(controls, "ground_phrases", lambda *_: other)
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
    explain = embedder_explainer(bundle, embedder, fit)
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

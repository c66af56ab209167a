"""Supports of a bank's phrases: computed, calibrated, and cut down to another vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from textcam_service.artefacts.bank import Vocabulary
from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.concepts.supports import evidence_by_phrase, likeness, phrase_supports
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.calibration_fitting import (
    fit_calibration,
    fit_chosen,
    fit_temperature,
    with_reliability,
)
from textcam_service.core.rationale.phrase_choice import Choice
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports, SupportWording, stored_likeness
from textcam_service.core.types import Float32Array, FloatArray, IntArray
from textcam_service.offline.banks.grounding import BY_SCORES, Grounding, repeated_names, same_text
from textcam_service.offline.banks.phrase_sources import PhraseSources, ground_phrases
from textcam_service.offline.banks.probing import Probing
from textcam_service.offline.embedders.base import ClassifierEmbedder
from textcam_service.offline.threads import in_threads

_SAID = 5  # phrases of each probing image that a calibration looks at


def bank_supports(
    sources: PhraseSources, vocabulary: Vocabulary, settings: RationaleSettings
) -> PhraseSupports:
    """Compute what a bank knows of V phrases.

    Args:
        sources: Sources that ground the phrases.
        vocabulary: The phrases, with their embeddings and kinds.
        settings: Settings of the choice of phrases.
    """
    probing, backbone, embedder = sources.probing, sources.backbone, sources.embedder
    phrases = vocabulary.phrases
    grounding = ground_phrases(sources, vocabulary)
    head = backbone.head_weights if backbone.is_linear and grounding.table is not None else None
    supports = phrase_supports(probing.scores, grounding.values, head, grounding.table)
    attributes, temperature = None, 0.0
    if grounding.reference is not None and grounding.table is not None:
        attributes = ClassAttributes.of(grounding.table)
        temperature = fit_temperature(probing.logits, grounding.reference)
    names = backbone.manifest.class_names
    apart: IntArray = np.zeros((0, 2), np.int64)
    repeats = repeated_names(names, phrases)
    if isinstance(embedder, ClassifierEmbedder):  # its texts are sentences, which can say the same
        plain = embedder.embed_texts(list(phrases))
        apart = same_text(plain)
        said = embedder.embed_texts([name.split(",")[0] for name in names])
        repeats = repeated_names(names, phrases, said, plain)
    calibration = replace(_by_evidence(supports, probing, grounding), temperature=temperature)
    alike = stored_likeness(likeness(grounding.alike, supports))
    found = PhraseSupports(supports, alike, calibration, apart, repeats, attributes)
    wording = SupportWording(found, vocabulary.kinds or ("",) * len(phrases), settings)
    return replace(found, calibration=_calibrated(wording, probing, grounding))


def refit(
    found: PhraseSupports,
    probing: Probing,
    grounding: Grounding,
    kinds: Sequence[str],
    settings: RationaleSettings,
) -> PhraseSupports:
    """Fit likeness and calibration anew, to changed supports.

    Args:
        found: Facts about the phrases, with supports other than those of the fit.
        probing: Data of the probing images.
        grounding: Grounding of the phrases in these images.
        kinds: V of PHRASE_KINDS or "".
        settings: Settings of the choice of phrases.
    """
    calibration = _by_evidence(found.supports, probing, grounding)
    calibration = replace(calibration, temperature=found.calibration.temperature)
    alike = stored_likeness(likeness(grounding.alike, found.supports))
    wording = SupportWording(
        replace(found, likeness=alike, calibration=calibration), kinds, settings
    )
    return replace(wording.bank, calibration=_calibrated(wording, probing, grounding))


def chosen_phrases(
    supports: PhraseSupports, known: Sequence[str], phrases: Sequence[str]
) -> PhraseSupports:
    """Keep a bank's data of phrases in another vocabulary; phrases new to the bank have none.

    Args:
        supports: Supports of the bank.
        known: Its V phrases.
        phrases: The new vocabulary.
    """
    place = {phrase.casefold(): index for index, phrase in enumerate(known)}
    old = np.array([place.get(phrase.casefold(), -1) for phrase in phrases], np.int64)
    new = np.full(len(known), -1, np.int64)
    new[old[old >= 0]] = np.flatnonzero(old >= 0)
    there, calibration = old >= 0, supports.calibration
    pairs = there[:, None] & there[None, :]

    def moved(places: IntArray, columns: slice) -> IntArray:
        """Return places in the new vocabulary; rows with a phrase that is gone are left out."""
        found: IntArray = places.copy()
        found[:, columns] = new[places[:, columns]]
        return found[(found >= 0).all(axis=1)]

    attributes = supports.attributes
    if attributes is not None:
        stays = new[attributes.phrases] >= 0
        attributes = ClassAttributes(
            attributes.classes[stays],
            new[attributes.phrases[stays]],
            attributes.values[stays],
            (attributes.shape[0], len(phrases)),
        )
    return PhraseSupports(
        supports=np.where(there, supports.supports[:, old], 0),
        likeness=np.where(pairs, supports.likeness[np.ix_(old, old)], 0).astype(np.int8),
        calibration=replace(
            calibration,
            mean=np.where(there, calibration.mean[old], 0),
            prior=np.where(there, calibration.prior[old], 0),
            grounded=there & calibration.grounded[old],
        ),
        apart=moved(supports.apart, slice(0, 2)),
        repeats=moved(supports.repeats, slice(1, 2)),
        attributes=attributes,
    )


def _by_evidence(supports: Float32Array, probing: Probing, grounding: Grounding) -> Calibration:
    projected = evidence_by_phrase(probing.evidence, supports)
    return fit_calibration(projected, grounding.labels, grounding.prior, grounding.source)


def _calibrated(wording: SupportWording, probing: Probing, grounding: Grounding) -> Calibration:
    """Fit the calibration to phrases chosen for the probing images; measure its reliability."""
    calibration = wording.bank.calibration
    # All at once: a threshold would go by the probabilities that are fitted here.
    wording = replace(wording, settings=replace(wording.settings, min_probability=0.0))
    by_scores_alone = grounding.source == BY_SCORES
    if by_scores_alone:
        choices = _choices(wording, probing)
        rows = np.repeat(np.arange(len(choices)), [len(choice.indices) for choice in choices])
        places = np.concatenate([choice.indices for choice in choices])
        scores = np.concatenate([choice.scores for choice in choices])
        calibration = fit_chosen(calibration, scores, grounding.labels[rows, places], places)
        wording = replace(wording, bank=replace(wording.bank, calibration=calibration))
    given, true = [], []
    for row, choice in enumerate(_choices(wording, probing)):
        own: FloatArray = grounding.labels[row, choice.indices]
        assert choice.probabilities is not None  # noqa: S101 - by supports
        if by_scores_alone:
            own = calibration.denoised(choice.probabilities, own, choice.indices)
        given.append(choice.probabilities)
        true.append(own)
    return with_reliability(calibration, np.concatenate(given), np.concatenate(true))


def _choices(wording: SupportWording, probing: Probing) -> list[Choice]:
    """Choose phrases for each probing image's most probable class."""
    phrase_filter = PhraseFilter(_SAID)

    def choose(row: int) -> Choice:
        evidence, logits = probing.evidence[row].astype(np.float64), probing.logits[row]
        return wording.choose(evidence, logits, int(logits.argmax()), phrase_filter)

    return [*in_threads(choose, range(len(probing.logits)))]

"""A bundle whose channels each answer one phrase, which is known of every probing image."""

from types import SimpleNamespace

import numpy as np
from textcam_service.artefacts.bank import BankArtefact, ConceptBank, Vocabulary
from textcam_service.core.concepts.supports import correlations, phrase_supports
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.grounding import Grounding
from textcam_service.offline.banks.phrase_supports import refit
from textcam_service.offline.banks.probing import Probing
from textcam_service.offline.evaluation.controls import Fit

IMAGES, CHANNELS, PHRASES = 1500, 8, 8


SETTINGS = RationaleSettings(min_probability=0.5)


def planted_bundle():
    """Return (bundle, fit, truth): channel j answers images of which phrase j alone is true.

    Each phrase is true of one image in five; what is thought of them is the truth.
    """
    rng = np.random.default_rng(5)
    truth = (rng.random((IMAGES, PHRASES)) < 0.2).astype(np.float32)
    answers = np.eye(PHRASES, dtype=np.float32)
    scores = truth @ answers + 0.2 * rng.random((IMAGES, CHANNELS)).astype(np.float32)
    labels = 0.05 + 0.85 * truth  # nobody is quite sure
    grounding = Grounding(truth, labels, labels.mean(axis=0), "labels", correlations(truth, truth))
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
    supports = refit(blank, probing, grounding, ("",) * PHRASES, SETTINGS)
    bank = ConceptBank(
        np.eye(CHANNELS, PHRASES, dtype=np.float32), np.zeros(CHANNELS, bool), None, None, "", "e",
        {}, supports,
    )  # fmt: skip
    words = Vocabulary(names, np.eye(PHRASES, dtype=np.float32), "e")
    bundle = ModelBundle("planted", "1", None, BankArtefact(bank, words, "", ""), SETTINGS)
    return bundle, Fit(probing, grounding), truth

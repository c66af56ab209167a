"""Controls of the phrases: banks without knowledge of the channels, and the embedder alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from textcam_service.core.rationale.phrases import choose_phrases
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.rationale.wording import PhraseSupports, SupportWording
from textcam_service.core.types import Float32Array, Float64Array
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.grounding import Grounding
from textcam_service.offline.banks.phrase_sources import PhraseSources, ground_phrases
from textcam_service.offline.banks.phrase_supports import refit
from textcam_service.offline.banks.probing import Probing
from textcam_service.offline.embedders.base import Embedder
from textcam_service.offline.evaluation.cases import Observation
from textcam_service.offline.evaluation.phrases import PHRASES, Explain, SaidPhrase

SHUFFLED = "control: shuffled channels"
RANDOM = {"supports": "control: random supports", "embeddings": "control: random directions"}
EMBEDDER = "control: embedder's opinion"


@dataclass(frozen=True)
class Fit:
    """Data that a control's calibration is fitted on, as the bank's own was.

    Attributes:
        probing: Data of the probing images.
        grounding: Grounding of the phrases in these images.
    """

    probing: Probing
    grounding: Grounding


def fit_of(
    bundle: ModelBundle, embedder: Embedder | None, probing: Probing | None
) -> tuple[Fit | None, str]:
    """Return the data that a bundle's controls are fitted on; else None and the reason."""
    calibration = bundle.calibration
    if calibration is None:
        return None, ""
    if probing is None:
        return None, "the bank has no probing images beside it"
    if embedder is None:
        return None, "the bank's embedder is not given"
    sources = PhraseSources(probing, bundle.backbone, embedder)
    grounding = ground_phrases(sources, bundle.artefact.vocabulary)
    if grounding.source != calibration.source:
        return None, f"the bank was fitted on {calibration.source}, which it does not hold"
    return Fit(probing, grounding), ""


def control_bundles(bundle: ModelBundle, fit: Fit | None = None) -> Mapping[str, ModelBundle]:
    """Make banks that know nothing of the channels, by the names of RANDOM and SHUFFLED."""
    by = "embeddings" if bundle.calibration is None else "supports"
    return {RANDOM[by]: random_channels(bundle, fit), SHUFFLED: shuffled_channels(bundle, fit)}


def shuffled_channels(bundle: ModelBundle, fit: Fit | None = None) -> ModelBundle:
    """Give every channel another channel's supports, or direction.

    Args:
        bundle: Bundle with the true bank.
        fit: Data for a calibration of its own; None: the true bank's is kept.
    """
    bank = bundle.artefact.bank
    order = np.random.default_rng(0).permutation(len(bank.channel_embeddings))
    if bank.supports is None or bundle.calibration is None:
        return with_directions(bundle, bank.channel_embeddings[order])
    return with_supports(bundle, bank.supports.supports[order], fit)


def random_channels(bundle: ModelBundle, fit: Fit | None = None) -> ModelBundle:
    """Give every channel random supports, of each phrase's own size, or a random direction.

    Arguments as of shuffled_channels.
    """
    bank, rng = bundle.artefact.bank, np.random.default_rng(0)
    if bank.supports is None or bundle.calibration is None:
        drawn = rng.standard_normal(bank.channel_embeddings.shape)
        unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return with_directions(bundle, unit.astype(np.float32))
    own = bank.supports.supports
    drawn = rng.standard_normal(own.shape) * np.sqrt((own**2).mean(axis=0))
    return with_supports(bundle, drawn.astype(np.float32), fit)


def with_directions(bundle: ModelBundle, channel_embeddings: Float32Array) -> ModelBundle:
    """Replace a bundle's channel embeddings (D, E)."""
    bank = replace(bundle.artefact.bank, channel_embeddings=channel_embeddings)
    return replace(bundle, artefact=replace(bundle.artefact, bank=bank))


def with_supports(
    bundle: ModelBundle, supports: Float32Array, fit: Fit | None = None
) -> ModelBundle:
    """Replace a bundle's supports (D, V), calibrated anew if there is a fit."""
    found = replace(_supports_of(bundle), supports=supports)
    if fit is not None:
        found = refit(found, fit.probing, fit.grounding, bundle.kinds, bundle.settings)
    bank = replace(bundle.artefact.bank, supports=found)
    return replace(bundle, artefact=replace(bundle.artefact, bank=bank))


def embedder_explainer(bundle: ModelBundle, embedder: Embedder, fit: Fit | None = None) -> Explain:
    """Return a function that explains by the embedder's scores of the whole image.

    It has no evidence. By supports, the image's embedding replaces the evidence and the phrases'
    embeddings replace their supports, calibrated as the bank is. By embeddings, the probing set's
    mean is removed from it, as from the channels' directions, and it gets the same prior.

    Args:
        bundle: Bundle with the vocabulary and the settings.
        embedder: Embedder of the bank's space.
        fit: Data for the calibration; needed by supports.
    """
    if bundle.calibration is None:
        return _by_sparse_choice(bundle, embedder)
    assert fit is not None  # noqa: S101 - the caller has it
    texts = np.asarray(bundle.artefact.vocabulary.embeddings.T, np.float32)
    blind = replace(_supports_of(bundle).calibration, temperature=0.0)  # without the network's
    known = replace(_supports_of(bundle), supports=texts, calibration=blind, attributes=None)
    probing = replace(fit.probing, evidence=fit.probing.embeddings)
    known = refit(known, probing, fit.grounding, bundle.kinds, bundle.settings)
    wording = SupportWording(known, bundle.kinds, bundle.settings)

    def explain(observation: Observation) -> list[SaidPhrase]:
        own: Float64Array = np.asarray(
            embedder.embed_images([observation.case.image])[0], np.float64
        )
        index = observation.prediction.class_index
        choice = wording.choose(own, observation.logits, index, PhraseFilter(PHRASES))
        assert choice.probabilities is not None  # noqa: S101 - by supports
        pairs = zip(choice.indices.tolist(), choice.probabilities.tolist(), strict=True)
        return [SaidPhrase(bundle.phrases[place], probability=p) for place, p in pairs]

    return explain


def _by_sparse_choice(bundle: ModelBundle, embedder: Embedder) -> Explain:
    mean = bundle.artefact.bank.mean_embedding

    def explain(observation: Observation) -> list[SaidPhrase]:
        own = np.asarray(embedder.embed_images([observation.case.image])[0])
        own = own - (own @ mean) * mean
        own = own / np.linalg.norm(own) + bundle.settings.prior * mean
        own /= np.linalg.norm(own)
        choice = choose_phrases(own, bundle.text_embeddings, PHRASES, bundle.settings)
        return [SaidPhrase(bundle.phrases[index]) for index in choice.indices]

    return explain


def _supports_of(bundle: ModelBundle) -> PhraseSupports:
    supports = bundle.artefact.bank.supports
    assert supports is not None  # noqa: S101 - its words go by supports
    return supports

"""Wordings: the choice of phrases for evidence, by supports or by embeddings.

By supports: correlations of channels with phrases, probabilities, and core.rationale.phrase_choice.
By embeddings, as in TextCAM (arXiv 2510.01004): LDA directions in the embedder's space and a sparse
choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.concepts.supports import evidence_by_phrase
from textcam_service.core.probability import logit, softmax
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.phrase_choice import Candidates, Choice, choose
from textcam_service.core.rationale.phrases import choose_phrases, evidence_embedding
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    FloatArray,
    Int8Array,
    IntArray,
)

_FALLBACK = "category"
_LIKENESS_STEPS = 127
# By evidence alone, and over all phrases, a phrase less probable than this is never chosen.
_PLAUSIBLE = 0.1
# How much a deviation of the score raises a phrase's log-odds when phrases are ordered. So phrases
# that are probable of all such images ("indoor scene") come after those that this image's evidence
# speaks for.
_SPECIFIC = 0.2


class Wording(Protocol):
    """Interface of a bank to a rationale."""

    @property
    def kinds(self) -> Sequence[str]:
        """V of PHRASE_KINDS, or ""."""

    @property
    def min_support(self) -> float:
        """Least support of a channel that belongs to a phrase."""

    def choose(
        self,
        evidence: Float64Array,
        logits: FloatArray,
        class_index: int,
        phrase_filter: PhraseFilter,
    ) -> Choice:
        """Choose phrases for the evidence (D,) of a class, out of an image's logits (C,)."""

    def supports(self, indices: IntArray) -> FloatArray:
        """Return the support of each channel for K phrases: (D, K)."""


@dataclass(frozen=True)
class PhraseSupports:
    """Facts about the vocabulary's phrases, in addition to the channel embeddings.

    Attributes:
        supports: (D, V) correlations, see core.concepts.supports.
        likeness: (V, V) how far a phrase's score explains another's, in steps of 1/127; see
            core.concepts.supports.likeness.
        calibration: Converts evidence to probability.
        apart: (P, 2) pairs of phrases of the same meaning, which exclude each other.
        repeats: (R, 2) class and phrase, where the phrase only repeats the class's name.
        attributes: The class table, if its classes are the head's; None: they are not.
    """

    supports: Float32Array
    likeness: Int8Array
    calibration: Calibration
    apart: IntArray
    repeats: IntArray
    attributes: ClassAttributes | None = None


def stored_likeness(likeness: FloatArray) -> Int8Array:
    """Round likeness (V, V) to steps of 1/127."""
    return np.asarray(np.rint(np.clip(likeness, -1, 1) * _LIKENESS_STEPS), np.int8)


@dataclass(frozen=True)
class SupportWording:
    """Phrases by supports, with their probabilities.

    Attributes:
        bank: Facts about the phrases.
        kinds: V of PHRASE_KINDS, or "".
        settings: See RationaleSettings.
    """

    bank: PhraseSupports
    kinds: Sequence[str]
    settings: RationaleSettings

    @property
    def min_support(self) -> float:
        """Least support of a channel that belongs to a phrase."""
        return self.settings.join

    def supports(self, indices: IntArray) -> FloatArray:
        """Return the support of each channel for K phrases: (D, K)."""
        return self.bank.supports[:, indices]

    def choose(
        self,
        evidence: Float64Array,
        logits: FloatArray,
        class_index: int,
        phrase_filter: PhraseFilter,
    ) -> Choice:
        """Choose phrases for the evidence (D,) of a class, out of an image's logits (C,)."""
        calibration, settings = self.bank.calibration, self.settings
        projected = evidence_by_phrase(evidence, self.bank.supports)
        scores, by_attributes = calibration.scores(projected), self._attribute_probabilities(logits)
        probabilities = calibration.probabilities(scores, by_attributes)
        eligible = calibration.is_supported(scores, settings.min_odds)
        eligible = eligible & self._admitted(class_index, phrase_filter)
        if by_attributes is None:
            eligible = eligible & (calibration.by_evidence(scores) >= _PLAUSIBLE)
        priority = _priority(scores, probabilities, by_attributes is not None)
        own, least = settings.min_probability, phrase_filter.min_probability
        least = own if least is None else least
        sure = Candidates(
            priority,
            scores,
            eligible & (probabilities >= max(own, least)),
            self._likeness,
            self._exclusive,
        )
        indices = self._chosen(sure, phrase_filter)
        if least < own:  # less probable ones replace none of those chosen without them
            more = replace(sure, eligible=eligible & (probabilities >= least))
            indices = self._chosen(more, phrase_filter, indices)
        similarities = projected[indices] / self._lengths[indices]
        return Choice(
            indices,
            scores[indices].astype(np.float64),
            similarities.astype(np.float64),
            probabilities[indices],
        )

    def _chosen(
        self,
        candidates: Candidates,
        phrase_filter: PhraseFilter,
        preselected: IntArray | None = None,
    ) -> IntArray:
        """Choose among phrases that are not broad, else the best broad one.

        Broad ones that the filter names are chosen like others.
        """
        eligible = candidates.eligible
        ordinary = eligible if _FALLBACK in phrase_filter.kinds else eligible & ~self._broad
        if preselected is not None:  # a broad one too: chosen phrases stay
            ordinary = ordinary | np.isin(np.arange(len(eligible)), preselected)
        chosen = choose(
            replace(candidates, eligible=ordinary),
            phrase_filter.max_phrases,
            self.settings,
            preselected,
        )
        if len(chosen):
            return chosen
        broad = np.flatnonzero(eligible & self._broad)
        return broad[np.argmax(candidates.priority[broad])][None] if len(broad) else broad

    def _attribute_probabilities(self, logits: FloatArray) -> Float64Array | None:
        table, temperature = self.bank.attributes, self.bank.calibration.temperature
        if table is None or not temperature:
            return None
        return table.mixed(softmax(np.asarray(logits) / temperature))

    def _admitted(self, class_index: int, phrase_filter: PhraseFilter) -> BoolArray:
        admitted = np.ones(len(self.kinds), bool)
        if phrase_filter.kinds:
            admitted &= np.isin(self._kinds, sorted(phrase_filter.kinds))
        repeat = phrase_filter.repeat_class
        repeat = self.settings.repeat_class if repeat is None else repeat
        if not repeat:
            repeats = self.bank.repeats
            admitted[repeats[repeats[:, 0] == class_index, 1]] = False
        return admitted

    @cached_property
    def _kinds(self) -> NDArray[np.str_]:
        return np.array(self.kinds, np.str_)

    @cached_property
    def _broad(self) -> BoolArray:
        return np.asarray(self._kinds == _FALLBACK)

    @cached_property
    def _lengths(self) -> Float32Array:
        """Lengths (V,) of the phrases' supports; 1 for one without any."""
        lengths = np.linalg.norm(self.bank.supports, axis=0)
        return np.asarray(np.where(lengths > 0, lengths, 1), np.float32)

    @cached_property
    def _likeness(self) -> Float32Array:
        return np.asarray(self.bank.likeness / np.float32(_LIKENESS_STEPS), np.float32)

    @cached_property
    def _exclusive(self) -> BoolArray:
        exclusive = np.zeros(self.bank.likeness.shape, bool)
        first, second = self.bank.apart.T
        exclusive[first, second] = exclusive[second, first] = True
        return exclusive


def _priority(scores: FloatArray, probabilities: FloatArray, by_attributes: bool) -> FloatArray:
    """Compute the values (V,) that order phrases; being common alone is worth nothing."""
    return logit(probabilities) + _SPECIFIC * scores if by_attributes else scores


@dataclass(frozen=True)
class EmbeddingWording:
    """Phrases by channel embeddings and a sparse choice, as in the paper.

    Attributes:
        channel_embeddings: (D, E) unit vectors; a dead channel's is 0.
        mean_embedding: (E,) of the probing set.
        text_embeddings: (V, E) centred unit vectors.
        kinds: V of PHRASE_KINDS, or "".
        settings: See RationaleSettings.
    """

    channel_embeddings: Float32Array
    mean_embedding: Float32Array
    text_embeddings: Float32Array
    kinds: Sequence[str]
    settings: RationaleSettings

    @property
    def min_support(self) -> float:
        """Least cosine of a channel that belongs to a phrase."""
        return self.settings.min_support

    def supports(self, indices: IntArray) -> FloatArray:
        """Return the cosine of each channel with K phrases: (D, K)."""
        return np.asarray(self.channel_embeddings @ self.text_embeddings[indices].T)

    def choose(
        self,
        evidence: Float64Array,
        logits: FloatArray,  # noqa: ARG002 - the protocol's
        class_index: int,  # noqa: ARG002 - the protocol's
        phrase_filter: PhraseFilter,
    ) -> Choice:
        """Choose phrases for the evidence (D,)."""
        embedding = evidence_embedding(
            evidence, self.channel_embeddings, self.mean_embedding, self.settings
        )
        count = phrase_filter.max_phrases
        if not phrase_filter.kinds:
            return choose_phrases(embedding, self.text_embeddings, count, self.settings)
        wanted = np.flatnonzero(np.isin(np.array(self.kinds), sorted(phrase_filter.kinds)))
        found = choose_phrases(embedding, self.text_embeddings[wanted], count, self.settings)
        return replace(found, indices=wanted[found.indices])

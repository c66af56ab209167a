"""Made-up concept bank: chooses phrases and computes their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_client.testing._network import CHANNELS

PHRASES = (
    "striped fur", "long whiskers", "green eyes", "wet nose", "orange scales", "round face",
    "brown foam", "shiny metal", "white smoke", "wooden body", "tall tower", "yellow petals",
)  # fmt: skip
# The kinds of the phrases that have one.
KINDS: Mapping[str, types_pb.PhraseKind] = {
    "striped fur": types_pb.PHRASE_KIND_TEXTURE,
    "long whiskers": types_pb.PHRASE_KIND_PART,
    "green eyes": types_pb.PHRASE_KIND_PART,
    "wet nose": types_pb.PHRASE_KIND_PART,
    "orange scales": types_pb.PHRASE_KIND_TEXTURE,
    "round face": types_pb.PHRASE_KIND_SHAPE,
    "brown foam": types_pb.PHRASE_KIND_COLOUR,
    "shiny metal": types_pb.PHRASE_KIND_MATERIAL,
    "white smoke": types_pb.PHRASE_KIND_SCENE,
    "wooden body": types_pb.PHRASE_KIND_MATERIAL,
    "tall tower": types_pb.PHRASE_KIND_THING,
    "yellow petals": types_pb.PHRASE_KIND_PART,
}
DEFAULT_PHRASES = 5
DEFAULT_MIN_PROBABILITY = 0.5


class FakeBank:
    """Phrases and the channels that support them.

    Args:
        vocabulary: The phrases.
        calibrated: Give phrases probabilities.

    Attributes:
        members: (D,), the phrase of each channel's group.
        supports: (V, D) bool, True if the channel supports the phrase.
    """

    def __init__(self, vocabulary: Sequence[str], *, calibrated: bool) -> None:
        self.vocabulary = tuple(vocabulary)
        self.calibrated = calibrated
        self.members = np.arange(CHANNELS) % len(self.vocabulary)
        # Each channel supports the phrase of its group, and the one before it as well.
        before = (self.members - 1) % len(self.vocabulary)
        of_phrase = np.arange(len(self.vocabulary))[:, None]
        self.supports = (self.members == of_phrase) | (before == of_phrase)

    @property
    def has_kinds(self) -> bool:
        """True if the vocabulary has kinds."""
        return any(phrase in KINDS for phrase in self.vocabulary)

    def calibration(self) -> types_pb.Calibration | None:
        """Return a calibration, or None of a bank without."""
        return _calibration() if self.calibrated else None

    def choose(
        self, request: pb.ExplainRequest, evidence: NDArray[np.float64], class_name: str
    ) -> list[int]:
        """Return the phrases that are allowed and probable enough, the most probable first."""
        count = request.max_phrases if request.HasField("max_phrases") else DEFAULT_PHRASES
        shares = self._shares(evidence)
        least = DEFAULT_MIN_PROBABILITY
        if request.HasField("min_probability"):
            least = request.min_probability
        chances = self._probabilities(evidence)
        allowed = [
            int(p)
            for p in np.argsort(-shares, kind="stable")
            if shares[p] > 0
            and (not self.calibrated or chances[p] >= least)
            and (not request.kinds or KINDS.get(self.vocabulary[p]) in request.kinds)
            and (request.repeat_class or not _repeats(self.vocabulary[p], class_name))
        ]
        return allowed[:count]

    def _shares(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = np.bincount(self.members, evidence, minlength=len(self.vocabulary))
        return np.asarray(shares, np.float64)

    def _probabilities(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (V,), growing with the shares: .44 without evidence, .5 at a fortieth of all."""
        parts = self._shares(evidence) / np.abs(evidence).sum()
        return np.asarray(1 / (1 + np.exp(0.25 - 10 * parts)))

    def phrase(self, index: int, evidence: NDArray[np.float64]) -> types_pb.Phrase:
        """Return a phrase with its numbers."""
        members = self.members == index
        share = evidence[members].sum()
        phrase = types_pb.Phrase(
            text=self.vocabulary[index],
            vocabulary_index=index,
            score=share / np.abs(evidence).sum(),
            similarity=share / np.linalg.norm(evidence) / np.sqrt(members.sum()),
            evidence=share,
            effect=evidence[self.supports[index]].sum(),
            kind=KINDS.get(self.vocabulary[index], types_pb.PHRASE_KIND_UNSPECIFIED),
        )
        if self.calibrated:
            phrase.probability = self._probabilities(evidence)[index]
        return phrase


def _repeats(phrase: str, class_name: str) -> bool:
    """Return True if one has only words of the other, as "cat" has of "tabby cat"."""
    ours, theirs = set(phrase.casefold().split()), set(class_name.casefold().split())
    return ours <= theirs or theirs <= ours


def _calibration() -> types_pb.Calibration:
    """Build a calibration with an error of 2 hundredths."""
    bins = [
        types_pb.Calibration.Bin(
            lower=tenth / 10,
            upper=(tenth + 1) / 10,
            probability=tenth / 10 + 0.05,
            observed=tenth / 10 + 0.05 + (0.02 if tenth % 2 else -0.02),
            count=1000 - 90 * tenth,
        )
        for tenth in range(10)
    ]
    return types_pb.Calibration(
        source="labels",
        images=500,
        min_probability=DEFAULT_MIN_PROBABILITY,
        expected_calibration_error=0.02,
        bins=bins,
    )

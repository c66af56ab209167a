"""The books of a day on which two bundles are served: each answer is one bundle's as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fault_world import Ledger, Sample, World, tells


class Edition:
    """A bundle by what its answers show of it: two digests, logits, and its own words."""

    def __init__(self, tag: str, world: World) -> None:
        bundle = world.bundle()
        self.tag = tag
        self.digests = bundle.backbone.manifest.weights_digest, bundle.artefact.bank_digest
        self.samples: Sequence[Sample] = world.samples
        self._phrases = frozenset(bundle.phrases)

    def made(self, answer: Any, place: int) -> bool:
        """Whether an answer, which names the bundle, is its own on the image in this place."""
        (own,) = answer.explanations
        words = {phrase.text for phrase in own.phrases}
        return bool(words) and words <= self._phrases and tells(answer, self.samples[place])


class DayLedger(Ledger):
    """A ledger that knows several editions of the same images.

    Attributes:
        answers: How many right answers each edition gave, by its tag.
    """

    def __init__(self, editions: Sequence[Edition]) -> None:
        super().__init__(editions[0].samples)
        self.answers: Counter[str] = Counter()
        self._editions: Mapping[tuple[str, str], Edition] = {
            edition.digests: edition for edition in editions
        }

    def _tells(self, answer: Any, place: int) -> bool:
        made = answer.provenance
        edition = self._editions.get((made.backbone_digest, made.bank_digest))
        if edition is None or not edition.made(answer, place):
            return False
        self.answers[edition.tag] += 1
        return True

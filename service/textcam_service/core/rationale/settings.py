"""Settings of phrases: their choice by a bank, and the filter of one request."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

WordingKind = Literal["supports", "embeddings"]


@dataclass(frozen=True)
class PhraseFilter:
    """Phrases that one request admits.

    Attributes:
        max_phrases: Maximum number of phrases, >= 1.
        min_probability: Least probability of a phrase; None: the bank's threshold.
        kinds: Allowed kinds of phrases; empty: all.
        repeat_class: Admit phrases that only repeat the class's name; None: by the settings.
    """

    max_phrases: int
    min_probability: float | None = None
    kinds: frozenset[str] = frozenset()
    repeat_class: bool | None = None


@dataclass(frozen=True)
class RationaleSettings:
    """Settings of the choice of phrases and of the channels assigned to them.

    The first seven apply by supports (core.rationale.phrase_choice, core.concepts.supports), if the
    bank has them. The others apply by embeddings (core.rationale.phrases), as in the paper.

    Attributes:
        wording: Choose phrases by "supports" or by "embeddings". A bank without supports uses
            embeddings.
        min_probability: Least probability of a chosen phrase; 0 to 1.
        min_odds: Least factor by which the evidence itself must multiply a phrase's odds; >= 1.
        min_new: Value from which a phrase counts as new, in deviations; >= 0. It is compared with
            the part of the phrase's score that no chosen phrase explains, divided by the root of
            the score.
        min_more: Part of a phrase's score that the chosen ones must leave unexplained for it to be
            chosen too, in deviations; >= 0.
        join: Least support of a channel that joins a phrase; -1 to 1.
        repeat_class: Choose also phrases that only repeat the explained class's name.
        sparsity: lambda_1, the price of a phrase's coefficient; >= 0.
        decorrelation: lambda_2, the price of choosing phrases that resemble each other; >= 0.
        max_similarity: Cosine above which a phrase counts as a near-duplicate of a chosen one;
            0 to 1.
        candidates: Number of the most similar phrases to choose among, but at least the requested
            number of phrases; >= 1.
        root: Evidence enters the evidence embedding by its signed square root, which damps single
            channels. Shares of the logit never do.
        prior: Weight of the probing set's mean embedding added to the unit evidence embedding;
            >= 0.
        min_support: Cosine between channel and phrase below which the channel goes to the rest;
            -1 to 1.
    """

    wording: WordingKind = "supports"
    min_probability: float = 0.78
    min_odds: float = 1.3
    min_new: float = 0.38
    min_more: float = 0.45
    join: float = 0.1
    repeat_class: bool = False
    sparsity: float = 0.0
    decorrelation: float = 0.0
    max_similarity: float = 0.8
    candidates: int = 6
    root: bool = True
    prior: float = 0.4
    min_support: float = 0.05

    def __post_init__(self) -> None:
        """Check that values are in range.

        Raises:
            ValueError: A value is out of range, or is not a finite number.
        """
        if self.wording not in get_args(WordingKind):
            raise ValueError(f"wording is one of {', '.join(get_args(WordingKind))}")
        for name in ("sparsity", "decorrelation", "prior", "min_new", "min_more"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a finite number, at least 0")
        if not (0 <= self.max_similarity <= 1 and -1 <= self.min_support <= 1):
            raise ValueError("max_similarity is from 0 to 1, min_support from -1 to 1")
        if not (0 <= self.min_probability <= 1 and -1 <= self.join <= 1):
            raise ValueError("min_probability is from 0 to 1, join from -1 to 1")
        if not 1 <= self.min_odds < float("inf"):
            raise ValueError("min_odds is a finite number, at least 1")
        if not self.candidates >= 1:
            raise ValueError("candidates is at least 1")


@dataclass(frozen=True)
class WordSettings:
    """Settings of a server that replace a bank's own.

    Attributes:
        wording: See RationaleSettings; None: the bank's.
        min_probability: See RationaleSettings; None: the bank's.
    """

    wording: WordingKind | None = None
    min_probability: float | None = None

    def over(self, settings: RationaleSettings) -> RationaleSettings:
        """Replace the bank's own settings by these."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(settings, **given)

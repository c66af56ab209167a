"""Settings of phrases: how a bank chooses them, and which of them one request admits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

WordingKind = Literal["supports", "embeddings"]


@dataclass(frozen=True)
class PhraseFilter:
    """Phrases that one request admits.

    Attributes:
        max_phrases: At most so many, >= 1.
        min_probability: None is less probable; None: the bank's threshold.
        kinds: They are of these kinds alone; empty: of all.
        repeat_class: Admit phrases that only repeat the class's name; None: as the settings say.
    """

    max_phrases: int
    min_probability: float | None = None
    kinds: frozenset[str] = frozenset()
    repeat_class: bool | None = None


@dataclass(frozen=True)
class RationaleSettings:
    """How phrases are chosen and channels assigned to them.

    By supports (core.choice, core.supports), where the bank has them, with the first seven; by
    embeddings (core.phrases, core.groups), which is the paper's way, with the others.

    Attributes:
        wording: By what phrases are chosen: "supports" or "embeddings". A bank without supports
            goes by embeddings.
        min_probability: Below it a phrase is not said; 0 to 1.
        min_odds: By how much the evidence itself must multiply a phrase's odds; >= 1.
        min_new: From where on a phrase is something new: its score that nothing said explains, over
            the root of its score, in deviations; >= 0.
        min_more: How much of a score what is said must leave unexplained for the phrase to be said
            too, in deviations; >= 0.
        join: Support from where on a channel joins a phrase; -1 to 1.
        repeat_class: Whether phrases are said that only repeat the explained class's name.
        sparsity: lambda_1, the price of a phrase's coefficient; >= 0.
        decorrelation: lambda_2, the price of choosing phrases that resemble each other; >= 0.
        max_similarity: Cosine above which a phrase counts as a near-duplicate of a chosen one;
            0 to 1.
        candidates: Phrases are chosen among so many of the most similar ones (or as many as
            are wanted, if more); >= 1.
        root: Whether evidence enters the evidence embedding by its signed square root, which
            damps single channels. Shares of the logit never do.
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
        """Refuse what is out of range.

        Raises:
            ValueError: It is, or is no finite number.
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
    """What a server changes of a bank's own settings.

    Attributes:
        wording: See RationaleSettings; None: the bank's.
        min_probability: Likewise.
    """

    wording: WordingKind | None = None
    min_probability: float | None = None

    def over(self, settings: RationaleSettings) -> RationaleSettings:
        """The bank's settings, with these in place of its own."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(settings, **given)

"""Are the words right?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from textcam_service.bundle import ModelBundle
from textcam_service.core.phrases import choose_phrases
from textcam_service.core.types import Float32Array
from textcam_service.evaluation.cases import Observation, Truth, explain_case
from textcam_service.offline.embed import Embedder

PHRASES = 5

Said = list[tuple[str, float]]
Explain = Callable[[Observation], Said]


@dataclass(frozen=True)
class WordFigures:
    """How right the said phrases are, means over images.

    Attributes:
        precision_1: Share of images whose first phrase is right.
        precision_3: Share of right ones among the first three phrases, or as many as are said.
        precision_5: The same of five.
        any_of_5: Share of images with a right phrase among five.
        recall: Share of the class's words that its right phrases mention; nan: not known.
        evidence_share: Of the said phrases' positive evidence, the right ones' share, 0 where none
            is positive; nan: the phrases have no evidence, as a control's that reads no channels.
        phrases: How many are said.
    """

    precision_1: float
    precision_3: float
    precision_5: float
    any_of_5: float
    recall: float
    evidence_share: float
    phrases: float


def judge_words(observations: Sequence[Observation], truth: Truth, explain: Explain) -> WordFigures:
    """Judge what is said of each image."""
    return mean_figures([word_figures(o, truth, explain(o)) for o in observations])


def word_figures(observation: Observation, truth: Truth, said: Said) -> WordFigures:
    """Judge what is said of one image, whatever its letter case; saying nothing is wrong."""
    index = observation.prediction.class_index
    right = {folded(phrase) for phrase in truth.right(observation.case, index)}
    said = said[:PHRASES]
    hits = [folded(phrase) in right for phrase, _ in said]
    words = truth.class_words.get(index, frozenset())
    mentioned = {
        w for (phrase, _), hit in zip(said, hits, strict=True) if hit for w in phrase.split()
    }
    positive = [max(evidence, 0.0) for _, evidence in said]
    on_right = sum(e for e, hit in zip(positive, hits, strict=True) if hit)
    return WordFigures(
        precision_1=_mean(hits[:1]),
        precision_3=_mean(hits[:3]),
        precision_5=_mean(hits),
        any_of_5=float(any(hits)),
        recall=len(words & mentioned) / len(words) if words else float("nan"),
        evidence_share=on_right / sum(positive) if sum(positive) else 0.0,
        phrases=len(said),
    )


def mean_figures(figures: Sequence[WordFigures]) -> WordFigures:
    """Means over images."""
    table = np.array([list(asdict(row).values()) for row in figures])
    return WordFigures(*table.mean(axis=0).tolist())


def folded(phrase: str) -> str:
    """What two spellings of a phrase have in common."""
    return phrase.strip().casefold()


def says(bundle: ModelBundle) -> Explain:
    """What the product says."""

    def explain(observation: Observation) -> Said:
        rationale = explain_case(bundle, observation, PHRASES)
        return [(phrase.text, phrase.evidence) for phrase in rationale.phrases]

    return explain


def with_directions(
    bundle: ModelBundle,
    channel_embeddings: Float32Array,
    mean_embedding: Float32Array | None = None,
) -> ModelBundle:
    """The same bundle with other channel embeddings (D, E)."""
    bank = replace(bundle.artefact.bank, channel_embeddings=channel_embeddings)
    if mean_embedding is not None:
        bank = replace(bank, mean_embedding=mean_embedding)
    return replace(bundle, artefact=replace(bundle.artefact, bank=bank))


def random_directions(bundle: ModelBundle) -> ModelBundle:
    """Control: every channel has a random direction."""
    shape = bundle.artefact.bank.channel_embeddings.shape
    drawn = np.random.default_rng(0).standard_normal(shape)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return with_directions(bundle, unit.astype(np.float32))


def shuffled_directions(bundle: ModelBundle) -> ModelBundle:
    """Control: every channel has another channel's direction."""
    embeddings = bundle.artefact.bank.channel_embeddings
    order = np.random.default_rng(0).permutation(len(embeddings))
    return with_directions(bundle, embeddings[order])


def says_of_image(bundle: ModelBundle, embedder: Embedder) -> Explain:
    """Control: the embedder's own opinion of the whole image, by the same choice of phrases.

    The image's embedding is freed of the probing set's mean as the channels' directions are,
    and gets the same prior. It has no evidence.

    Args:
        bundle: For its vocabulary and settings.
        embedder: Of the bank's space.
    """
    mean = bundle.artefact.bank.mean_embedding

    def explain(observation: Observation) -> Said:
        own = np.asarray(embedder.embed_images([observation.case.image])[0])
        own = own - (own @ mean) * mean
        own = own / np.linalg.norm(own) + bundle.settings.prior * mean
        own /= np.linalg.norm(own)
        choice = choose_phrases(own, bundle.text_embeddings, PHRASES, bundle.settings)
        texts = [bundle.phrases[index] for index in choice.indices]
        return [(text, float("nan")) for text in texts]

    return explain


def _mean(hits: Sequence[bool]) -> float:
    return float(np.mean(hits)) if hits else 0.0

"""Spurious cues: how often explanations name what betrays a class in a biased world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

import numpy as np
from PIL import Image
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from textcam_service.core.cam import channel_evidence
from textcam_service.core.concepts.supports import evidence_by_phrase
from textcam_service.core.rationale.phrases import evidence_embedding
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.types import Float64Array, FloatArray, IntArray
from textcam_service.errors import InvalidTruth
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import (
    EVALUATION_SEED,
    Observation,
    Truth,
    logits_of,
    observe,
    predict,
    scene_case,
    terms_of,
)
from textcam_service.scenes.classes import BIASED, CLASSES, Bias, SceneClass, class_scene
from textcam_service.scenes.render import render
from textcam_service.scenes.world import (
    ATTRIBUTES,
    FLOORS,
    Scene,
    object_phrases,
    random_attributes,
)

_FIRST = 3
Table: TypeAlias = Mapping[str, Mapping[str, float]]


def judge_cues(
    biased: ModelBundle,
    unbiased: ModelBundle,
    count: int,
    bias: Bias = BIASED,
    seed: int = EVALUATION_SEED,
) -> tuple[Table, Table]:
    """Explain scenes of the two betrayed classes, with their cue, by both twins.

    Args:
        biased: Bundle of the network that was trained in the biased world.
        unbiased: Bundle of its unbiased twin.
        count: Scenes per cue.
        bias: Bias of the world.
        seed: Seed of the scenes.

    Returns:
        By cue: "named" and "named_by_twin", how often one of the cue's phrases is among the first
        three, by each bank's own settings; "auroc", how well the cue's score separates the twins
        over images (the highest of its phrases' scores, see Choice.scores; by embeddings their
        highest similarity to the evidence embedding); "accuracy_without", of the biased twin when
        the cue is gone, and "accuracy_with"; "rank_correlation", of the evidence of the channels
        that support the cue with the logit that its removal costs.

        By move of a setting of the choice (see perturbed_settings): each cue's "named", and that
        by the twin; empty where the words go by embeddings.

    Raises:
        InvalidTruth: The twins' banks do not share embedder and vocabulary, or lack the cues.
    """
    if biased.artefact.vocabulary_digest != unbiased.artefact.vocabulary_digest:
        raise InvalidTruth(
            "the twins' banks have different vocabularies or embedders; build both alike"
        )
    moves = perturbed_settings(biased.settings) if biased.calibration is not None else {}
    found: dict[str, dict[str, float]] = {}
    moved: dict[str, dict[str, float]] = {move: {} for move in moves}
    for class_index, cue in bias.cue_phrases.items():
        scenes = [
            class_scene(
                np.random.default_rng([seed, 7, class_index, index]),
                class_index,
                bias,
                cue=True,
            )
            for index in range(count)
        ]
        truth = Truth([scene_case(str(i), s, class_index) for i, s in enumerate(scenes)])
        own, twin = (_Twin.of(each, truth, class_index, bias) for each in (biased, unbiased))
        bare = logits_of(
            biased,
            [Image.fromarray(render(without_cue(s, class_index, bias)).image) for s in scenes],
        )
        cost = own.logits[:, class_index] - bare[:, class_index]
        found[cue] = {
            "named": own.named(biased.settings),
            "named_by_twin": twin.named(unbiased.settings),
            "auroc": float(
                roc_auc_score(np.repeat([1, 0], count), np.concatenate([own.scores, twin.scores]))
            ),
            "accuracy_with": float((own.logits.argmax(1) == class_index).mean()),
            "accuracy_without": float((bare.argmax(1) == class_index).mean()),
            "logit_cost": float(cost.mean()),
            "rank_correlation": float(spearmanr(own.channel_evidence, cost).statistic),
        }
        for move, change in moves.items():
            moved[move][cue] = own.named(change(biased.settings))
            moved[move][f"{cue}, twin"] = twin.named(change(unbiased.settings))
    return found, moved


def perturbed_settings(
    settings: RationaleSettings,
) -> dict[str, Callable[[RationaleSettings], RationaleSettings]]:
    """Return functions that perturb each setting of the choice by a tenth, down and up."""

    def perturb(name: str, factor: float) -> Callable[[RationaleSettings], RationaleSettings]:
        least = 1.0 if name == "min_odds" else 0.0
        value = max(getattr(settings, name) * factor, least)
        return lambda own: replace(own, **{name: value})

    return {
        f"{name} x {factor:g}": perturb(name, factor)
        for name in ("min_new", "min_more", "min_odds")
        for factor in (0.9, 1.1)
    }


def without_cue(scene: Scene, class_index: int, bias: Bias) -> Scene:
    """Replace the cue of a scene by another floor, or another object of no class."""
    if class_index == bias.floor_class:
        return scene.with_floor(next(floor for floor in FLOORS if floor != bias.floor))
    cue = SceneClass(bias.cue)
    rng = np.random.default_rng(scene.seed)
    for index in range(len(scene.objects)):
        while cue.has(scene.objects[index].attributes):
            other = random_attributes(rng)
            if not any(cls.has(other) for cls in CLASSES):
                scene = scene.replace_object(index, **other)
    return scene


def cue_phrases(class_index: int, bias: Bias) -> frozenset[str]:
    """List the phrases that name the cue: its floor; or a cue object's colour and what is true too.

    "yellow", "yellow sphere", "small yellow metal" name a small yellow sphere; "large yellow
    sphere", "sphere" and "yellow cone" do not.
    """
    if class_index == bias.floor_class:
        return frozenset({f"{bias.floor} floor"})
    kinds = {
        kind: [bias.cue[kind]] if kind in bias.cue else words for kind, words in ATTRIBUTES.items()
    }
    objects = [dict(zip(kinds, words, strict=True)) for words in product(*kinds.values())]
    return frozenset(
        phrase
        for attributes in objects
        for phrase in object_phrases(attributes)
        if bias.cue["colour"] in phrase.split()
    )


@dataclass(frozen=True)
class _Twin:
    """Results of a network on n scenes with a cue.

    Attributes:
        bundle: The network's.
        class_index: Class that the cue betrays.
        names: Phrases that name the cue.
        logits: (n, C).
        evidence: (n, D) for the betrayed class.
        scores: (n,) of the cue.
        channel_evidence: (n,) of the tenth of the channels that support the cue most.
    """

    bundle: ModelBundle
    class_index: int
    names: frozenset[str]
    logits: FloatArray
    evidence: FloatArray
    scores: FloatArray
    channel_evidence: FloatArray

    @staticmethod
    def of(bundle: ModelBundle, truth: Truth, class_index: int, bias: Bias) -> _Twin:
        names = cue_phrases(class_index, bias)
        columns = np.flatnonzero(np.isin(bundle.phrases, sorted(names)))
        if not len(columns):
            raise InvalidTruth(
                f"the vocabulary has no phrase for the cue '{bias.cue_phrases[class_index]}', so "
                "it can never be named; `textcam bank vocabulary` gives the bank another"
            )
        observations = observe(bundle, truth.cases)
        evidence = np.array([_evidence(bundle, each, class_index) for each in observations])
        support = bundle.wording.supports(columns).max(axis=1)
        return _Twin(
            bundle,
            class_index,
            names,
            np.array([observation.logits for observation in observations]),
            evidence,
            _scores(bundle, evidence, columns).max(axis=1),
            evidence[:, support >= np.quantile(support, 0.9)].sum(axis=1),
        )

    def named(self, settings: RationaleSettings) -> float:
        """Measure how often the cue is among the first phrases under some settings."""
        wording, phrases = replace(self.bundle, settings=settings).wording, self.bundle.phrases
        phrase_filter, hits = PhraseFilter(_FIRST), []
        for evidence, logits in zip(self.evidence, self.logits, strict=True):
            choice = wording.choose(evidence, logits, self.class_index, phrase_filter)
            hits.append(any(phrases[place] in self.names for place in choice.indices.tolist()))
        return float(np.mean(hits))


def _evidence(bundle: ModelBundle, observation: Observation, class_index: int) -> Float64Array:
    target = predict(bundle, observation.logits, class_index)
    terms = terms_of(bundle, observation, target)
    return channel_evidence(terms.weights, observation.activation_maps)


def _scores(bundle: ModelBundle, evidence: FloatArray, columns: IntArray) -> FloatArray:
    """Score how far evidence (n, D) speaks for phrases: (n, K)."""
    bank, calibration = bundle.artefact.bank, bundle.calibration
    if calibration is not None and bank.supports is not None:
        scores = calibration.scores(evidence_by_phrase(evidence, bank.supports.supports))
        return scores[:, columns]
    own = bank.channel_embeddings, bank.mean_embedding, bundle.settings
    embeddings = np.array([evidence_embedding(each, *own) for each in evidence])
    return np.asarray(embeddings @ bundle.text_embeddings[columns].T)

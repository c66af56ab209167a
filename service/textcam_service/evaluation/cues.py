"""Spurious cues: does the explanation name what betrays a class in a biased world?"""

from __future__ import annotations

from itertools import product

import numpy as np
from PIL import Image
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from textcam_service.bundle import ModelBundle
from textcam_service.core.cam import channel_evidence
from textcam_service.core.phrases import evidence_embedding
from textcam_service.core.types import FloatArray, Wish
from textcam_service.errors import InvalidTruth
from textcam_service.evaluation.cases import (
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


def judge_cues(
    biased: ModelBundle,
    unbiased: ModelBundle,
    count: int,
    bias: Bias = BIASED,
    seed: int = EVALUATION_SEED,
) -> dict[str, dict[str, float]]:
    """Scenes of the two betrayed classes, with their cue, explained by both twins.

    By cue: "named" and "named_by_twin", how often one of the cue's phrases is among the first
    three; "auroc", how well the cue's score tells the twins apart over images (the score is the
    highest similarity of a cue phrase to the evidence embedding); "accuracy_without", of the
    biased twin when the cue is gone, and "accuracy_with"; "rank_correlation", of the evidence of
    the channels that support the cue with the logit that its removal costs.

    Args:
        biased: Trained in the biased world.
        unbiased: Its twin.
        count: Scenes per cue.
        bias: Of the world.
        seed: Of the scenes.

    Raises:
        InvalidTruth: The twins' banks do not share embedder and vocabulary, or lack the cues.
    """
    if biased.artefact.vocabulary_digest != unbiased.artefact.vocabulary_digest:
        raise InvalidTruth(
            "the twins' banks have different vocabularies or embedders; build both alike"
        )
    found = {}
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
        said = [_explained(twin, truth, class_index, bias) for twin in (biased, unbiased)]
        bare = logits_of(
            biased,
            [Image.fromarray(render(without_cue(s, class_index, bias)).image) for s in scenes],
        )
        logits = np.array([observation.logits for observation in said[0][0]])
        cost = logits[:, class_index] - bare[:, class_index]
        scores = np.concatenate([said[0][2], said[1][2]])
        labels = np.repeat([1, 0], count)
        found[cue] = {
            "named": float(np.mean(said[0][1])),
            "named_by_twin": float(np.mean(said[1][1])),
            "auroc": float(roc_auc_score(labels, scores)),
            "accuracy_with": float((logits.argmax(1) == class_index).mean()),
            "accuracy_without": float((bare.argmax(1) == class_index).mean()),
            "logit_cost": float(cost.mean()),
            "rank_correlation": float(spearmanr(said[0][3], cost).statistic),
        }
    return found


def without_cue(scene: Scene, class_index: int, bias: Bias) -> Scene:
    """The same scene with another floor, or another object of no class, in the cue's place."""
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
    """What names the cue: its floor; or, of the cue object, its colour and what is true besides.

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


def _explained(
    bundle: ModelBundle, truth: Truth, class_index: int, bias: Bias
) -> tuple[list[Observation], list[bool], FloatArray, FloatArray]:
    """Observations, whether the cue is named, its similarity, and its channels' evidence."""
    observations = observe(bundle, truth.cases)
    names = cue_phrases(class_index, bias)
    columns = [index for index, phrase in enumerate(bundle.phrases) if phrase in names]
    if not columns:
        raise InvalidTruth(
            f"the vocabulary has no phrase for the cue '{bias.cue_phrases[class_index]}', so it "
            "can never be named; `textcam bank vocabulary` gives the bank another"
        )
    texts = bundle.text_embeddings[columns]
    bank = bundle.artefact.bank
    support = (bank.channel_embeddings @ texts.T).max(axis=1)
    channels = support >= np.quantile(support, 0.9)
    named, similarity, evidence = [], [], []
    for observation in observations:
        target = predict(bundle, observation.logits, class_index)
        terms = terms_of(bundle, observation, target)
        rationale = bundle.rationale(observation.seen, terms, target, None, Wish(_FIRST))
        named.append(any(phrase.text in names for phrase in rationale.phrases))
        own = channel_evidence(terms.weights, observation.activation_maps)
        embedding = evidence_embedding(
            own, bank.channel_embeddings, bank.mean_embedding, bundle.settings
        )
        similarity.append(float((texts @ embedding).max()))
        evidence.append(float(own[channels].sum()))
    return observations, named, np.array(similarity), np.array(evidence)

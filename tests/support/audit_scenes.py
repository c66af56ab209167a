"""Rendered scenes as an audit sees them: features of both twins, and an EvidenceTable of a head."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from textcam_client.audit.records.evidence import Contrasts, EvidenceTable
from textcam_service.core.concepts.supports import strongest_support
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.imaging.decoding import prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import scene_case
from textcam_service.scenes.classes import BIASED, CLASSES, SceneClass, class_scene

TRUTH = Path("build/scenes")
NAMES = tuple(each.name for each in CLASSES)
CUE_CLASSES = (BIASED.floor_class, BIASED.object_class)
PHRASES = 8  # of an answer, as an audit asks for
_GRID = 12


def bundles(folder=TRUTH):
    """The twins, by name."""
    return {
        "unbiased": ModelBundle.load("unbiased", folder / "backbone", folder / "bank"),
        "biased": ModelBundle.load("biased", folder / "biased-backbone", folder / "biased-bank"),
    }


@dataclass(frozen=True)
class Network:
    """What an audit needs of a twin: its head, and what its bank says of evidence."""

    weights: np.ndarray  # (C, D)
    bias: np.ndarray  # (C,)
    bundle: ModelBundle

    @staticmethod
    def of(bundle):
        backbone = bundle.backbone
        return Network(np.asarray(backbone.head_weights), backbone.head_bias, bundle)

    @property
    def names(self):
        return tuple(self.bundle.phrases)

    def said(self, evidence, logits, label):
        """The phrases said of one image's evidence (D,), and the phrase of each channel, or -1."""
        wording = self.bundle.wording
        choice = wording.choose(evidence, logits, label, PhraseFilter(PHRASES))
        places = strongest_support(wording.supports(choice.indices), wording.min_support)
        return choice.indices, places

    def concepts(self, features, weights, labels):
        """Evidence (N, V) of what is said for weights (N, D) of classes (N,), and the rest (N,)."""
        found = np.zeros((len(features), len(self.names)), np.float32)
        rest = np.zeros(len(features), np.float32)
        logits = features @ self.weights.T + self.bias
        for row, own in enumerate(features * weights):
            indices, places = self.said(own, logits[row], int(labels[row]))
            rest[row] = own[places < 0].sum()
            found[row, indices] = [own[places == place].sum() for place in range(len(indices))]
        return found, rest


def draw(twins, seed, counts, strength=0.5, inside=False):
    """Render scenes and run the twins.

    `counts` says how many of each class; a betrayed class has its cue in a share `strength`. With
    `inside`: the share of each concept's map inside the key object, by twin.
    """
    world = replace(BIASED, strength=strength)
    networks = {name: Network.of(bundle) for name, bundle in twins.items()}
    found = {"label": [], "floor": [], "cue": []}
    found |= {f"{name} {part}": [] for name in twins for part in ("features", "inside")}
    cue = SceneClass(BIASED.cue)
    for label, count in counts.items():
        for number in range(count):
            scene = class_scene(np.random.default_rng([seed, label, number]), label, world)
            case = scene_case("", scene, label)
            found["label"].append(label)
            found["floor"].append(scene.floor)
            found["cue"].append(any(cue.has(each.attributes) for each in scene.objects))
            for name, bundle in twins.items():
                backbone = bundle.backbone
                pixels, _ = prepare(case.image, backbone.manifest.preprocessing)
                maps = np.asarray(backbone.run(pixels[None])[1][0], np.float32)
                found[f"{name} features"].append(maps.mean((1, 2)))
                if inside:
                    found[f"{name} inside"].append(
                        _inside(networks[name], maps, label, case.key_mask)
                    )
    return {key: np.array(value) for key, value in found.items() if value}


def _inside(network, maps, label, mask):
    """Share (V,) of the positive part of each said phrase's map inside a mask; NaN: none."""
    features = maps.mean((1, 2))
    logits = features @ network.weights.T + network.bias
    indices, places = network.said(features * network.weights[label], logits, label)
    side = len(mask) // _GRID
    cells = mask.reshape(_GRID, side, _GRID, side).mean((1, 3))
    found = np.full(len(network.names), np.nan, np.float16)
    for place, index in enumerate(indices.tolist()):
        own = places == place
        positive = np.maximum(np.tensordot(network.weights[label][own], maps[own], 1), 0)
        if positive.any():
            found[index] = (positive * cells).sum() / positive.sum()
    return found


def table(network, scenes, twin, chosen=None, slices=(), masks=False):
    """Lay the rows `chosen` of drawn scenes down as an audit's evidence."""
    chosen = np.arange(len(scenes["label"])) if chosen is None else np.asarray(chosen)
    features, label = scenes[f"{twin} features"][chosen], scenes["label"][chosen]
    logits = features @ network.weights.T + network.bias
    predicted = logits.argmax(1)
    evidence, rest = network.concepts(features, network.weights[label], label)
    wrong = np.flatnonzero(predicted != label)
    contrast = network.weights[predicted[wrong]] - network.weights[label[wrong]]
    against, left = network.concepts(features[wrong], contrast, predicted[wrong])
    columns = {
        "floor": scenes["floor"][chosen].astype(object),
        "yellow sphere": np.where(scenes["cue"][chosen], "yes", "no").astype(object),
    }
    n, ids = len(chosen), np.arange(len(network.names))
    return EvidenceTable(
        index=np.arange(n),
        row_key=chosen.astype(np.int64),
        content_group=chosen.astype(np.int64),
        label_index=label.astype(np.int32),
        predicted_index=predicted.astype(np.int32),
        target_index=label.astype(np.int32),
        logit=logits[np.arange(n), label].astype(np.float32),
        bias=network.bias[label].astype(np.float32),
        gap=np.zeros(n, np.float32),
        rest=rest.astype(np.float32),
        in_logit_units=True,
        concepts=tuple(ids.tolist()),
        names=network.names,
        kinds=("",) * len(ids),
        evidence=csr_array(evidence.astype(np.float32)),
        inside=_stored(scenes[f"{twin} inside"][chosen]) if masks else None,
        degraded=np.zeros(n, bool),
        slices={name: columns[name] for name in slices},
        contrasts=Contrasts(
            wrong,
            predicted[wrong].astype(np.int32),
            label[wrong].astype(np.int32),
            (logits[wrong, predicted[wrong]] - logits[wrong, label[wrong]]).astype(np.float32),
            (network.bias[predicted[wrong]] - network.bias[label[wrong]]).astype(np.float32),
            np.zeros(len(wrong), np.float32),
            left.astype(np.float32),
            csr_array(against.astype(np.float32)),
        ),
        class_names=NAMES,
        data="scenes",
        model=twin,
        row_count=n,
    )


def _stored(inside):
    rows, columns = np.nonzero(np.isfinite(inside))
    values = inside[rows, columns].astype(np.float32)
    return csr_array((values, (rows, columns)), shape=inside.shape)

"""Rendered scenes as an audit sees them: features of both twins, and an EvidenceTable of a head."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from textcam_client.audit.records.evidence import Contrasts, EvidenceTable
from textcam_service.imaging.decoding import prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import scene_case
from textcam_service.scenes.classes import BIASED, CLASSES, SceneClass, class_scene

TRUTH = Path("build/scenes")
NAMES = tuple(each.name for each in CLASSES)
CUE_CLASSES = (BIASED.floor_class, BIASED.object_class)
_GRID = 12


def bundles(folder=TRUTH):
    """The twins, by name."""
    return {
        "unbiased": ModelBundle.load("unbiased", folder / "backbone", folder / "bank"),
        "biased": ModelBundle.load("biased", folder / "biased-backbone", folder / "biased-bank"),
    }


@dataclass(frozen=True)
class Network:
    """What an audit needs of a twin: its head, and the concept of each channel."""

    weights: np.ndarray  # (C, D)
    bias: np.ndarray  # (C,)
    owner: np.ndarray  # (D,): place in names, -1: none
    names: tuple[str, ...]

    @staticmethod
    def of(bundle):
        supports = np.asarray(bundle.wording.supports(np.arange(len(bundle.phrases))))
        best = np.where(supports.max(1) > 0, supports.argmax(1), -1)
        kept = np.unique(best[best >= 0])
        owner = np.where(best >= 0, np.searchsorted(kept, best), -1)
        backbone = bundle.backbone
        names = tuple(bundle.phrases[k] for k in kept)
        return Network(np.asarray(backbone.head_weights), backbone.head_bias, owner, names)

    def concepts(self, evidence):
        """Sum evidence (N, D) of channels to (N, K), and what is left (N,)."""
        groups = np.zeros((len(self.owner), len(self.names)), evidence.dtype)
        owned = self.owner >= 0
        groups[np.flatnonzero(owned), self.owner[owned]] = 1
        return evidence @ groups, evidence[:, ~owned].sum(1)


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
    """Share (K,) of the positive part of each concept's map inside a mask; NaN: none."""
    weighted = (network.weights[label][:, None] * maps.reshape(len(maps), -1)).T
    positive = np.maximum(network.concepts(weighted)[0], 0).T
    side = len(mask) // _GRID
    cells = mask.reshape(_GRID, side, _GRID, side).mean((1, 3)).ravel()
    total = positive.sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, positive @ cells / total, np.nan).astype(np.float16)


def table(network, scenes, twin, chosen=None, slices=(), masks=False, said=6):
    """Lay the rows `chosen` of drawn scenes down as an audit's evidence.

    With `masks`: the share inside of the `said` concepts with most evidence, as an audit has it.
    """
    chosen = np.arange(len(scenes["label"])) if chosen is None else np.asarray(chosen)
    features, label = scenes[f"{twin} features"][chosen], scenes["label"][chosen]
    logits = features @ network.weights.T + network.bias
    predicted = logits.argmax(1)
    evidence, rest = network.concepts(features * network.weights[label])
    wrong = np.flatnonzero(predicted != label)
    contrast = network.weights[predicted[wrong]] - network.weights[label[wrong]]
    against, left = network.concepts(features[wrong] * contrast)
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
        inside=_said(scenes[f"{twin} inside"][chosen], evidence, said) if masks else None,
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


def _said(inside, evidence, count):
    rows = np.repeat(np.arange(len(evidence)), count)
    columns = np.argsort(-evidence, axis=1)[:, :count].ravel()
    values = inside[rows, columns].astype(np.float32)
    kept = np.isfinite(values)
    return csr_array((values[kept], (rows[kept], columns[kept])), shape=evidence.shape)

"""Birds for bench_birds.py: photographs, attributes, heads on EfficientNet-Lite0's trunk.

Letters in shapes: N photographs, D channels, C species, V phrases.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from textcam_service.imaging.decoding import ImageLimits, decode, prepare
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.offline.networks.network import Network
from textcam_service.runtime.backbone import Backbone
from torch import nn

PENALTY = 0.003  # C of the logistic regression; .0003 to .03 gave .80 to .83 held out
TRUE, FALSE = 0.5, 0.1  # shares of annotators; between them a phrase is left out of precision
RARE = 0.3  # a phrase that is true of a smaller share of the species
_BATCH = 16
# What CUB's attribute groups name; groups that are not here name parts.
_KINDS = {"primary_color": "colour", "size": "shape", "shape": "shape"}


@dataclass(frozen=True)
class Birds:
    """Photographs and what is true of their species.

    Attributes:
        paths: N photographs.
        species: (N,) index of each.
        names: C species.
        phrases: V attributes in plain words.
        groups: V, CUB's group of attributes: one of each is said by a lookup.
        kinds: V of PHRASE_KINDS.
        percent: (C, V) share of annotations in which the attribute was seen, 0..1.
    """

    paths: list[Path]
    species: np.ndarray
    names: tuple[str, ...]
    phrases: tuple[str, ...]
    groups: np.ndarray
    kinds: tuple[str, ...]
    percent: np.ndarray

    @property
    def common(self):
        """(V,) share of the species of which a phrase is true."""
        return (self.percent >= TRUE).mean(axis=0)

    @property
    def rare(self):
        """(V,) whether it is true of few species."""
        return self.common < RARE


def read_birds(folder):
    """Photographs, labels and attributes of ../shared/cub-200-2011."""
    with (folder / "class_attributes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        photographs = list(csv.DictReader(file))
    names = {int(row["class_id"]): row["name"] for row in photographs}
    place = {species: index for index, species in enumerate(sorted(names))}
    groups = {row["phrase"]: row["attribute"].split("::")[0].removeprefix("has_") for row in rows}
    phrases = tuple(groups)
    assert len({row["attribute"] for row in rows}) == len(phrases), "two attributes, one phrase"
    column = {phrase: index for index, phrase in enumerate(phrases)}
    percent = np.zeros((len(place), len(phrases)))
    for row in rows:
        percent[place[int(row["class_id"])], column[row["phrase"]]] = float(row["percent"]) / 100
    return Birds(
        [folder / row["file"] for row in photographs],
        np.array([place[int(row["class_id"])] for row in photographs]),
        tuple(names[species] for species in place),
        phrases,
        np.array([groups[phrase] for phrase in phrases]),
        tuple(_KINDS.get(groups[phrase], "part") for phrase in phrases),
        percent,
    )


def table_of(birds, species):
    """The attributes of some species, as a user's table holds them: {phrase: {class: share}}."""
    return {
        phrase: {new: float(birds.percent[old, column]) for new, old in enumerate(species)}
        for column, phrase in enumerate(birds.phrases)
        if birds.percent[species, column].any()
    }


def split(species, seed=0):
    """(N,) bool: two thirds of each species train."""
    drawn, held = np.random.default_rng(seed), np.zeros(len(species), bool)
    for index in np.unique(species):
        own = drawn.permutation(np.flatnonzero(species == index))
        held[own[: len(own) // 3]] = True
    return ~held


def activation_scores(backbone_folder, paths, kept):
    """(N, D) means of the trunk's maps; kept in a file, as they take a minute."""
    backbone = Backbone(backbone_folder, threads=1)
    identity = [backbone.manifest.weights_digest, *(path.name for path in paths)]
    if kept.is_file():
        with np.load(kept) as stored:
            if stored["identity"].tolist() == identity:
                return stored["scores"]
    found = []
    for start in range(0, len(paths), _BATCH):
        images = [
            prepare(
                decode(path.read_bytes(), ImageLimits()).pixels, backbone.manifest.preprocessing
            )[0]
            for path in paths[start : start + _BATCH]
        ]
        found.append(backbone.run(np.stack(images))[1].mean(axis=(2, 3)))
        print(f"\r{start + len(images)} of {len(paths)} photographs", end="", flush=True)
    print()
    scores = np.concatenate(found)
    np.savez(kept, scores=scores, identity=np.array(identity))
    return scores


def fit_head(scores, species):
    """Multinomial logistic regression on standardised scores: (C, D) and (C,) of raw ones."""
    mean, deviation = scores.mean(axis=0), scores.std(axis=0) + 1e-6
    regression = LogisticRegression(C=PENALTY, max_iter=300)
    regression.fit((scores - mean).astype(np.float64) / deviation, species)
    weights = regression.coef_ / deviation
    bias = regression.intercept_ - weights @ mean
    return weights.astype(np.float32), bias.astype(np.float32)


def write_backbone(weights, bias, names, output):
    """Serve a head on Lite0's trunk: the network with its last layer replaced, exported as ours."""
    network = load_network("efficientnet_lite0")
    head = nn.Linear(weights.shape[1], len(weights))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weights))
        head.bias.copy_(torch.from_numpy(bias))
    network.module._fc = head.requires_grad_(False)
    own = Network("birds on efficientnet_lite0", network.module, network.preprocessing, names)
    return export_network(own, output)

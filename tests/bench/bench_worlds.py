"""Does a rationale name the cue in biased worlds that nothing was tuned on?

    python tests/bench/bench_worlds.py [--count 98]    (after bench_truth.py)

Five worlds beside the package's own, each with a floor and an object that betray a class. In each a
small network is trained from random weights for a few minutes (4,000 or 5,000 scenes, 5 epochs: it
is weaker than the package's), and gets supports as bench_truth.py's bank, of the same probing
scenes. Its twin is the package's unbiased classifier. A cue that the network hardly uses, so that
its accuracy is the same without it, need not be named. Networks in build/worlds are not trained
again.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from textcam_service.imaging.decoding import prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.build import probing_order
from textcam_service.offline.banks.phrase_sources import PhraseSources
from textcam_service.offline.banks.phrase_supports import bank_supports
from textcam_service.offline.banks.probing import read_probing
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.evaluation.report import as_text
from textcam_service.offline.evaluation.spurious_cues import judge_cues
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.offline.networks.scenes import SceneNet
from textcam_service.offline.scene_training import _epochs
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.classes import CLASSES, Bias, class_scene
from textcam_service.scenes.render import render
from torch import nn

WORK = Path("build/worlds")
TRUTH = Path("build/scenes")  # of bench_truth.py
EPOCHS = 5
TRAINING_SEED = 900


def words(size, colour, shape):
    return {"size": size, "colour": colour, "shape": shape}


STRENGTH, ELSEWHERE = 0.97, 0.03
# By number, which seeds it: how many scenes train it, and its bias.
WORLDS = {
    3: (5000, Bias(9, "striped", 6, words("small", "cyan", "sphere"), STRENGTH, ELSEWHERE)),
    4: (5000, Bias(8, "checkered", 0, words("small", "yellow", "cylinder"), STRENGTH, ELSEWHERE)),
    5: (4000, Bias(3, "plain", 2, words("large", "gray", "sphere"), STRENGTH, ELSEWHERE)),
    6: (4000, Bias(6, "speckled", 7, words("small", "red", "cone"), STRENGTH, ELSEWHERE)),
    7: (4000, Bias(5, "striped", 9, words("large", "blue", "cylinder"), STRENGTH, ELSEWHERE)),
}


def trained(world, count, bias):
    """The path of a network's weights, trained unless they are there."""
    path = WORK / f"{world}.safetensors"
    if path.is_file():
        return path
    begun = time.monotonic()
    torch.manual_seed(world)
    scenes = (
        class_scene(
            np.random.default_rng([TRAINING_SEED + world, index]), index % len(CLASSES), bias
        )
        for index in range(count)
    )
    images = np.stack([render(scene).image for scene in scenes])
    labels = torch.arange(count) % len(CLASSES)
    network = SceneNet().to(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    for batch, chosen, advance in _epochs(network, images, EPOCHS, 64, 3e-3):
        advance(criterion(network(batch), labels[chosen]))
    network = network.to(memory_format=torch.contiguous_format).eval()
    save_file(network.state_dict(), path)
    print(f"world {world} trained in {time.monotonic() - begun:.0f} s", flush=True)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=98)
    count = parser.parse_args().count
    for folder in (WORK, Path("build/bench")):
        folder.mkdir(parents=True, exist_ok=True)
    embedder = load_embedder("scenes")
    images = sorted((TRUTH / "probing").glob("*.png"))
    unbiased = ModelBundle.load("classifier", TRUTH / "backbone", TRUTH / "bank")
    probing = read_probing(TRUTH / "bank")
    report = {"cues": {}, "moved": {}}
    for world, (scenes, bias) in WORLDS.items():
        weights = trained(world, scenes, bias)
        biased = bundle_of(world, weights, unbiased, probing, embedder, images)
        cues, moved = judge_cues(biased, unbiased, count, bias)
        for cue, figures in cues.items():
            row = f"{world}: {cue}"
            report["cues"][row] = figures
            report["moved"][row] = {
                "named, least": min(moves[cue] for moves in moved.values()),
                "named, most": max(moves[cue] for moves in moved.values()),
                "twin, most": max(moves[f"{cue}, twin"] for moves in moved.values()),
            }
        text = as_text(report)
        print(text, flush=True)
        Path("build/bench/worlds.txt").write_text(text + "\n")


def bundle_of(world, weights, unbiased, probing, embedder, images):
    """A world's network with supports of the same probing scenes, embedded once."""
    folder = WORK / f"{world}-backbone"
    export_network(load_network("scenes:classifier", str(weights)), folder)
    backbone = Backbone(folder)
    size, parts = backbone.manifest.preprocessing, []
    for start in range(0, len(images), 32):
        pictures = [Image.open(path) for path in images[start : start + 32]]
        logits, maps = backbone.run(np.stack([prepare(one, size)[0] for one in pictures]))
        parts.append((logits, maps.mean((2, 3))))
    order = probing_order(np.arange(len(images)), None)  # as the builder shuffles them
    logits, scores = (np.concatenate(own)[order] for own in zip(*parts, strict=True))
    evidence = backbone.head_weights[logits.argmax(1)] * scores
    own = replace(probing, logits=logits, scores=scores, evidence=evidence)
    sources = PhraseSources(own, backbone, embedder)
    vocabulary = replace(unbiased.artefact.vocabulary, kinds=())
    supports = bank_supports(sources, vocabulary, unbiased.settings)
    bank = replace(unbiased.artefact.bank, supports=supports)
    artefact = replace(unbiased.artefact, bank=bank)
    return replace(unbiased, name=str(world), backbone=backbone, artefact=artefact)


if __name__ == "__main__":
    main()

"""Does a rationale name the cue in biased worlds that nothing was tuned on?

    python tests/bench/bench_worlds.py [--count 98] [--train]

Five worlds beside the package's own, each with a floor and an object that betray a class. In each a
small network is trained from random weights for a few minutes (4,000 or 5,000 scenes, 5 epochs: it
is weaker than the package's), and gets a bank as in bench_truth.py, of the same probing scenes. Its
twin is the package's unbiased classifier. A cue that the network hardly uses (accuracy is the same
without it) need not be named. --train trains the networks and ends; those in build/worlds are not
trained again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from bench_truth import PROBING, RATIONALE, SETTINGS
from safetensors.torch import save_file
from textcam_service.backbone import Backbone
from textcam_service.bundle import ModelBundle
from textcam_service.evaluation.cues import judge_cues
from textcam_service.evaluation.report import as_text
from textcam_service.offline.build import build_bank
from textcam_service.offline.embed import load_embedder
from textcam_service.offline.export import export_network
from textcam_service.offline.networks import load_network
from textcam_service.offline.scene_models import SceneNet
from textcam_service.offline.scene_training import _epochs
from textcam_service.scenes.classes import CLASSES, Bias, class_scene
from textcam_service.scenes.probing import render_probing_set
from textcam_service.scenes.render import render
from textcam_service.scenes.world import vocabulary
from torch import nn

WORK = Path("build/worlds")
EPOCHS = 5
TRAINING_SEED = 900


def cue(size, colour, shape):
    return {"size": size, "colour": colour, "shape": shape}


STRENGTH, ELSEWHERE = 0.97, 0.03
# By number, which seeds it: how many scenes train it, and its bias.
WORLDS = {
    3: (5000, Bias(9, "striped", 6, cue("small", "cyan", "sphere"), STRENGTH, ELSEWHERE)),
    4: (5000, Bias(8, "checkered", 0, cue("small", "yellow", "cylinder"), STRENGTH, ELSEWHERE)),
    5: (4000, Bias(3, "plain", 2, cue("large", "gray", "sphere"), STRENGTH, ELSEWHERE)),
    6: (4000, Bias(6, "speckled", 7, cue("small", "red", "cone"), STRENGTH, ELSEWHERE)),
    7: (4000, Bias(5, "striped", 9, cue("large", "blue", "cylinder"), STRENGTH, ELSEWHERE)),
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
    parser.add_argument("--train", action="store_true")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    weights = {world: trained(world, *how) for world, how in WORLDS.items()}
    if arguments.train:
        return
    embedder = load_embedder("scenes")
    images = render_probing_set(WORK / "probing", PROBING)
    unbiased = bundle_of("classifier", None, embedder, images)
    report = {"cues": {}, "moved": {}}
    for world, (_, bias) in WORLDS.items():
        biased = bundle_of(str(world), weights[world], embedder, images)
        cues, moved = judge_cues(biased, unbiased, arguments.count, bias)
        for cue, figures in cues.items():
            row = f"{world}: {cue}"
            report["cues"][row] = figures
            report["moved"][row] = {
                "named, least": min(moves[cue] for moves in moved.values()),
                "named, most": max(moves[cue] for moves in moved.values()),
                "twin, most": max(moves[f"{cue}, twin"] for moves in moved.values()),
            }
        print(f"world {world} judged", flush=True)
    text = as_text(report)
    print(text)
    Path("build/bench").mkdir(parents=True, exist_ok=True)
    Path("build/bench/worlds.txt").write_text(text + "\n")


def bundle_of(name, weights, embedder, images):
    """A network with its bank; None: the package's own weights."""
    folder, bank = WORK / f"{name}-backbone", WORK / f"{name}-bank"
    network = load_network("scenes:classifier", weights and str(weights))
    export_network(network, folder)
    build_bank(
        Backbone(folder), embedder, images, vocabulary(), bank, SETTINGS, rationale=RATIONALE
    )
    return ModelBundle.load(name, folder, bank)


if __name__ == "__main__":
    main()

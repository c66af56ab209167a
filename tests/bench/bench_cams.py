"""Milliseconds per image of each CAM method: here, in grad-cam, in torchcam, and the bare forward.

    python tests/bench/bench_cams.py [--backbones resnet50,vgg16] [--slow]

Same networks (seeded weights), images and class, one process, as many threads each as there are
CPUs. Each figure is the best of several turns, taken in turn: five, or as many as a few seconds
allow, but two. "bare" is onnxruntime's forward pass for the logits alone. Ours and theirs both end
in a map at the image's resolution. --slow adds the methods of many passes, on ResNet-50 by one
image, one turn: everyone looks at the same first --channels of its 2048 channels, as if there were
no others, and SS-CAM at one noisy copy of each mask (35 are usual), so that a row takes half a
minute.

Rows go to build/bench/cams.json as they come. A run measures its backbones anew and keeps the rows
of the others, so a run that was cut short goes on with --backbones.
"""

import argparse
import copy
import json
import os
import time
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytorch_grad_cam
import torch
import torchcam.methods
import tqdm
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from textcam_service.core.cam import saliency_map
from textcam_service.core.heatmap import heatmap
from textcam_service.core.methods import METHODS, MethodInput, MethodSettings, run_method
from textcam_service.core.types import Crop
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone

OUTPUT = Path("build/bench/cams.json")
CLASS = 3
TURNS, LEAST_TURNS, CASE_SECONDS = 5, 2, 6.0
CHUNK = 16  # passes at a time, everyone's
SINGLE = (
    "cam", "grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam",
    "eigen_cam", "eigen_grad_cam", "finer_cam", "legrad", "recipro_cam",
)  # fmt: skip
SLOW = ("score_cam", "ss_cam", "ablation_cam")
# The target layer that export finds by itself, for the others.
BACKBONES = {
    "resnet50": "layer4",
    "vgg16": "features",
    "convnext_tiny": "features",
    "mobilenet_v3_large": "features",
    "vit_b_16": "encoder.layers.encoder_layer_11.ln_1",
    "swin_t": "permute",
}
LINEAR = {"layer4": "fc", "permute": "head"}  # by the target layer, for torchcam's CAM
GRAD_CAM = {
    "grad_cam": "GradCAM", "grad_cam_plus_plus": "GradCAMPlusPlus", "xgrad_cam": "XGradCAM",
    "hires_cam": "HiResCAM", "layer_cam": "LayerCAM", "eigen_cam": "EigenCAM",
    "eigen_grad_cam": "EigenGradCAM", "finer_cam": "FinerCAM", "score_cam": "ScoreCAM",
    "ablation_cam": "AblationCAM",
}  # fmt: skip
TORCHCAM = {
    "cam": "CAM", "grad_cam": "GradCAM", "grad_cam_plus_plus": "GradCAMpp",
    "xgrad_cam": "XGradCAM", "layer_cam": "LayerCAM", "score_cam": "ScoreCAM", "ss_cam": "SSCAM",
}  # fmt: skip


def ours(backbone, name, images, channels=None):
    """The product's way: one batch forward, then each image's conversation and heatmap."""
    seen = backbone.forward(images)
    weights = np.zeros(len(seen[0].logits))
    weights[CLASS] = 1
    linear = backbone.head_weights[:, :channels] if backbone.is_linear else None
    size = images.shape[2]
    settings = MethodSettings(chunk=CHUNK, smooth_samples=1)
    gradients = None
    if not backbone.is_linear and name not in {"eigen_cam", "recipro_cam", "legrad", "finer_cam"}:
        gradients = backbone.gradients(seen, np.tile(weights, (len(seen), 1)))
    made = []
    for index, (one, image) in enumerate(zip(seen, images, strict=True)):
        maps = one.activation_maps[:channels]
        inputs = MethodInput(maps, one.logits, weights, image, linear, one.layers)

        def answer(ask, one=one, index=index):
            if gradients is not None and type(ask).__name__ == "Gradient":
                return gradients[index]  # asked for the whole batch at once
            return backbone.query(ask, one)

        terms = run_method(METHODS[name].queries(inputs, settings), answer)
        found = terms.saliency_map
        if found is None:
            found = saliency_map(terms.weights, maps)
        made.append(heatmap(found, Crop(0, 0, size, size), size, size, float(found.max())))
    return made


def grid(tensor):
    """Tokens (N, 1 + H W, D) as maps, for grad-cam and torchcam."""
    side = int((tensor.shape[1] - 1) ** 0.5)
    return tensor[:, 1:].transpose(1, 2).reshape(len(tensor), -1, side, side)


def by_grad_cam(network, layer, name, images, channels):
    """grad-cam's way, as a callable."""

    class First(getattr(pytorch_grad_cam, GRAD_CAM[name])):
        """Sees the first channels only."""

        def get_cam_image(self, inputs, target, classes, activations, gradients, eigen=False):
            activations = activations[:, :channels]
            return super().get_cam_image(inputs, target, classes, activations, gradients, eigen)

    kind = First if channels else getattr(pytorch_grad_cam, GRAD_CAM[name])
    tokens = "encoder_layer" in layer
    cam = kind(network, [network.get_submodule(layer)], reshape_transform=grid if tokens else None)
    cam.batch_size = CHUNK
    targets = [ClassifierOutputTarget(CLASS)] * len(images)
    if name == "finer_cam":
        targets = None
    return lambda: cam(torch.tensor(images, requires_grad=True), targets)


def by_torchcam(network, layer, name, images, channels):
    """torchcam's way, as a callable and what ends it."""
    options = {"fc_layer": LINEAR[layer]} if name == "cam" else {}
    if name == "ss_cam":
        options["num_samples"] = 1
    extractor = getattr(torchcam.methods, TORCHCAM[name])(network, target_layer=layer, **options)
    extractor.bs = CHUNK

    def run():
        given = torch.tensor(images, requires_grad=name not in SLOW)
        with torch.set_grad_enabled(name not in SLOW):
            scores = network(given)
        if channels:
            extractor.hook_a = [maps[:, :channels] for maps in extractor.hook_a]
        maps = extractor([CLASS] * len(images), scores)
        return torch.nn.functional.interpolate(maps[0][:, None], images.shape[2:], mode="bilinear")

    return run, extractor.remove_hooks


def best(callables, turns):
    """The least milliseconds of each, taken in turn; the first turn also warms up."""
    least = dict.fromkeys(callables, float("inf"))
    begun = time.perf_counter()
    for turn in range(turns):
        if turn >= LEAST_TURNS and time.perf_counter() - begun > CASE_SECONDS:
            break
        for name, call in callables.items():
            started = time.perf_counter()
            call()
            least[name] = min(least[name], time.perf_counter() - started)
    return {name: seconds * 1000 for name, seconds in least.items()}


def measure(backbone, networks, layer, name, images, turns, channels=None):
    """One row: ms per image of everyone who has the method.

    Each peer has a network of its own: hooks of one would work, and keep maps, in the other's time.
    """
    callables = {
        "bare": lambda: backbone.logits(images),
        "here": lambda: ours(backbone, name, images, channels),
    }
    close = None
    if name in GRAD_CAM:
        callables["grad-cam"] = by_grad_cam(networks[0], layer, name, images, channels)
    if name in TORCHCAM and "encoder_layer" not in layer:  # it takes no tokens
        callables["torchcam"], close = by_torchcam(networks[1], layer, name, images, channels)
    try:
        found = best(callables, turns)
    finally:
        if close is not None:
            close()
    return {who: ms / len(images) for who, ms in found.items()}


def prepared(name):
    """The backbone, exported once, and the same network in torch, for each peer."""
    network = load_network(f"torchvision:{name}", "none")
    folder = Path("build/cams") / name
    if not (folder / "backbone.json").is_file():
        export_network(network, folder)
    backbone, module = Backbone(folder), network.module
    if backbone.manifest.target_layer != BACKBONES[name]:
        raise SystemExit(f"{name}: export chose {backbone.manifest.target_layer}")
    for child in module.modules():
        if hasattr(child, "inplace"):
            child.inplace = False  # torchcam's hooks cannot have it
    return backbone, (module, copy.deepcopy(module))


def rows_of(name, slow, channels, turns):
    """Measure a backbone, row by row."""
    backbone, networks = prepared(name)
    rng = np.random.default_rng(0)
    offered = [method for method in SINGLE if METHODS[method].needs <= backbone.capabilities]
    cases = [(method, batch, turns, None) for method in offered for batch in (1, 8)]
    if not backbone.is_linear:  # a pass of the head for each cell
        cases.remove(("recipro_cam", 8, turns, None))
    if slow and name == "resnet50":
        cases += [(method, 1, 1, channels) for method in SLOW]
        cases.append(("decom_cam", 1, turns, None))  # 11 passes
    for method, batch, own, among in cases:
        images = rng.normal(size=(batch, 3, 224, 224)).astype(np.float32)
        found = measure(backbone, networks, BACKBONES[name], method, images, own, among)
        note = {"channels": among} if among else {}
        yield {"backbone": name, "method": method, "batch": batch, **note, **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--slow", action="store_true", help="the methods of many passes too")
    parser.add_argument("--channels", type=int, default=512, help="that they look at, of 2048")
    parser.add_argument("--turns", type=int, default=TURNS, help="1: does it run at all?")
    arguments = parser.parse_args()
    names = arguments.backbones.split(",")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tqdm.tqdm.__init__ = partialmethod(tqdm.tqdm.__init__, disable=True)  # grad-cam's bars
    rows = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else []
    rows = [row for row in rows if row["backbone"] not in names]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    print(
        f"{'backbone':<20}{'method':<20}{'batch':>6}{'bare':>9}{'here':>9}{'grad-cam':>10}"
        f"{'torchcam':>10}{'here/bare':>11}{'vs grad-cam':>12}{'vs torchcam':>12}"
    )
    for name in names:
        for row in rows_of(name, arguments.slow, arguments.channels, arguments.turns):
            show(row)
            rows.append(row)
            OUTPUT.write_text(json.dumps(rows, indent=2) + "\n")


def show(row):
    def cell(value, width, places=2):
        return f"{'-':>{width}}" if value is None else f"{value:>{width}.{places}f}"

    def ratio(who):
        return row[who] / row["here"] if who in row else None

    print(
        f"{row['backbone']:<20}{row['method']:<20}{row['batch']:>6}{row['bare']:>9.1f}"
        f"{row['here']:>9.1f}{cell(row.get('grad-cam'), 10, 1)}{cell(row.get('torchcam'), 10, 1)}"
        f"{row['here'] / row['bare']:>11.2f}{cell(ratio('grad-cam'), 12)}"
        f"{cell(ratio('torchcam'), 12)}",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Milliseconds per image of each CAM method: here, in grad-cam, in torchcam, and the bare forward.

    python tests/bench/bench_cams.py [--backbones resnet50,vgg16] [--slow]

Same networks (seeded weights), images and class, one process, as many threads each as there are
CPUs. Each figure is the best of several turns, taken in turn; "bare" is onnxruntime's forward pass
for the logits alone. Ours and theirs both end in a map at the image's resolution. --slow adds the
methods of many passes, on ResNet-50 by one image.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import pytorch_grad_cam
import torch
import torchcam.methods
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from textcam_service.backbone import Backbone
from textcam_service.core.cam import saliency_map
from textcam_service.core.heatmap import heatmap
from textcam_service.core.methods import METHODS, MethodSettings, Subject, drive
from textcam_service.core.types import Crop
from textcam_service.offline.export import export_network
from textcam_service.offline.networks import load_network

CLASS = 3
TURNS = 5
SINGLE = (
    "cam", "grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam",
    "eigen_cam", "eigen_grad_cam", "finer_cam", "legrad", "recipro_cam",
)  # fmt: skip
SLOW = ("score_cam", "ablation_cam", "decom_cam")
# Network: target layer here, and the same in torch; None: found by itself.
BACKBONES = {
    "resnet50": (None, "layer4"),
    "vgg16": (None, "features"),
    "convnext_tiny": (None, "features"),
    "mobilenet_v3_large": (None, "features"),
    "vit_b_16": (None, "encoder.layers.encoder_layer_11.ln_1"),
    "swin_t": (None, "permute"),
}
GRAD_CAM = {
    "grad_cam": "GradCAM", "grad_cam_plus_plus": "GradCAMPlusPlus", "xgrad_cam": "XGradCAM",
    "hires_cam": "HiResCAM", "layer_cam": "LayerCAM", "eigen_cam": "EigenCAM",
    "eigen_grad_cam": "EigenGradCAM", "finer_cam": "FinerCAM", "score_cam": "ScoreCAM",
    "ablation_cam": "AblationCAM",
}  # fmt: skip
TORCHCAM = {
    "cam": "CAM", "grad_cam": "GradCAM", "grad_cam_plus_plus": "GradCAMpp",
    "xgrad_cam": "XGradCAM", "layer_cam": "LayerCAM", "score_cam": "ScoreCAM",
}  # fmt: skip


def ours(backbone, name, images):
    """The product's way: one batch forward, then each image's conversation and heatmap."""
    seen = backbone.see(images)
    weights = np.zeros(len(seen[0].logits))
    weights[CLASS] = 1
    linear = backbone.head_weights if backbone.is_linear else None
    size = images.shape[2]
    gradients = None
    if not backbone.is_linear and name not in {"eigen_cam", "recipro_cam", "legrad", "finer_cam"}:
        gradients = backbone.gradients(seen, np.tile(weights, (len(seen), 1)))
    made = []
    for index, (one, image) in enumerate(zip(seen, images, strict=True)):
        subject = Subject(one.activation_maps, one.logits, weights, image, linear, one.layers)

        def answer(ask, one=one, index=index):
            if gradients is not None and type(ask).__name__ == "Gradient":
                return gradients[index]  # asked for the whole batch at once
            return backbone.answer(ask, one)

        terms = drive(METHODS[name].steps(subject, MethodSettings()), answer)
        found = terms.saliency_map
        if found is None:
            found = saliency_map(terms.weights, one.activation_maps)
        made.append(heatmap(found, Crop(0, 0, size, size), size, size, float(found.max())))
    return made


def grid(tensor):
    """Tokens (N, 1 + H W, D) as maps, for grad-cam and torchcam."""
    side = int((tensor.shape[1] - 1) ** 0.5)
    return tensor[:, 1:].transpose(1, 2).reshape(len(tensor), -1, side, side)


def peers(network, layer, name, images):
    """Callables by the peer's name, where it has the method."""
    made = {}
    target = network.get_submodule(layer)
    tokens = "encoder_layer" in layer
    if name in GRAD_CAM:
        kind = getattr(pytorch_grad_cam, GRAD_CAM[name])
        cam = kind(network, [target], reshape_transform=grid if tokens else None)
        if hasattr(cam, "batch_size"):
            cam.batch_size = 16
        targets = [ClassifierOutputTarget(CLASS)] * len(images)
        if name == "finer_cam":
            targets = None

        def run(cam=cam, targets=targets):
            return cam(torch.tensor(images, requires_grad=True), targets)

        made["grad-cam"] = run
    if name in TORCHCAM and not tokens:
        options = {"fc_layer": "fc"} if name == "cam" and layer == "layer4" else {}
        if name == "cam" and not options:
            return made
        extractor = getattr(torchcam.methods, TORCHCAM[name])(
            network, target_layer=layer, **options
        )
        if name == "score_cam":
            extractor.bs = 16

        def run_torchcam(extractor=extractor):
            given = torch.tensor(images, requires_grad=True)
            scores = network(given)
            maps = extractor([CLASS] * len(images), scores)
            return torch.nn.functional.interpolate(
                maps[0][:, None], images.shape[2:], mode="bilinear"
            )

        made["torchcam"] = run_torchcam
        made["close"] = extractor.remove_hooks
    return made


def best(callables, turns):
    """The least milliseconds of each, taken in turn; several turns follow one to warm up."""
    for call in callables.values() if turns > 1 else ():
        call()
    least = dict.fromkeys(callables, float("inf"))
    for _ in range(turns):
        for name, call in callables.items():
            started = time.perf_counter()
            call()
            least[name] = min(least[name], time.perf_counter() - started)
    return {name: seconds * 1000 for name, seconds in least.items()}


def measure(backbone, network, layer, name, images, turns):
    """One row: ms per image of everyone who has the method."""
    rivals = peers(network, layer, name, images)
    close = rivals.pop("close", lambda: None)
    callables = {
        "bare": lambda: backbone.logits(images),
        "here": lambda: ours(backbone, name, images),
        **rivals,
    }
    try:
        found = best(callables, turns)
    finally:
        close()
    return {who: ms / len(images) for who, ms in found.items()}


def prepared(name):
    """The backbone, exported once, and the same network in torch."""
    network = load_network(f"torchvision:{name}", "none")
    folder = Path("build/cams") / name
    if not (folder / "backbone.json").is_file():
        target, _ = BACKBONES[name]
        export_network(network, folder, target_layer=target or "")
    module = network.module
    for child in module.modules():
        if hasattr(child, "inplace"):
            child.inplace = False  # torchcam's hooks cannot have it
    return Backbone(folder), module


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--slow", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rng = np.random.default_rng(0)
    rows = []
    print(
        f"{'backbone':<20}{'method':<20}{'batch':>6}{'bare':>9}{'here':>9}{'grad-cam':>10}"
        f"{'torchcam':>10}{'here/bare':>11}{'vs grad-cam':>12}{'vs torchcam':>12}"
    )
    for name in arguments.backbones.split(","):
        backbone, network = prepared(name)
        layer = BACKBONES[name][1]
        offered = [m for m in SINGLE if METHODS[m].needs <= backbone.offers]
        cases = [(m, batch, TURNS) for m in offered for batch in (1, 8)]
        if arguments.slow and name == "resnet50":
            cases += [(m, 1, 1) for m in SLOW]
        for method, batch, turns in cases:
            images = rng.normal(size=(batch, 3, 224, 224)).astype(np.float32)
            row = measure(backbone, network, layer, method, images, turns)
            rows.append({"backbone": name, "method": method, "batch": batch, **row})
            show(rows[-1])
    output = Path("build/bench/cams.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=2) + "\n")


def show(row):
    def cell(value, width, unit=""):
        return f"{'-':>{width}}" if value is None else f"{value:>{width - len(unit)}.2f}{unit}"

    def ratio(who):
        return row[who] / row["here"] if who in row else None

    print(
        f"{row['backbone']:<20}{row['method']:<20}{row['batch']:>6}{row['bare']:>9.1f}"
        f"{row['here']:>9.1f}{cell(row.get('grad-cam'), 10)}{cell(row.get('torchcam'), 10)}"
        f"{row['here'] / row['bare']:>11.2f}{cell(ratio('grad-cam'), 12)}"
        f"{cell(ratio('torchcam'), 12)}",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Export and explain many networks of torchvision and timm, and write down which work.

    python tests/zoo/run_zoo.py [--only NAME,NAME]      (make test-zoo)

Seeded weights, with batch norms calibrated by random images: what is judged is the export's parity
with torch, and that each method that the backbone can answer gives a finite map that varies. Each
network runs in a process of its own.
Exit status 1 where a network fails that is not known to.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TORCHVISION = (
    "resnet18", "resnet50", "resnext50_32x4d", "vgg11", "densenet121", "mobilenet_v2",
    "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf",
    "shufflenet_v2_x0_5", "squeezenet1_1", "googlenet", "inception_v3", "mnasnet0_5",
    "vit_b_16", "swin_t", "maxvit_t",
)  # fmt: skip
TIMM_CNNS = (
    "resnet10t", "resnetv2_50", "seresnet18", "ecaresnet26t", "skresnet18", "resnest14d",
    "res2net50_26w_4s", "dla34", "dpn48b", "hrnet_w18_small", "densenet121", "vgg11_bn",
    "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv4_conv_small", "efficientnet_lite0",
    "tf_efficientnetv2_b0", "mixnet_s", "fbnetc_100", "ghostnet_050", "lcnet_050", "tinynet_e",
    "rexnet_100", "regnetx_002", "regnety_002", "convnext_atto", "convnextv2_atto",
    "repvgg_a0", "cspresnet50", "darknet53", "xception41", "inception_next_tiny",
    "edgenext_xx_small", "starnet_s1", "fasternet_t0", "inception_v4",
)  # fmt: skip
TIMM_TRANSFORMERS = (
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "beit_base_patch16_224",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "cait_xxs24_224",
    "xcit_nano_12_p16_224", "pvt_v2_b0", "mobilevit_xxs", "levit_128s", "coat_lite_tiny",
    "poolformer_s12", "maxvit_pico_rw_256", "crossvit_tiny_240", "twins_pcpvt_small",
    "eva02_tiny_patch14_224", "tiny_vit_5m_224", "efficientformer_l1", "vit_small_patch16_dinov3",
)  # fmt: skip
ALL = (
    *(f"torchvision:{name}" for name in TORCHVISION),
    *(f"timm:{name}" for name in (*TIMM_CNNS, *TIMM_TRANSFORMERS)),
)
METHODS = (
    "cam", "grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "eigen_cam",
    "recipro_cam", "legrad",
)  # fmt: skip
SECONDS = 400


def calibrated(network):
    """The network, its batch norms set by three batches of four random images.

    Seeded weights leave them at mean 0 and variance 1; in deep networks activations vanish then,
    and parity says nothing.
    """
    import torch

    size = network.preprocessing
    norms = [
        m for m in network.module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over the batches
        norm.train()
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(3 if norms else 0):
            network.module(torch.randn(4, 3, size.height, size.width, generator=chance))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.module.eval()
    return network


def visit(name):
    """One network, in this process: a row of the table."""
    import numpy as np
    from textcam_service.core.cam import saliency_map
    from textcam_service.core.methods import METHODS as KNOWN
    from textcam_service.core.methods import MethodInput, MethodSettings, run_method
    from textcam_service.offline.export.from_torch.export import export_network
    from textcam_service.offline.networks.loading import load_network
    from textcam_service.runtime.backbone import Backbone

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        network = calibrated(load_network(name, "none"))
        report = export_network(network, Path(folder) / "backbone")
        seconds = time.perf_counter() - started
        backbone = Backbone(Path(folder) / "backbone")
        size = backbone.manifest.preprocessing
        images = np.random.default_rng(0).normal(size=(2, 3, size.height, size.width))
        (one, _), image = backbone.forward(images.astype(np.float32)), images[0].astype(np.float32)
        weights = np.zeros(len(one.logits))
        weights[int(one.logits.argmax())] = 1
        linear = backbone.head_weights if backbone.is_linear else None
        inputs = MethodInput(one.activation_maps, one.logits, weights, image, linear, one.layers)
        ran = []
        for method in METHODS:
            if not KNOWN[method].needs <= backbone.capabilities:
                continue
            steps = KNOWN[method].queries(inputs, MethodSettings())
            terms = run_method(steps, lambda ask: backbone.query(ask, one))
            found = terms.saliency_map
            if found is None:
                found = saliency_map(terms.weights, one.activation_maps)
            if not np.isfinite(found).all() or not np.ptp(found) > 0:
                raise AssertionError(f"{method}: the map is constant or not finite")
            ran.append(method)
    channels, height, width = report.maps_shape
    return {
        "network": name,
        "target_layer": report.target_layer,
        "maps": f"{channels} x {height} x {width}",
        "head": report.head_kind,
        "methods": len(ran),
        "seconds": round(seconds, 1),
        "parity": max(report.logits_error, report.maps_error, report.gradient_error),
        "why": report.without,
    }


def row_of(name):
    """visit() in a process of its own, which may die or hang."""
    command = [sys.executable, "-W", "ignore", __file__, "--visit", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"network": name, "fault": f"not done after {SECONDS} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return {"network": name, "fault": (lines or [f"exit status {done.returncode}"])[-1][:200]}


def table(rows):
    lines = [
        "| network | target layer | maps | head | methods | export s | parity | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "fault" in row:
            lines.append(f"| {row['network']} | - | - | - | 0 | - | - | {row['fault']} |")
        else:
            cells = (
                row["network"], row["target_layer"], row["maps"], row["head"], row["methods"],
                row["seconds"], f"{row['parity']:.1e}", row["why"],
            )  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--visit", default="")
    arguments = parser.parse_args()
    if arguments.visit:
        print(json.dumps(visit(arguments.visit)))
        return
    rows = []
    for name in arguments.only.split(",") if arguments.only else ALL:
        rows.append(row_of(name))
        print(rows[-1], flush=True)
    worked = sum("fault" not in row for row in rows)
    text = f"{worked} of {len(rows)} networks export and explain.\n\n{table(rows)}\n"
    output = Path("build/bench/zoo.md")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)
    print(text)
    sys.exit(worked < len(rows))


if __name__ == "__main__":
    main()

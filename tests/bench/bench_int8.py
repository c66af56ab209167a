"""What int8 costs in parity and gives in speed, by how many first layers stay float.

    python tests/bench/bench_int8.py [--backbone DIR --bank DIR] [--float-layers 0 --float-layers 6]

Calibrated on 128 images of ../shared/caltech, compared over ../shared/photos. Milliseconds are
medians over --repeats runs of the session, float and int8 in turn.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from textcam_service.core.agreement import AgreementThresholds
from textcam_service.imaging.decoding import ImageLimits, decode, prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.dataset import ImageFolder
from textcam_service.offline.quantization import QuantizationSettings, quantize, split
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.cpus import usable_cpus

BANK = Path(__file__).parents[2] / "service" / "textcam_service" / "data" / "photos"
CPU = ("CPUExecutionProvider",)
LIMITS = ImageLimits(2**24, 2**26)
BATCHES = (1, 8)
ANY = AgreementThresholds(top1=0, map_correlation=-1, first_phrase=0)


def milliseconds(backbones, images, repeats):
    """Median time of a run, by backbone; the backbones take turns."""
    spent = {name: [] for name in backbones}
    for _ in range(repeats + 2):
        for name, backbone in backbones.items():
            started = time.perf_counter()
            backbone.run(images)
            spent[name].append(time.perf_counter() - started)
    return {name: 1000 * float(np.median(times[2:])) for name, times in spent.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    parser.add_argument("--bank", type=Path, default=BANK)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--float-layers", type=int, action="append")
    parser.add_argument("--reduce-range", action="store_true")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--limit", type=int, default=None, help="photographs at most")
    arguments = parser.parse_args()
    if not (arguments.shared / "photos").is_dir():
        sys.exit(f"SKIPPED: {arguments.shared}/photos is not there; int8 was not measured")
    own = ModelBundle.load("float", arguments.backbone, arguments.bank, providers=CPU)
    calibration, _ = split(ImageFolder.find([arguments.shared / "caltech"]), 128)
    photographs, _ = split(ImageFolder.find([arguments.shared / "photos"]), arguments.limit)
    size = own.backbone.manifest.preprocessing
    shown = [prepare(decode(path.read_bytes(), LIMITS).pixels, size)[0] for path in photographs[:8]]
    report = {
        "architecture": own.backbone.manifest.architecture,
        "threads": usable_cpus(),
        "reduce_range": arguments.reduce_range,
        "rows": [],
    }
    print(
        f"{report['architecture']}, {len(photographs)} photographs, {report['threads']} threads\n"
        "float layers  top-1   correlation  its p5  first phrase  "
        "ms int8/float, batch 1   batch 8"
    )
    with tempfile.TemporaryDirectory() as work:
        for layers in arguments.float_layers or (0, 2, 4, 6, 8, 12):
            folder = Path(work) / str(layers)
            settings = QuantizationSettings(layers, arguments.reduce_range)
            found = quantize(own, calibration, photographs, folder, settings, ANY).figures
            pair = {"float": own.backbone, "int8": Backbone(folder, providers=CPU)}
            speed = {
                batch: milliseconds(pair, np.stack(shown[:batch]), arguments.repeats)
                for batch in BATCHES
            }
            report["rows"].append({"float_layers": layers, **asdict(found), "ms": speed})
            times = "   ".join(f"{ms['int8']:8.1f} / {ms['float']:.1f}" for ms in speed.values())
            print(
                f"{layers:12}  {found.top1:.4f}  {found.map_correlation:11.4f}  "
                f"{found.map_correlation_p5:.4f}  {found.first_phrase:12.4f}  {times}",
                flush=True,
            )
    output = Path(f"build/bench/int8-{report['architecture']}.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

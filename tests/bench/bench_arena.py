"""Resident memory of a session after batches of all sizes, by how onnxruntime lays them out.

    python tests/bench/bench_arena.py [--backbone build/backbone] [--batches 60]

"plain" is onnxruntime as it comes, "no patterns" what the service does, "padded" pads each batch to
a power of two. Each in a process of its own; the floor is the session after one batch of 8.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil

LARGEST = 8
MODES = ("plain", "no patterns", "padded", "no arena")


def measure(mode, folder, batches):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = mode != "no patterns"
    options.enable_cpu_mem_arena = mode != "no arena"
    model = str(folder / "backbone.onnx")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def run(count):
        session.run(None, {given.name: np.zeros((count, *given.shape[1:]), np.float32)})

    def resident():
        return psutil.Process().memory_info().rss / 2**20

    run(LARGEST)
    floor, began, rng = resident(), time.process_time(), random.Random(0)
    for _ in range(batches):
        count = rng.randint(1, LARGEST)
        run(1 << (count - 1).bit_length() if mode == "padded" else count)
    return {
        "floor_mib": floor,
        "mib": resident(),
        "ratio": resident() / floor,
        "cpu_s": time.process_time() - began,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--mode", choices=MODES)
    arguments = parser.parse_args()
    if arguments.mode:
        print(json.dumps(measure(arguments.mode, arguments.backbone, arguments.batches)))
        return
    report = {}
    for mode in MODES:
        command = [sys.executable, __file__, *sys.argv[1:], "--mode", mode]
        report[mode] = json.loads(subprocess.check_output(command))
        figures = "  ".join(f"{name} {value:8.2f}" for name, value in report[mode].items())
        print(f"{mode:<12}{figures}")
    output = Path("build/bench/arena.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

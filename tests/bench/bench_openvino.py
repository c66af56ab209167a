"""onnxruntime beside OpenVINO in one process, on one thread: time, memory, and start.

    python tests/bench/bench_openvino.py GRAPH.onnx [INT8.onnx ...] [--seconds 40]

Graphs as `textcam export` and `textcam quantize` write them. Times are processor time an image, in
turns. Memory and start are those of processes of their own, less what the libraries take. The warm
start finds the cache of the first.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from textcam_service.artefacts.backbone import ACTIVATION_MAPS, INPUT, LOGITS
from textcam_service.runtime.openvino_session import OpenVinoSession
from textcam_service.runtime.providers import CPU
from textcam_service.runtime.sessions import make_session

BATCHES, SIDE = (1, 8), 224
NAMES = [LOGITS, ACTIVATION_MAPS]
IMAGES = np.random.default_rng(0).normal(size=(max(BATCHES), 3, SIDE, SIDE)).astype(np.float32)


def start(runtime, path, cache=""):
    """A session of one thread."""
    if runtime == "onnxruntime":
        return make_session(path.read_bytes(), [(CPU, {})], 1, named=True)
    return OpenVinoSession(path.read_bytes(), 1, cache=cache)


def alone(runtime, path, cache):
    """Seconds until a session stands, and MiB that it keeps once it has run both batches."""
    process = psutil.Process()
    before, began = process.memory_info().rss, time.monotonic()
    session = start(runtime, path, cache)
    seconds = time.monotonic() - began
    for batch in BATCHES:
        session.run(NAMES, {INPUT: IMAGES[:batch]})
    ctypes.CDLL(None).malloc_trim(0)
    return {"start_s": seconds, "mib": (process.memory_info().rss - before) / 2**20}


def in_child(runtime, path, cache):
    words = [sys.executable, __file__, "--child", runtime, str(path), "--cache", cache]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def in_turns(sessions, seconds):
    """Milliseconds of processor time an image, by name and batch: one per turn."""
    found = {(name, batch): [] for name in sessions for batch in BATCHES}
    for session in sessions.values():
        session.run(NAMES, {INPUT: IMAGES})
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for (name, batch), times in found.items():
            began = time.process_time()
            sessions[name].run(NAMES, {INPUT: IMAGES[:batch]})
            times.append((time.process_time() - began) / batch * 1e3)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("graphs", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--child", choices=("onnxruntime", "OpenVINO"), help=argparse.SUPPRESS)
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        json.dump(alone(chosen.child, chosen.graphs[0], chosen.cache), sys.stdout)
        return
    arms = {(name, path): start(name, path)
            for path in chosen.graphs for name in ("onnxruntime", "OpenVINO")}  # fmt: skip
    times = in_turns(arms, chosen.seconds)
    print("| | ms batch 1 | ms batch 8 | least | MiB | start s | warm | turns |")
    print("|---|---|---|---|---|---|---|---|")
    for name, path in arms:
        with tempfile.TemporaryDirectory() as folder:
            cache = folder if name == "OpenVINO" else ""
            first, warm = (in_child(name, path, cache) for _ in range(2))
        one, many = (times[(name, path), batch] for batch in BATCHES)
        print(
            f"| {name}, {path.parent.name} | {np.median(one):.1f} | {np.median(many):.1f} | "
            f"{min(*one, *many):.1f} | {warm['mib']:.0f} | {first['start_s']:.2f} | "
            f"{warm['start_s']:.2f} | {len(one)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

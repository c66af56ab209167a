"""The floor: a bare onnxruntime loop over decoded tensors, a process of its own.

    python -m serve.floor BACKBONE SECONDS < image paths, JSON    (figures to stdout, JSON)

The same graph and outputs, and as many threads, as the service's session has.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil
from textcam_service.artefacts.backbone import ACTIVATION_MAPS, INPUT, LOGITS
from textcam_service.imaging import decoding
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.cpus import cpu_quota, usable_cpus

from serve.tally import spread

BATCHES = (1, 8)


def session_of(folder):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = usable_cpus(), 1
    if cpu_quota() is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = str(folder / "backbone.onnx")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def decoded(folder, images):
    """(N, 3, H, W) network inputs."""
    preprocessing = Backbone(folder).manifest.preprocessing
    limits = decoding.ImageLimits()
    pixels = (decoding.decode(Path(image).read_bytes(), limits).pixels for image in images)
    return np.stack([decoding.prepare(one, preprocessing)[0] for one in pixels])


def loop(session, inputs, batch, seconds):
    """Figures of one batch size."""
    own = psutil.Process()
    batches = [np.resize(np.roll(inputs, -i, 0), (batch, *inputs.shape[1:])) for i in range(8)]
    for one in batches[:3]:
        session.run([LOGITS, ACTIVATION_MAPS], {INPUT: one})
    times, cpu, begun = [], sum(own.cpu_times()[:2]), time.monotonic()
    while (started := time.monotonic()) < begun + seconds:
        session.run([LOGITS, ACTIVATION_MAPS], {INPUT: batches[len(times) % len(batches)]})
        times.append(time.monotonic() - started)
    elapsed, images = time.monotonic() - begun, len(times) * batch
    return {
        "batch": batch,
        "throughput": images / elapsed,
        "latency_ms": spread(times),
        "server_cpu_ms": (sum(own.cpu_times()[:2]) - cpu) / images * 1000,
        "memory_mib": own.memory_info().rss / 2**20,
    }


def main():
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    inputs = decoded(folder, json.load(sys.stdin))
    session = session_of(folder)
    json.dump([loop(session, inputs, batch, seconds) for batch in BATCHES], sys.stdout)


if __name__ == "__main__":
    main()

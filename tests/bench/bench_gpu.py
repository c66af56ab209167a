"""Images per second with explanations beside the bare session's, by where maps are summed.

    python tests/bench/bench_gpu.py --prepare [--work DIR]
    python tests/bench/bench_gpu.py [--batch 32] [--batches 40] [--rounds 5] [--work DIR]

ResNet-50 of seeded weights, a bank of seeded directions, the package's vocabulary; CAM of the most
probable class, five phrases, as the pipeline makes them. "bare" answers logits; "host" brings each
batch's maps here and sums them in numpy; "device" leaves them there. Explanations run in threads
while the next batch is inferred, as in the server; images are decoded already. "alone" is how many
explanations those threads make with no inference beside them: more cannot be had of one process.
"mixed/even" is the rate of batches of all sizes in turn, of that of the same batches size by size:
a provider may plan anew at each change. All take turns in each round; a figure is the median of the
rounds. fp16 is measured where TensorRT is.

Export takes torch, whose CUDA libraries are not those of onnxruntime-gpu: --prepare runs in an
environment with the one, the rest in one with the other. Without a GPU the CPU runs the same graphs
on small batches, which says nothing of a GPU.
"""

import argparse
import json
import statistics
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from textcam_service.artefacts.bank import ConceptBank, read_bank, write_bank
from textcam_service.core.predictions import predictions
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.errors import TextCamError
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import attribute, make_rationale
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.cpus import usable_cpus
from textcam_service.runtime.providers import CUDA, TENSORRT, DeviceOptions
from threadpoolctl import threadpool_limits

BANK = Path(__file__).parents[2] / "service" / "textcam_service" / "data" / "photos"
PHRASES, AHEAD = 5, 2  # batches whose explanations may be under way


def prepare(work):
    """The backbone and its bank, made once."""
    if (work / "bank" / "bank.json").is_file():
        return
    from textcam_service.offline.export.from_torch.export import export_network  # noqa: PLC0415 - torch
    from textcam_service.offline.networks.loading import load_network  # noqa: PLC0415

    export_network(load_network("torchvision:resnet50", "none"), work / "backbone")
    backbone, vocabulary = Backbone(work / "backbone"), read_bank(BANK).vocabulary
    rng = np.random.default_rng(0)
    shape = (backbone.manifest.channel_count, vocabulary.embeddings.shape[1])
    directions = rng.standard_normal(shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bank = ConceptBank(
        directions.astype(np.float32),
        np.zeros(len(directions), bool),
        np.zeros(shape[1], np.float32),
        backbone.fingerprint(),
        backbone.manifest.weights_digest,
        vocabulary.embedder,
        {},
    )
    write_bank(work / "bank", bank, vocabulary)


def load(work, provider, precision, batch, *, in_graph):
    cache = work / "engines"
    cache.mkdir(parents=True, exist_ok=True)
    options = DeviceOptions(precision, str(cache), max_batch=batch, in_graph=in_graph)
    return ModelBundle.load(
        "bench", work / "backbone", work / "bank", providers=(provider,), device=options
    )


def explain(bundle, seen, image):
    index = int(seen.logits.argmax())
    target = predictions(seen.logits, bundle.class_names, [index])[0]
    terms = attribute(bundle, seen, image, target, None)
    return make_rationale(bundle, seen, terms, target, None, PhraseFilter(PHRASES))


def bare_rate(bundle, images, batches):
    """Images per second of the session alone."""
    started = time.perf_counter()
    for _ in range(batches):
        bundle.backbone.logits(images)
    return batches * len(images) / (time.perf_counter() - started)


def explained_rate(bundle, images, batches):
    """Images per second with explanations, made while the next batch is inferred."""
    with ThreadPoolExecutor(usable_cpus()) as pool:
        under_way = deque()
        started = time.perf_counter()
        for _ in range(batches):
            seen = bundle.backbone.forward(images)
            pairs = zip(seen, images, strict=True)
            under_way.append([pool.submit(explain, bundle, one, image) for one, image in pairs])
            if len(under_way) > AHEAD:
                for future in under_way.popleft():
                    future.result()
        for futures in under_way:
            for future in futures:
                future.result()
        return batches * len(images) / (time.perf_counter() - started)


def alone_rate(bundle, images, batches):
    """Explanations per second of maps that are there."""
    seen = bundle.backbone.forward(images)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        started = time.perf_counter()
        for _ in range(batches):
            list(pool.map(lambda pair: explain(bundle, *pair), zip(seen, images, strict=True)))
        return batches * len(images) / (time.perf_counter() - started)


def bucket_rate(bundle, images, turns, *, mixed):
    """Images per second of batches of each size that there is, in turn or size by size."""
    sizes = bundle.backbone.buckets.sizes
    order = sizes * turns if mixed else [size for size in sizes for _ in range(turns)]
    started = time.perf_counter()
    for size in order:
        bundle.backbone.forward(images[:size])
    return sum(order) / (time.perf_counter() - started)


def measured(work, provider, precision, arguments):
    """One row: rates, and shares of the bare session's."""
    host, device = (
        load(work, provider, precision, arguments.batch, in_graph=way) for way in (False, True)
    )
    size = host.backbone.manifest.preprocessing
    shape = (arguments.batch, 3, size.height, size.width)
    images = np.random.default_rng(1).standard_normal(shape, np.float32)
    device.backbone.warm()
    ways = {
        "bare": lambda count: bare_rate(host, images, count),
        "host": lambda count: explained_rate(host, images, count),
        "device": lambda count: explained_rate(device, images, count),
        "alone": lambda count: alone_rate(device, images, count),
        "mixed": lambda count: bucket_rate(device, images, count, mixed=True),
        "even": lambda count: bucket_rate(device, images, count, mixed=False),
    }
    for way in ways.values():
        way(1)
    rounds = [
        {name: way(arguments.batches) for name, way in ways.items()}
        for _ in range(arguments.rounds)
    ]
    rates = {name: statistics.median(own[name] for own in rounds) for name in ways}
    shares = {
        f"{name}/{of}": statistics.median(own[name] / own[of] for own in rounds)
        for name, of in (("host", "bare"), ("device", "bare"), ("mixed", "even"))
    }
    return {
        "provider": device.backbone.execution_provider,
        "precision": precision,
        "batch": arguments.batch,
        **rates,
        **shares,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("build/bench/gpu"))
    parser.add_argument("--batch", type=int, default=None, help="default: 32; 4 without a GPU")
    parser.add_argument("--batches", type=int, default=None, help="per round: 40; 2 without a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prepare", action="store_true", help="make --work, and no more")
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare(arguments.work)
        return
    if not (arguments.work / "bank" / "bank.json").is_file():
        parser.error(f"{arguments.work} is not prepared: --prepare, where torch is")
    available = ort.get_available_providers()
    gpu = CUDA in available
    arguments.batch = arguments.batch or (32 if gpu else 4)
    arguments.batches = arguments.batches or (40 if gpu else 2)
    threadpool_limits(limits=1, user_api="blas")  # as the server does
    wanted = [("cuda", "fp32"), ("cuda", "tf32")] if gpu else [("cpu", "fp32")]
    if TENSORRT in available:
        wanted += [("tensorrt", "fp32"), ("tensorrt", "fp16")]
    rows, missing = [], []
    columns = ("bare", "host", "device", "alone", "host/bare", "device/bare", "mixed/even")
    print(
        f"ResNet-50, batches of {arguments.batch}, {usable_cpus()} CPUs, images per second\n"
        f"{'provider':26} {'precision'}" + "".join(f"{name:>12}" for name in columns)
    )
    for provider, precision in wanted:
        try:
            row = measured(arguments.work, provider, precision, arguments)
        except TextCamError as error:  # such as TensorRT, whose libraries may be missing
            missing.append(f"{provider} {precision}: {error}")
            continue
        rows.append(row)
        figures = "".join(f"{row[name]:12.{3 if '/' in name else 1}f}" for name in columns)
        print(f"{row['provider']:26} {precision:9}{figures}", flush=True)
    for what in missing:
        print(f"NOT MEASURED: {what}")
    if not gpu:
        missing.append("GPU")
        print("NO GPU HERE: THE GPU FIGURES ARE MISSING; this was the CPU, on the same graphs.")
    output = Path("build/bench/gpu.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    report = {"cpus": usable_cpus(), "onnxruntime": ort.__version__, "rows": rows}
    output.write_text(json.dumps({**report, "missing": missing}, indent=2) + "\n")


if __name__ == "__main__":
    main()

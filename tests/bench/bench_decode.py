"""How fast JPEGs become network inputs, beside Pillow as it comes and simplejpeg.

    python tests/bench/bench_decode.py [--photos ../shared/photos]

"before" is Pillow as imaging.py used it first (in blocks, with two copies more), "whole" and "here"
are imaging.py without and with reduction, "turbo" is simplejpeg, a binding of libjpeg-turbo, whole
and reduced likewise; all end in the same network input. Milliseconds of one thread's processor
time, the least of several turns taken in turn, so that other work on the machine matters little;
then wall time per image with two threads.

Then the arithmetic of `normalize` in numpy, and as Transpose, Cast, Mul and Sub in an ONNX graph.
What reduction does to the logits is bench_reduction.py's.
"""

import argparse
import io
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import simplejpeg
from bench_reduction import encoded, with_grain
from onnx import TensorProto, helper, numpy_helper
from PIL import ExifTags, Image, ImageOps
from textcam_service.core.preprocess import normalize
from textcam_service.imaging.decoding import DecodedImage, ImageLimits, decode, prepare
from textcam_service.runtime.backbone import Backbone

LIMITS = ImageLimits()
TURNS = 7
TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6
CASES = {
    "640x480 4:2:0": ((640, 480), {"subsampling": 2}),
    "640x480 4:4:4": ((640, 480), {"subsampling": 0}),
    "1280x720 4:2:0": ((1280, 720), {"subsampling": 2}),
    "1920x1080 4:2:0": ((1920, 1080), {"subsampling": 2}),
    "2560x1600 4:2:0": ((2560, 1600), {"subsampling": 2}),
    "4000x3000 4:2:0": ((4000, 3000), {"subsampling": 2}),
    "4000x3000 4:4:4": ((4000, 3000), {"subsampling": 0}),
    "4000x3000 progressive": ((4000, 3000), {"subsampling": 2, "progressive": True}),
    "4000x3000 grey": ((4000, 3000), {"mode": "L"}),
    "4000x3000 CMYK": ((4000, 3000), {"mode": "CMYK"}),
    "4000x3000 turned": ((4000, 3000), {"subsampling": 2, "exif": TURNED}),
    "6000x4000 4:2:0": ((6000, 4000), {"subsampling": 2}),
}


def ways(preprocessing):
    """Callables from a file to the network's input, by name."""

    def before(file):
        image = Image.open(io.BytesIO(file), formats=("JPEG", "PNG", "WEBP"))
        image.load()
        return prepare(ImageOps.exif_transpose(image).convert("RGB"), preprocessing)[0]

    def whole(file):
        return prepare(decode(file, LIMITS), preprocessing)[0]

    def here(file):
        return prepare(decode(file, LIMITS, preprocessing), preprocessing)[0]

    def turbo(file, reduction=1):
        # The header by Pillow, whose judgement of it imaging.py needs in any case.
        image = Image.open(io.BytesIO(file), formats=("JPEG", "PNG", "WEBP"))
        pixels = simplejpeg.decode_jpeg(
            file, min_height=-(-image.height // reduction), min_width=-(-image.width // reduction)
        )
        made = DecodedImage(Image.fromarray(pixels), "", image.height, image.width, reduction)
        return prepare(made, preprocessing)[0]

    def turbo_reduced(file):
        return turbo(file, decode(file, LIMITS, preprocessing).reduction)

    return {
        "before": before, "whole": whole, "here": here, "turbo": turbo,
        "turbo reduced": turbo_reduced,
    }  # fmt: skip


def time_ways(file, preprocessing, pool):
    calls = ways(preprocessing)
    if Image.open(io.BytesIO(file)).mode == "CMYK" or Image.open(io.BytesIO(file)).getexif():
        del calls["turbo"], calls["turbo reduced"]  # it hands on CMYK, and turns nothing upright
    else:
        reduction = decode(file, LIMITS, preprocessing).reduction
        turbo = calls["turbo"]
        calls["turbo reduced"] = lambda given: turbo(given, reduction)
    alone, two = dict.fromkeys(calls, np.inf), dict.fromkeys(calls, np.inf)
    for _ in range(TURNS):
        for name, call in calls.items():
            started = time.thread_time()
            call(file)
            alone[name] = min(alone[name], time.thread_time() - started)
    for _ in range(TURNS // 2):
        for name, call in calls.items():
            started = time.perf_counter()
            list(pool.map(call, [file] * 4))
            two[name] = min(two[name], (time.perf_counter() - started) / 4)
    return {name: (alone[name] * 1000, two[name] * 1000) for name in calls}


def cell(took, name):
    if name not in took:
        return f"{'-':>24}"
    alone, two = took[name]
    return f"{alone:>9.2f} |{two:>6.1f} {took['before'][0] / alone:>5.2f}x"


def speed(photo, preprocessing, rng):
    rows = []
    names = list(ways(preprocessing))
    print(f"{'ms of one | two threads':<26}" + "".join(f"{name:>24}" for name in names))
    with ThreadPoolExecutor(2) as pool:
        for case, (size, options) in CASES.items():
            image = with_grain(photo, max(size), rng).resize(size)
            file = encoded(image, **options)
            took = time_ways(file, preprocessing, pool)
            decoder = decode(file, LIMITS, preprocessing).decoder
            rows.append({"case": case, "bytes": len(file), "decoder": decoder, "ms": took})
            cells = [cell(took, name) for name in names]
            print(f"{case:<26}" + "".join(cells), decoder, flush=True)
    return rows


# --- arithmetic in the graph --------------------------------------------------------


def graph_session(preprocessing):
    """The arithmetic of `normalize` for (N, H, W, 3) uint8."""
    std, mean = (np.float32(value).reshape(1, 3, 1, 1) for value in
                 (preprocessing.std, preprocessing.mean))  # fmt: skip
    size = (preprocessing.height, preprocessing.width)
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["planes"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["values", "factor"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "shift"], ["input"]),
        ],
        "normalise",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", *size, 3])],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, *size])],
        [
            numpy_helper.from_array(np.float32(1 / 255) / std, "factor"),
            numpy_helper.from_array(mean / std, "shift"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def arithmetic(backbone):
    """Wall milliseconds of a batch; the graph runs with as many threads as there are CPUs."""
    preprocessing = backbone.manifest.preprocessing
    session = graph_session(preprocessing)
    rng = np.random.default_rng(0)
    rows = []
    print(f"\n{'ms a batch':<12}{'numpy':>9}{'graph':>9}{'network':>9}")
    for count in (1, 8):
        shape = (preprocessing.height, preprocessing.width, 3)
        pixels = [rng.integers(0, 256, shape, np.uint8) for _ in range(count)]
        made = np.stack([normalize(one, preprocessing) for one in pixels])
        calls = {
            "numpy": lambda pixels=pixels: np.stack([normalize(p, preprocessing) for p in pixels]),
            "graph": lambda pixels=pixels: session.run(None, {"pixels": np.stack(pixels)})[0],
            "network": lambda made=made: backbone.run(made),
        }
        assert (calls["numpy"]() == calls["graph"]()).all()
        least = dict.fromkeys(calls, np.inf)
        for _ in range(50):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                least[name] = min(least[name], (time.perf_counter() - started) * 1000)
        rows.append({"batch": count, **least})
        print(f"{count:<12}" + "".join(f"{ms:>9.3f}" for ms in least.values()))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    arguments = parser.parse_args()
    photos = sorted(arguments.photos.glob("*.jpg"))
    if not photos:
        sys.exit(f"SKIPPED: {arguments.photos} has no photographs; decoding was not measured")
    backbone = Backbone(arguments.backbone)
    report = {
        "speed": speed(photos[0], backbone.manifest.preprocessing, np.random.default_rng(0)),
        "arithmetic": arithmetic(backbone),
    }
    output = Path("build/bench/decode.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

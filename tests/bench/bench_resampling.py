"""Resampling with SIMD beside Pillow's: how fast, how near, and what it does to the answer.

    python tests/bench/bench_resampling.py [--photos ../shared/photos] [--count 400]

By size, of an RGB image down to the default backbone's input: milliseconds of one thread's
processor time, the least of several turns taken in turn ("one call": both directions at once, in
the library's own order). Then on photographs: the share of the input's values that differ from
Pillow's, the most levels of 255, the largest difference of any logit in standard deviations of the
image's logits, and in how many images the most probable class stays.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cykooz_resizer
import numpy as np
from PIL import Image
from textcam_service.core.preprocess import center_crop, normalize
from textcam_service.imaging import resampling
from textcam_service.imaging.decoding import ImageLimits, decode
from textcam_service.imaging.resampling import resample
from textcam_service.runtime.backbone import Backbone

SIZES = [(500, 375), (375, 500), (640, 480), (1280, 720), (1920, 1080), (4000, 3000)]
LIMITS, TURNS, BATCH = ImageLimits(), 9, 8


def pillow(image, size, interpolation, box):
    filtering = Image.Resampling[interpolation.upper()]
    return np.asarray(image.resize(size, filtering, box=box))


def one_call(image, size, interpolation, box):
    name = {"bicubic": "catmull_rom", "lanczos": "lanczos3"}.get(interpolation, interpolation)
    filtering = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType[name])
    crop = cykooz_resizer.CropBox(box[0], box[1], box[2] - box[0], box[3] - box[1])
    kind = cykooz_resizer.PixelType.U8x3
    source = cykooz_resizer.ImageData(*image.size, kind, image.tobytes())
    result = cykooz_resizer.ImageData(*size, kind)
    options = cykooz_resizer.ResizeOptions(filtering, crop_box=crop)
    cykooz_resizer.Resizer().resize(source, result, options)
    return np.frombuffer(result.get_buffer(), np.uint8).reshape(size[1], size[0], 3)


WAYS = {"pillow": pillow, "here": resample, "one call": one_call}


def asked(image, preprocessing):
    """What the network wants of an image: size, filter, box."""
    crop = center_crop(image.height, image.width, preprocessing)
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    return (preprocessing.width, preprocessing.height), preprocessing.interpolation, box


def timed(width, height, preprocessing):
    """Least milliseconds by way."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    image.load()
    wanted, least = asked(image, preprocessing), dict.fromkeys(WAYS, np.inf)
    for _ in range(TURNS):
        for name, way in WAYS.items():
            began = time.thread_time()
            way(image, *wanted)
            least[name] = min(least[name], (time.thread_time() - began) * 1000)
    return least


def inputs(images, preprocessing):
    """Pixels of the network's input by way: (N, H, W, 3)."""
    return {
        name: np.stack([way(image, *asked(image, preprocessing)) for image in images])
        for name, way in WAYS.items()
    }


def compared(photographs, backbone):
    """Differences to Pillow by way; an array each, over the photographs."""
    preprocessing = backbone.manifest.preprocessing
    found = {name: [] for name in WAYS if name != "pillow"}
    for start in range(0, len(photographs), BATCH):
        files = [path.read_bytes() for path in photographs[start : start + BATCH]]
        pixels = inputs([decode(file, LIMITS).pixels for file in files], preprocessing)
        logits = {
            name: backbone.run(np.stack([normalize(one, preprocessing) for one in own]))[0]
            for name, own in pixels.items()
        }
        reference = logits["pillow"]
        for name, rows in found.items():
            levels = np.abs(pixels[name].astype(int) - pixels["pillow"])
            moved = np.abs(logits[name] - reference).max(axis=1) / reference.std(axis=1)
            stays = logits[name].argmax(axis=1) == reference.argmax(axis=1)
            shares = (levels > 0).mean(axis=(1, 2, 3))
            rows.extend(zip(shares, levels.max(axis=(1, 2, 3)), moved, stays, strict=True))
    return {name: np.array(rows, float).T for name, rows in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("build/bench/resampling.json"))
    chosen = parser.parse_args()
    if resampling.simd is None:
        sys.exit("cykooz.resizer has no wheel for this processor: Pillow resamples here")
    backbone = Backbone(chosen.backbone)
    found = {"times": {}, "photographs": {}}
    print(f"{'image':>10}  " + "  ".join(f"{name:>8}" for name in WAYS) + "   times as fast")
    for width, height in SIZES:
        least = timed(width, height, backbone.manifest.preprocessing)
        found["times"][f"{width}x{height}"] = least
        numbers = "  ".join(f"{value:8.2f}" for value in least.values())
        print(f"{width:>5}x{height:<4}  {numbers}   {least['pillow'] / least['here']:.1f}")
    photographs = sorted(chosen.photos.rglob("*.jpg"))
    if not photographs:
        print(f"*** no photographs in {chosen.photos}: nothing is said of answers ***")
    chance = np.random.default_rng(0).permutation(len(photographs))[: chosen.count]
    for name, (shares, levels, moved, stays) in (
        compared([photographs[place] for place in chance], backbone) if photographs else {}
    ).items():
        row = {
            "photographs": len(stays),
            "values that differ": shares.mean(),
            "most levels": levels.max(),
            "logits, median": np.median(moved),
            "logits, 99 %": np.quantile(moved, 0.99),
            "logits, most": moved.max(),
            "same class": stays.mean(),
        }
        found["photographs"][name] = {key: float(value) for key, value in row.items()}
        print(f"{name}: " + ", ".join(f"{key} {float(value):.4g}" for key, value in row.items()))
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

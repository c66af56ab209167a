"""What decoding a JPEG at 1/2 or 1/4 of its size does to the answer, on the default backbone.

    python tests/bench/bench_reduction.py [--photos ../shared/photos] [--count 100] [--large FOLDER]

The largest difference of any logit, in standard deviations of the image's logits; whether the most
probable class stays, and by which margin (likewise) it led where it does not; whether the first
phrase stays, and the saliency map. "spare": pixels of the reduced image for one of the network's,
along each side; imaging.py keeps at least 3. Photographs smaller than wanted are enlarged and get
grain, for sharpness in every pixel; --large gives a folder of large ones, to cut pieces from.

The controls say what else moves logits so far: the same file saved once more at quality 95, and a
quarter of the network's input values moved by one level of 255.
"""

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import Prediction
from textcam_service.imaging.decoding import DecodedImage, ImageLimits, decode, prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import attribute, make_rationale

LIMITS = ImageLimits()
BANK = Path(__file__).parents[2] / "service" / "textcam_service" / "data" / "photos"
CASES = [(2, 2), (2, 3), (2, 4), (4, 3)]  # reduction, spare
GRAIN = 6.0  # levels of 255


def encoded(image, quality=90, mode="RGB", **options):
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def with_grain(path, shorter, rng):
    """A photograph of this shorter side; a smaller one is enlarged and gets grain."""
    image = Image.open(path).convert("RGB")
    enlarged = shorter / min(image.size)
    size = (round(image.width * enlarged), round(image.height * enlarged))
    if enlarged <= 1:
        return image.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32)
    grainy = pixels + rng.normal(0, GRAIN, pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(np.rint(grainy), 0, 255).astype(np.uint8))


def pieces(folder, shorter, count, rng):
    """Cut out of large photographs, taking turns."""
    large = [Image.open(path) for path in sorted(folder.rglob("*.jp*g"))]
    large = [
        image for image in large if image.width >= shorter * 4 // 3 and image.height >= shorter
    ]
    for place in range(count if large else 0):
        image = large[place % len(large)]
        width = shorter * 4 // 3
        left = int(rng.integers(image.width - width + 1))
        top = int(rng.integers(image.height - shorter + 1))
        yield image.crop((left, top, left + width, top + shorter)).convert("RGB")


def forms(image, spare, reduction, preprocessing, rng):
    """The network's input: as it is whole, reduced, and as the controls have it."""
    options = {"quality": int(rng.choice([75, 85, 92])), "subsampling": int(rng.choice([0, 1, 2]))}
    file = encoded(image, **options)
    whole = decode(file, LIMITS)
    draft = Image.open(io.BytesIO(file))
    draft.draft(None, (draft.width // reduction, draft.height // reduction))
    reduced = DecodedImage(draft.convert("RGB"), "", whole.height, whole.width, reduction)
    again = decode(encoded(whole.pixels, 95, subsampling=options["subsampling"]), LIMITS)
    here = decode(file, LIMITS, preprocessing)
    if spare >= 3:  # what imaging.py itself does
        assert here.reduction == reduction
        assert here.pixels.tobytes() == reduced.pixels.tobytes()
    reference = prepare(whole, preprocessing)[0]
    level = 1 / 255 / np.array(preprocessing.std).reshape(3, 1, 1)
    moved = rng.choice([-1, 0, 0, 0, 0, 0, 0, 1], reference.shape) * level
    return {
        "whole": reference,
        "reduced": prepare(reduced, preprocessing)[0],
        "saved again": prepare(again, preprocessing)[0],
        "one level": (reference + moved).astype(np.float32),
    }


def judged(bundle, reference, other):
    """How far one image's answer is off: logits, class, first phrase, saliency map."""
    top = int(reference.logits.argmax())
    first, second = np.sort(reference.logits)[[-1, -2]]
    explained = []
    for seen in (reference, other):
        target = Prediction(top, bundle.class_names[top], 0.0, float(seen.logits[top]))
        terms = attribute(
            bundle, seen, np.zeros(0, np.float32), target, None
        )  # of the linear head alone
        explained.append(make_rationale(bundle, seen, terms, target, None, PhraseFilter(5)))
    spread = float(reference.logits.std())
    maps = [found.saliency_map.ravel() for found in explained]
    first = [[phrase.text for phrase in found.phrases[:1]] for found in explained]
    return {
        "logit": float(np.abs(reference.logits - other.logits).max()) / spread,
        "top_logit": float(abs(reference.logits[top] - other.logits[top])) / spread,
        "top1": bool(other.logits.argmax() == top),
        "margin": float(first - second) / spread,
        "first_phrase": first[0] == first[1],
        "map_correlation": float(np.corrcoef(maps)[0, 1]),
    }


def tolerance(bundle, sources, cases):
    preprocessing = bundle.backbone.manifest.preprocessing
    rows = []
    print(
        f"{'max |logit difference| / std':<34}{'images':>7}{'median':>8}{'99 %':>8}{'most':>8}"
        f"{'same class':>12}{'margin lost':>13}{'first phrase':>14}{'map corr.':>11}"
    )
    for source, make in sources.items():
        for reduction, spare in cases:
            rng = np.random.default_rng(0)
            shorter = int(spare * preprocessing.resize * reduction)
            found = {}
            for image in make(shorter, rng):
                inputs = forms(image, spare, reduction, preprocessing, rng)
                reference, *others = bundle.backbone.forward(np.stack(list(inputs.values())))
                for name, other in zip(list(inputs)[1:], others, strict=True):
                    found.setdefault(name, []).append(judged(bundle, reference, other))
            for name, marks in found.items():
                case = f"{source} 1:{reduction}, {spare:g} spare: {name}"
                rows.append({"case": case, **summary(marks)})
                show(rows[-1])
    return rows


def summary(marks):
    logits = [mark["logit"] for mark in marks]
    lost = [mark["margin"] for mark in marks if not mark["top1"]]
    return {
        "images": len(marks),
        "median": float(np.median(logits)),
        "p99": float(np.percentile(logits, 99)),
        "most": max(logits),
        "most_top_logit": max(mark["top_logit"] for mark in marks),
        "top1": float(np.mean([mark["top1"] for mark in marks])),
        "widest_margin_lost": max(lost, default=0.0),
        "first_phrase": float(np.mean([mark["first_phrase"] for mark in marks])),
        "least_map_correlation": min(mark["map_correlation"] for mark in marks),
    }


def show(row):
    print(
        f"{row['case']:<34}{row['images']:>7}{row['median']:>8.3f}{row['p99']:>8.3f}"
        f"{row['most']:>8.3f}{row['top1']:>12.3f}{row['widest_margin_lost']:>13.3f}"
        f"{row['first_phrase']:>14.3f}{row['least_map_correlation']:>11.4f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--large", type=Path, help="folder of large photographs")
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    parser.add_argument("--count", type=int, default=100)
    arguments = parser.parse_args()
    photos = sorted(arguments.photos.glob("*.jpg"))
    if not photos:
        sys.exit(f"SKIPPED: {arguments.photos} has no photographs; reduction was not measured")
    bundle = ModelBundle.load("photos", arguments.backbone, BANK)
    count = arguments.count
    chosen = photos[:: max(1, len(photos) // count)][:count]
    sources = {"photos": lambda shorter, rng: (with_grain(p, shorter, rng) for p in chosen)}
    if arguments.large:
        sources["pieces"] = lambda shorter, rng: pieces(arguments.large, shorter, count, rng)
    report = tolerance(bundle, sources, CASES)
    output = Path("build/bench/reduction.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

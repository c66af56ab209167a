"""Are the classes called by their names? CLIP-Dissect's label accuracy of the final layer.

    python tests/bench/bench_labels.py [--shared ../shared] [--backbone build/backbone]

Units are the classes' logits over the probing set, concepts the class names (for the scenes also
their whole vocabulary). Photographs: EfficientNet-Lite0 with the packaged embedder, and the
pictures of ../shared as probing set. What was extracted of them stays in build/bench/labels.work,
so a second run takes three minutes and not thirteen.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench_truth import PROBING, RIVALS, WORK
from bench_truth import SETTINGS as SCENE_SETTINGS
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.core.rationale.phrases import center_texts
from textcam_service.offline.banks.build import probing_order
from textcam_service.offline.banks.extract import extract
from textcam_service.offline.dataset import ImageFolder
from textcam_service.offline.embedders.base import TEMPLATES, embed_with_templates
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.evaluation.neuron_labels import (
    neuron_label_metrics,
    neuron_label_ranks,
    own_ranks,
)
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.probing import render_probing_set
from textcam_service.scenes.world import vocabulary

OUTPUT = Path("build/bench")
EXTRACTED = OUTPUT / "labels.work"
SHRINKAGE = 0.8  # the default bank's
SAMPLES = (5, 20, 100, 200)  # 100 is CLIP-Dissect's, 200 the default bank's
MANY = 20  # classes that the backbone sees in so many pictures are judged apart too
CONTROL = "control: another class's unit (soft_wpmi)"
CAUTION = (
    "Flattering to every row of the photographs: the packaged embedder sees a picture through an\n"
    "ImageNet classifier's probabilities over these very classes."
)
REFERENCE = "reference: the class's own description"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    arguments = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    report = scenes()
    folders = [arguments.shared.resolve() / name for name in ("photos", "caltech")]
    absent = [path for path in (*folders, arguments.backbone) if not path.is_dir()]
    if not absent:
        report |= photographs(folders, arguments.backbone)
    for name, table in report.items():
        print_table(name, table)
    print(f"\n{CAUTION}")
    content = {"caution": CAUTION, **report}
    (OUTPUT / "labels.json").write_text(json.dumps(content, indent=1) + "\n")
    if absent:
        sys.exit(f"SKIPPED: {absent[0]} is not there; no labels of photographs were measured")


def scenes():
    """Concepts are the ten names, then the whole vocabulary, names among it."""
    folder = OUTPUT / "labels.backbone"
    export_network(load_network("scenes:classifier"), folder)
    backbone, embedder = Backbone(folder), load_embedder("scenes")
    images = render_probing_set(WORK / "probing", PROBING)
    with TemporaryDirectory() as work:  # rendered anew, they would never be found again
        logits, embeddings, _ = probe(images, backbone, embedder, Path(work))
    names, table = backbone.manifest.class_names, {}
    for concepts in (names, vocabulary()):
        texts = embed_with_templates(embedder, concepts, TEMPLATES)
        for common in ("kept", "removed"):
            for direction in ("lda", *RIVALS):
                settings = replace(
                    SCENE_SETTINGS, direction=direction, remove_common=common == "removed"
                )
                places = neuron_label_ranks(logits, embeddings, texts, concepts, names, settings)
                column = f"{len(concepts)} texts, common {common}"
                table.setdefault(direction, {}).update(shares(column, places))
    return {f"scenes: {len(names)} classes, M = {SCENE_SETTINGS.samples}": table}


def photographs(folders, backbone_folder):
    """Tables of all classes, and of those of which there are enough pictures."""
    backbone, embedder = Backbone(backbone_folder), load_embedder("packaged")
    images = ImageFolder.find(folders)
    logits, embeddings, predicted = probe(images, backbone, embedder, EXTRACTED)
    names = backbone.manifest.class_names
    texts = embed_with_templates(embedder, names, TEMPLATES)
    seen = np.bincount(predicted, minlength=len(names))
    judged = {
        f"photographs: {len(names)} classes, {(seen > 0).sum()} of them seen": seen >= 0,
        f"photographs: {(seen >= MANY).sum()} classes seen at least {MANY} times": seen >= MANY,
    }
    report = {name: {} for name in judged}

    def tell(row, samples, places):
        for name, which in judged.items():
            report[name].setdefault(row, {}).update(shares(f"M = {samples}", places[which]))

    for samples in SAMPLES:
        for row, settings in rows(samples).items():
            tell(
                row, samples, neuron_label_ranks(logits, embeddings, texts, names, names, settings)
            )
        other = ChannelSettings("soft_wpmi", samples)
        # Drawn, because neighbours in ImageNet's order are alike.
        moved = logits[:, np.random.default_rng(0).permutation(len(names))]
        tell(CONTROL, samples, neuron_label_ranks(moved, embeddings, texts, names, names, other))
        # What MiniLM and the names allow: units whose direction is what the embedder makes of a
        # picture that is surely of the class.
        own = embedder.class_embeddings @ center_texts(texts).T
        tell(REFERENCE, samples, own_ranks(own, names, names))
    return report


def rows(samples):
    """Settings by name; the common direction is removed, as in the default bank."""
    plain = ChannelSettings(samples=samples)
    return {
        f"lda, shrinkage {SHRINKAGE} (as the bank)": replace(plain, shrinkage=SHRINKAGE),
        "lda, Ledoit-Wolf": plain,
        **{direction: replace(plain, direction=direction) for direction in RIVALS},
    }


def probe(images, backbone, embedder, work):
    """The probing set in the bank builder's order: logits, embeddings, predicted classes."""
    done = [0]

    def progress(count):
        done[0] += count
        print(f"\r{done[0]} of {len(images)} images", end="", flush=True)

    seen = extract(images, backbone, embedder, work, progress)
    print()
    order = probing_order(seen.predicted, None)
    # The head is linear, and its input the mean of the maps.
    logits = seen.activation_scores[order] @ backbone.head_weights.T + backbone.head_bias
    return logits, seen.embeddings[order], seen.predicted[order]


def shares(column, places):
    figures = neuron_label_metrics(places)
    return {f"{column}: top 1": figures.top_1, f"{column}: top 5": figures.top_5}


def print_table(name, table):
    """Columns come in pairs, "of what: top 1" and "of what: top 5"."""
    columns = list(next(iter(table.values())))
    groups = [column.removesuffix(": top 1") for column in columns[::2]]
    first, width = max(map(len, table)) + 2, max(16, *map(len, groups)) + 2
    print(f"\n{name}\n" + " " * first + "".join(group.rjust(width) for group in groups))
    print(" " * first + "top 1   top 5".rjust(width) * len(groups))
    for row, values in table.items():
        shown = [f"{values[column]:.3f}" for column in columns]
        pairs = zip(shown[::2], shown[1::2], strict=True)
        print(row.ljust(first) + "".join("   ".join(pair).rjust(width) for pair in pairs))


if __name__ == "__main__":
    main()

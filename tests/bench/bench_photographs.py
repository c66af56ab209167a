"""Are the words right? 200 photographs of which every candidate phrase was judged by looking.

truth/photographs.json has, for each photograph, phrases pooled from several methods and from other
photographs, judged true, doubtful or false by people who did not know which method says what. What
was not judged counts as false. The photographs are split by the digest of their names: one half
chose every constant (tuning), the other reports. None of them is in the bank's probing set here,
which is otherwise the default bank's.

    python tests/bench/bench_photographs.py [--shared ../shared] [--backbone build/backbone]

Any CLIP repeats the tables, with a bank of its own:

    python tests/bench/bench_photographs.py --bank build/bench/clip-bank \\
        --embedder open_clip:ViT-B-32:laion2b_s34b_b79k
"""

import argparse
import csv
import hashlib
import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from textcam_service.artefacts.files import read_artefact
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.core.concepts.supports import contrasts, evidence_by_phrase
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.calibration_fitting import fit_calibration
from textcam_service.core.rationale.reliability import reliability
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.attribute_tables import matrix, packaged_table
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.banks.phrase_sources import PhraseSources, ground_phrases
from textcam_service.offline.banks.probing import Probing
from textcam_service.offline.dataset import ImageFolder, read_vocabulary
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.evaluation.cases import Case, explain_case, observed, terms_of
from textcam_service.runtime.backbone import Backbone

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "service" / "textcam_service" / "data" / "photos"
TRUTH = HERE / "truth" / "photographs.json"
SETS = ("photos", "imagenet-small", "sun-scenes", "food-tags")  # as `make bank`
JUDGED = (*SETS, "coco", "flickr8k", "pacs")
PHRASES = 5
TRUE, DOUBTFUL, FALSE = 1, 2, 0
LOOKS = ("part", "material", "texture", "colour", "shape")
BOOTSTRAPS, SWAPS = 1000, 20


def is_tuning(file):
    """Half of the photographs, by name."""
    return int(hashlib.sha256(file.encode()).hexdigest(), 16) % 2 == 0


def build(shared, backbone, embedder, output):
    """The default bank, or one of another embedder, without the photographs that judge."""
    judged = {entry["file"] for entry in json.loads(TRUTH.read_text())["images"]}
    images = [
        path
        for path in ImageFolder.find([shared / name for name in SETS])
        if path.relative_to(shared).as_posix() not in judged
    ]
    phrases, kinds = read_vocabulary(DATA / "vocabulary.txt")
    settings = BankSettings(ChannelSettings(samples=200, shrinkage=0.8), per_class=2, kinds=kinds)
    build_bank(backbone, embedder, images, phrases, output, settings)


class Photographs:
    """The truth, and what the network sees: n photographs, V phrases."""

    def __init__(self, shared, bundle):
        entries = json.loads(TRUTH.read_text())["images"]
        place = {phrase: index for index, phrase in enumerate(bundle.phrases)}
        self.truth = np.zeros((len(entries), len(place)), np.int8)
        for row, entry in enumerate(entries):
            self.truth[row, [place[phrase] for phrase in entry["phrases"]]] = TRUE
            self.truth[row, [place[phrase] for phrase in entry["doubtful"]]] = DOUBTFUL
        self.files = [entry["file"] for entry in entries]
        self.tuning = np.array([is_tuning(file) for file in self.files])
        cases = [Case(file, shared / file) for file in self.files]
        self.seen = [one for batch in observed(bundle, cases) for one in batch]


def said(bundle, photographs, phrase_filter=None):
    """Phrases, their probabilities and evidence, and the rest's, photograph by photograph."""
    phrase_filter = phrase_filter or PhraseFilter(PHRASES)
    return [explain_case(bundle, one, phrase_filter) for one in photographs.seen]


def figures(rationales, truth, bundle, alike, classes):
    """All figures of one half; rationales, truth and explained classes in the same order."""
    places = [[p.vocabulary_index for p in r.phrases] for r in rationales]
    marks = [truth[row, own] for row, own in enumerate(places)]
    rng = np.random.default_rng(0)

    def precision(rows):
        found = np.concatenate([marks[row] for row in rows] or [np.zeros(0)])
        return (found == TRUE).sum() / max(1, (found != DOUBTFUL).sum())

    rows = np.arange(len(places))
    drawn = [precision(rng.choice(rows, len(rows))) for _ in range(BOOTSTRAPS)]
    first = np.array([own[0] for own in marks if len(own)])
    kinds = np.array(bundle.kinds)
    looks = [
        bool(((own == TRUE) & np.isin(kinds[where], LOOKS)).any()) if len(own) else False
        for own, where in zip(marks, places, strict=True)
    ]
    chances = [np.array([p.probability or 0 for p in r.phrases]) for r in rationales]
    found = np.concatenate(marks) if sum(map(len, marks)) else np.zeros(0)
    clear = found != DOUBTFUL
    bins = reliability(np.concatenate(chances)[clear], found[clear] == TRUE) if clear.any() else ()
    count = sum(each.count for each in bins)
    named = [np.array([abs(p.evidence) for p in r.phrases]) for r in rationales]
    right = sum(own[mark == TRUE].sum() for own, mark in zip(named, marks, strict=True))
    judged = sum(own[mark != DOUBTFUL].sum() for own, mark in zip(named, marks, strict=True))
    whole = sum(own.sum() + abs(r.rest.evidence) for own, r in zip(named, rationales, strict=True))
    pairs = [alike[np.ix_(own, own)][np.triu_indices(len(own), 1)] for own in places if own]
    repeats = repeated(bundle, rationales, classes)
    return {
        "said": float(np.mean([len(own) for own in places])),
        "precision": precision(rows),
        "low": float(np.quantile(drawn, 0.025)),
        "high": float(np.quantile(drawn, 0.975)),
        "doubtful": float((found == DOUBTFUL).mean()) if len(found) else 0.0,
        "first": float((first == TRUE).sum() / max(1, (first != DOUBTFUL).sum())),
        "none": float(np.mean([not own for own in places])),
        "look": float(np.mean(looks)),
        "swapped": swapped(places, truth, rng),
        "ece": sum(abs(b.probability - b.observed) * b.count for b in bins) / max(1, count),
        "evidence_true": float(right / judged) if judged else float("nan"),
        "named": float(sum(own.sum() for own in named) / whole),
        "alike": float(np.mean(np.concatenate(pairs) > 0.55)) if pairs else 0.0,
        "repeats": repeats,
        "bins": [(round(b.probability, 3), round(b.observed, 3), b.count) for b in bins],
    }


def swapped(places, truth, rng):
    """Precision of the same lists judged on other photographs; what was not judged is false."""
    right = total = 0
    for _ in range(SWAPS):
        order = rng.permutation(len(places))
        for row, other in enumerate(order):
            if row != other and places[other]:
                marks = truth[row, places[other]]
                right += (marks == TRUE).sum()
                total += (marks != DOUBTFUL).sum()
    return right / max(1, total)


def repeated(bundle, rationales, classes):
    """Share of the said phrases that only repeat the explained class's name."""
    supports = bundle.artefact.bank.supports
    known = {tuple(pair) for pair in supports.repeats.tolist()}
    hits = [
        (index, p.vocabulary_index) in known
        for index, r in zip(classes, rationales, strict=True)
        for p in r.phrases
    ]
    return float(np.mean(hits)) if hits else 0.0


def with_settings(bundle, **settings):
    """The bundle with other settings of its words."""
    return replace(bundle, settings=replace(bundle.settings, **settings))


def shuffled(bundle, embedder, folder):
    """Control: each channel has another's supports, and the probabilities are fitted to them."""
    probing = Probing.of(read_artefact(folder, "probing")[0])
    sources = PhraseSources(probing, bundle.backbone, embedder)
    grounding = ground_phrases(sources, bundle.artefact.vocabulary)
    known = bundle.artefact.bank.supports
    order = np.random.default_rng(0).permutation(len(known.supports))
    rows = known.supports[order]
    projected = evidence_by_phrase(probing.evidence, rows)
    fitted = fit_calibration(projected, grounding.labels, grounding.prior, grounding.source)
    fitted = replace(fitted, temperature=known.calibration.temperature)
    bank = replace(bundle.artefact.bank, supports=replace(known, supports=rows, calibration=fitted))
    return replace(bundle, artefact=replace(bundle.artefact, bank=bank)), fitted.slope


def ungated(bundle):
    """Rival: the same probabilities, said whether or not the evidence speaks for a phrase."""
    bank = bundle.artefact.bank
    calibration = Ungated(
        **{f.name: getattr(bank.supports.calibration, f.name) for f in fields(Calibration)}
    )
    bank = replace(bank, supports=replace(bank.supports, calibration=calibration))
    return replace(bundle, artefact=replace(bundle.artefact, bank=bank))


class Ungated(Calibration):
    """Lets every phrase be said; its score counts as at least a little."""

    def scores(self, projected):
        return np.maximum(super().scores(projected), 0.05)

    def is_supported(self, scores, min_odds):
        return self.grounded.copy()


def lookup(bundle, photographs):
    """Rival: the best phrases of the predicted class's row of the table, by nothing else."""
    table = matrix(packaged_table(), bundle.phrases, len(bundle.class_names))
    repeats = bundle.artefact.bank.supports.repeats
    found = []
    for one in photographs.seen:
        row = table[one.prediction.class_index].copy()
        row[repeats[repeats[:, 0] == one.prediction.class_index, 1]] = 0
        found.append(np.argsort(-row, kind="stable")[:PHRASES].tolist())
    return found


def maps(bundle, photographs):
    """Medians: of the relative maps' correlation between two halves of the channels, with each
    other and with the whole map; and the same of the additive group maps."""
    rng = np.random.default_rng(0)
    halves, pairs, whole, added, added_whole = [], [], [], [], []
    for one in photographs.seen:
        rationale = explain_case(bundle, one, PHRASES)
        indices = np.array([p.vocabulary_index for p in rationale.phrases])
        if not len(indices):
            continue
        sizes = np.abs(terms_of(bundle, one).weights)
        rows = contrasts(bundle.wording.supports(indices)) * sizes
        half = rng.permutation(len(sizes)) % 2 == 0
        parts = [np.tensordot(rows * own, one.activation_maps, 1) for own in (half, ~half)]
        halves += [correlation(*pair) for pair in zip(*parts, strict=True)]
        relative = [g.relative_map for g in rationale.groups]
        group = [g.saliency_map for g in rationale.groups]
        for kind, other, among in ((relative, whole, pairs), (group, added_whole, added)):
            other += [correlation(own, rationale.saliency_map) for own in kind]
            among += [correlation(kind[i], kind[j]) for i in range(len(kind)) for j in range(i)]
    names = ("halves", "pairs", "with_whole", "group_pairs", "group_with_whole")
    found = (halves, pairs, whole, added, added_whole)
    return {name: float(np.nanmedian(own)) for name, own in zip(names, found, strict=True)}


def correlation(one, two):
    """Pearson's; nan where one of them is the same everywhere."""
    one, two = one.ravel() - one.mean(), two.ravel() - two.mean()
    length = np.linalg.norm(one) * np.linalg.norm(two)
    return float(one @ two / length) if length else float("nan")


def by_kind(bundle, rationales, truth):
    """Count and precision of what is said, by kind."""
    found = {}
    for row, rationale in enumerate(rationales):
        for phrase in rationale.phrases:
            found.setdefault(phrase.kind, []).append(truth[row, phrase.vocabulary_index])
    return {
        kind: (len(own), sum(m == TRUE for m in own) / max(1, sum(m != DOUBTFUL for m in own)))
        for kind, own in sorted(found.items())
    }


def right_or_wrong(shared, photographs, rationales):
    """Precision where the network's class is the data set's, and where it is another."""
    labels = {}
    with (shared / "photos" / "labels.csv").open() as file:
        labels = {f"photos/{r['file']}": int(r["class_index"]) for r in csv.DictReader(file)}
    found = {True: [], False: []}
    for row, file in enumerate(photographs.files):
        if file in labels:
            hit = photographs.seen[row].prediction.class_index == labels[file]
            own = [p.vocabulary_index for p in rationales[row].phrases]
            found[hit] += photographs.truth[row, own].tolist()
    return {
        name: float(sum(m == TRUE for m in found[hit]))
        / max(1, sum(m != DOUBTFUL for m in found[hit]))
        for name, hit in (("right", True), ("wrong", False))
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    parser.add_argument("--bank", type=Path, default=Path("build/bench/photographs-bank"))
    parser.add_argument("--embedder", default="packaged", help="with a --bank of its own")
    arguments = parser.parse_args()
    for name in JUDGED:
        if not (arguments.shared / name).is_dir():
            sys.exit(f"SKIPPED: {arguments.shared / name} is not there; words were not measured")
    embedder = load_embedder(arguments.embedder)
    if not arguments.bank.is_dir():
        arguments.bank.parent.mkdir(parents=True, exist_ok=True)
        build(arguments.shared, Backbone(arguments.backbone), embedder, arguments.bank)
    bundle = ModelBundle.load("photographs", arguments.backbone, arguments.bank)
    plain = embedder.embed_texts(list(bundle.phrases))
    photographs = Photographs(arguments.shared, bundle)
    control, slope = shuffled(bundle, embedder, arguments.bank)
    rows = {
        "by supports (default)": said(bundle, photographs),
        "min_probability 0.6": said(with_settings(bundle, min_probability=0.6), photographs),
        "min_probability 0.85": said(with_settings(bundle, min_probability=0.85), photographs),
        "evidence need not speak for it": said(ungated(bundle), photographs),
        "names of the class allowed": said(
            bundle, photographs, PhraseFilter(PHRASES, repeat_class=True)
        ),
        f"control: channels shuffled, refitted (slope {slope:.2f})": said(control, photographs),
        "LDA, sparse choice": said(with_settings(bundle, wording="embeddings"), photographs),
    }
    classes = np.array([one.prediction.class_index for one in photographs.seen])
    report = {}
    for half, chosen in (("tuning", photographs.tuning), ("reporting", ~photographs.tuning)):
        places = np.flatnonzero(chosen)
        truth = photographs.truth[places]
        print(f"\n{half}: {len(places)} photographs")
        for name, rationales in rows.items():
            own = [rationales[place] for place in places]
            found = figures(own, truth, bundle, plain @ plain.T, classes[places])
            report[f"{half}: {name}"] = found
            numbers = {k: v for k, v in found.items() if k != "bins"}
            print(f"{name:<52}" + "  ".join(f"{k} {v:.3f}" for k, v in numbers.items()))
        table = [lookup(bundle, photographs)[place] for place in places]
        marks = np.concatenate([truth[row, own] for row, own in enumerate(table)])
        right = (marks == TRUE).sum() / (marks != DOUBTFUL).sum()
        print(f"{'rival: the class in the table':<52}said {PHRASES:.3f}  precision {right:.3f}")
        own = [rows["by supports (default)"][place] for place in places]
        kinds = by_kind(bundle, own, truth).items()
        print("by kind", {kind: (n, round(float(p), 2)) for kind, (n, p) in kinds})
        print("reliability", report[f"{half}: by supports (default)"]["bins"])
    report["by class right"] = right_or_wrong(
        arguments.shared, photographs, rows["by supports (default)"]
    )
    report["maps"] = maps(bundle, photographs)
    print("\nnetwork right or wrong", report["by class right"], "\nmaps", report["maps"])
    output = Path("build/bench/photographs.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

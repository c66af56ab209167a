"""Do words hold up for a fine-tuned head? Birds, a head for 35 species, their 312 attributes.

    python tests/bench/bench_birds.py [--birds ../shared/cub-200-2011] [--backbone build/backbone]

A logistic regression on EfficientNet-Lite0's trunk is written as a backbone; two thirds of each
species train it and build its bank, with their labels and the species' attributes. Truth of a
photograph: its species' attributes, >= 50 % of annotations true, < 10 % false, between left out.
--min-probability was chosen on every other held-out photograph; the others report.

A lookup of the predicted species' row cannot be beaten where the head is right, and the commonest
phrases are nearly always true: so rare phrases count (true of under 30 % of species), and the same
lists on birds of other predicted species. "Without the explained species": supports, null,
calibration and likeness of the other species' photographs, weights and attributes only. "Never
trained": seven heads, each without five of the species, which it then is asked about.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from birds import (
    FALSE,
    TRUE,
    activation_scores,
    fit_head,
    read_birds,
    split,
    table_of,
    write_backbone,
)
from textcam_service.backbone import Backbone
from textcam_service.core.calibration import fit_calibration, reliability
from textcam_service.core.channels import ChannelSettings
from textcam_service.core.supports import (
    correlations,
    evidence_by_phrase,
    likeness,
    phrase_supports,
)
from textcam_service.core.types import RationaleSettings, Wish
from textcam_service.core.wording import PhraseSupports, SupportWording, stored_likeness
from textcam_service.offline.build import build_bank
from textcam_service.offline.embed import load_embedder
from textcam_service.offline.grounding import by_labels
from textcam_service.offline.phrases import Tables

OUTPUT = Path("build/bench")
COUNT = 5  # phrases at most
DEFAULT, CHOSEN = RationaleSettings().min_probability, 0.5
SWEEP = (0.3, 0.35, 0.4, 0.5, 0.6, DEFAULT)
NEVER = 5  # species that a head is never trained on, of each of the seven
ALIKE = 0.6  # correlation over species above which a lookup takes a phrase for said


@dataclass(frozen=True)
class Head:
    """A linear head over some species of all: weights (c, D), bias (c,), species (c,)."""

    weights: np.ndarray
    bias: np.ndarray
    species: np.ndarray

    def logits(self, scores):
        return scores @ self.weights.T + self.bias

    def without(self, index):
        keep = np.arange(len(self.species)) != index
        return Head(self.weights[keep], self.bias[keep], self.species[keep])


@dataclass(frozen=True)
class Probed:
    """Probing photographs: scores (N, D), evidence for what the head predicts, label of each."""

    scores: np.ndarray
    evidence: np.ndarray
    labels: np.ndarray


def probed(head, scores, species):
    """What a bank builder sees of photographs whose species the head all has."""
    own = head.weights[head.logits(scores).argmax(axis=1)] * scores
    return Probed(scores, own, np.searchsorted(head.species, species))


def made(birds, head, seen, *, of_head=True, shuffled=False):
    """Supports of a head, as offline.phrases.bank_supports makes them with labels.

    Args:
        birds: For their attributes.
        head: The explained one, or without the explained species.
        seen: Probing photographs of its species.
        of_head: Whether its weights count; else the photographs alone.
        shuffled: Control: which channel supports what is drawn anew.
    """
    shares = np.eye(len(head.species), dtype=np.float32)[seen.labels]
    opinions = by_labels(shares, table_of(birds, head.species), birds.phrases, labelled=True)
    weights = head.weights if of_head else None
    supports = phrase_supports(seen.scores, opinions.values, weights, opinions.table)
    if shuffled:
        supports = supports[np.random.default_rng(0).permutation(len(supports))]
    projected = evidence_by_phrase(seen.evidence, supports)
    calibration = fit_calibration(projected, opinions.labels, opinions.prior, opinions.source)
    none = np.zeros((0, 2), np.int64)
    alike = stored_likeness(likeness(opinions.alike, supports))
    return PhraseSupports(supports, alike, calibration, none, none)


def others(head, seen, index):
    """A head and its probing photographs without one of its species."""
    keep = seen.labels != index
    labels = seen.labels[keep]
    less = Probed(seen.scores[keep], seen.evidence[keep], labels - (labels > index))
    return head.without(index), less


def say(birds, head, scores, supports, least, rules):
    """Lists of (phrases, probabilities) of photographs, by supports of each predicted species.

    Args:
        birds: For the kinds of phrases.
        head: The explained one.
        scores: (N, D).
        supports: By the predicted one of the head's species.
        least: --min-probability.
        rules: The product's bank's `apart` and `repeats`, of all species.
    """
    settings = RationaleSettings(min_probability=least)
    apart, repeats = rules
    place = {species: index for index, species in enumerate(head.species.tolist())}
    own = [(place[species], phrase) for species, phrase in repeats.tolist() if species in place]
    repeats = np.array(own, np.int64).reshape(-1, 2)
    said, wordings = [], {}
    for own in scores:
        logits = head.logits(own)
        index = int(logits.argmax())
        if index not in wordings:
            found = replace(supports(index), apart=apart, repeats=repeats)
            wordings[index] = SupportWording(found, birds.kinds, settings)
        evidence = (head.weights[index] * own).astype(np.float64)
        choice = wordings[index].choose(evidence, logits, index, Wish(COUNT))
        said.append((choice.indices, choice.probabilities))
    return said


def looked_up(birds, values, alike):
    """A lookup: what is most true, one phrase of a group of attributes, none alike."""
    chosen = []
    for column in np.argsort(-values, kind="stable"):
        if values[column] < TRUE or len(chosen) == COUNT:
            break
        same_group = birds.groups[column] in birds.groups[chosen]
        if not same_group and not (alike[column, chosen] > ALIKE).any():
            chosen.append(int(column))
    places = np.array(chosen, np.int64)
    return places, values[places]


def judge(birds, said, species, predicted, *, units=None):
    """Figures of lists, with 95 % of a bootstrap over photographs, or over `units` of them."""
    rare, truth = birds.rare, birds.percent[species]
    right, sure = truth >= TRUE, (truth >= TRUE) | (truth < FALSE)
    sums = {name: np.zeros((len(said), 2)) for name in ("precision", "strict", "rare_precision")}
    sums |= {name: np.zeros((len(said), 2)) for name in ("swapped", "rare_swapped")}
    for row, (places, _) in enumerate(said):
        few, other = places[rare[places]], predicted != predicted[row]
        sums["strict"][row] = right[row, places].sum(), len(places)
        for name, own in (("precision", places), ("rare_precision", few)):
            sums[name][row] = right[row, own].sum(), sure[row, own].sum()
        for name, own in (("swapped", places), ("rare_swapped", few)):
            sums[name][row] = [x[other][:, own].sum() / other.sum() for x in (right, sure)]
    counts = np.array([[len(p), rare[p].sum(), rare[p].any(), not len(p)] for p, _ in said], float)
    figures = dict(
        zip(("said", "rare_said", "some_rare", "none"), counts.mean(axis=0), strict=True)
    )
    units = np.arange(len(said)) if units is None else np.unique(units, return_inverse=True)[1]
    drawn = np.random.default_rng(0).integers(0, units.max() + 1, (1000, units.max() + 1))
    for name, own in sums.items():
        total = own.sum(axis=0)
        by_unit = np.stack([np.bincount(units, column) for column in own.T], axis=1)
        again = by_unit[drawn].sum(axis=1)
        shares = again[:, 0] / np.maximum(again[:, 1], 1e-9)
        figures[name] = total[0] / total[1] if total[1] else float("nan")
        figures[f"{name}_interval"] = np.quantile(shares, (0.025, 0.975)).tolist()
    return {name: np.asarray(value).tolist() for name, value in figures.items()}


COLUMNS = ("said", "precision", "strict", "rare_said", "rare_precision", "swapped", "rare_swapped")


def show(title, table):
    first = max(map(len, table)) + 2
    print(f"\n{title}\n{'':{first}}" + "".join(column.rjust(22) for column in COLUMNS))
    for name, figures in table.items():
        cells = []
        for column in COLUMNS:
            low, high = figures.get(f"{column}_interval", (None, None))
            between = "" if low is None or np.isnan(low) else f" [{low:.2f} {high:.2f}]"
            cells.append(f"{figures[column]:.3f}{between}".rjust(22))
        print(f"{name:{first}}" + "".join(cells))


def expected_error(bins):
    return sum(abs(b.probability - b.observed) * b.count for b in bins) / sum(b.count for b in bins)


def known(birds, scores, train, bundle):
    """Held-out photographs of species that the head knows."""
    head, product = bundle
    seen = probed(head, scores[train], birds.species[train])
    held = np.flatnonzero(~train)
    halves = {"tuning": held[0::2], "reporting": held[1::2]}
    predicted = head.logits(scores).argmax(axis=1)
    alike, rules = correlations(birds.percent, birds.percent), (product.apart, product.repeats)
    photographs, shuffled = (
        made(birds, head, seen, of_head=False),
        made(birds, head, seen, shuffled=True),
    )
    less = [made(birds, *others(head, seen, index)) for index in head.species]
    less_photographs = [
        made(birds, *others(head, seen, index), of_head=False) for index in head.species
    ]
    report = {}

    def told(rows, supports, least):
        said = say(birds, head, scores[rows], supports, least, rules)
        return judge(birds, said, birds.species[rows], predicted[rows])

    for half, rows in halves.items():
        wrong = rows[predicted[rows] != birds.species[rows]]
        accuracy = 1 - len(wrong) / len(rows)
        ways = {f"product, {least}": (lambda _: product, least) for least in SWEEP}
        if half == "reporting":
            ways |= {
                "by photographs alone": (lambda _: photographs, CHOSEN),
                "channels shuffled, refitted": (lambda _: shuffled, CHOSEN),
                "without the explained species": (less.__getitem__, CHOSEN),
                "the same, by photographs alone": (less_photographs.__getitem__, CHOSEN),
            }
        table = {name: told(rows, *way) for name, way in ways.items()}
        rows_of = {"lookup of the predicted species": birds.percent[predicted[rows]]}
        rows_of["the commonest phrases"] = np.tile(birds.percent.mean(axis=0), (len(rows), 1))
        for name, values in rows_of.items():
            said = [looked_up(birds, own, alike) for own in values]
            table[name] = judge(birds, said, birds.species[rows], predicted[rows])
        title = f"held out, {half}: {len(rows)} birds, accuracy {accuracy:.3f}"
        show(title, table)
        report[title] = table
    wrong = held[predicted[held] != birds.species[held]]
    table = {
        f"product, {CHOSEN}": told(wrong, lambda _: product, CHOSEN),
        f"product, {DEFAULT}": told(wrong, lambda _: product, DEFAULT),
        "without the explained species": told(wrong, less.__getitem__, CHOSEN),
    }
    said = [looked_up(birds, own, alike) for own in birds.percent[predicted[wrong]]]
    table["lookup of the predicted species"] = judge(
        birds, said, birds.species[wrong], predicted[wrong]
    )
    title = f"held out, both halves, where the head is wrong: {len(wrong)} birds"
    show(title, table)
    report[title] = table
    report["reliability"] = reliabilities(birds, head, scores, halves["reporting"], product, less)
    return report


def reliabilities(birds, head, scores, rows, product, less):
    """Probability against the share of annotations, of what is said and could be said."""
    report, rules = {}, (product.apart, product.repeats)
    for name, supports in (("product", lambda _: product), ("without", less.__getitem__)):
        for least in (0.0, CHOSEN):
            said = say(birds, head, scores[rows], supports, least, rules)
            truth = [
                birds.percent[birds.species[row]][p] for row, (p, _) in zip(rows, said, strict=True)
            ]
            bins = reliability(np.concatenate([p for _, p in said]), np.concatenate(truth))
            own = [(b.lower, round(b.probability, 3), round(b.observed, 3), b.count) for b in bins]
            report[f"{name}, {least}"] = {"expected_error": expected_error(bins), "bins": own}
            print(f"\nreliability, {name}, said from {least}: error {expected_error(bins):.3f}")
            print("  ".join(f"{p:.2f}:{o:.2f} ({n})" for _, p, o, n in own))
    return report


def never_trained(birds, scores, train, rules):
    """All species in turn, each asked of a head that was trained without it."""
    alike = correlations(birds.percent, birds.percent)
    parts = np.random.default_rng(0).permutation(len(birds.names)).reshape(-1, NEVER)
    found = {}

    def keep(name, said):
        found.setdefault(name, []).extend(said)

    all_rows, all_predicted = [], []
    for number, never in enumerate(parts):
        print(f"\rhead {number + 1} of {len(parts)}", end="", flush=True)
        strange = np.isin(birds.species, never)
        own, rows = train & ~strange, np.flatnonzero(strange)
        species = np.setdiff1d(np.arange(len(birds.names)), never)
        head = Head(*fit_head(scores[own], birds.species[own]), species)
        seen = probed(head, scores[own], birds.species[own])
        product, shuffled = made(birds, head, seen), made(birds, head, seen, shuffled=True)
        photographs = made(birds, head, seen, of_head=False)
        answers = head.logits(scores[rows]).argmax(axis=1)
        explained = np.unique(answers)
        less = {index: made(birds, *others(head, seen, index)) for index in explained}
        less_photographs = {
            index: made(birds, *others(head, seen, index), of_head=False) for index in explained
        }
        for name, supports, least in (
            (f"product, {CHOSEN}", lambda _, own=product: own, CHOSEN),
            (f"product, {DEFAULT}", lambda _, own=product: own, DEFAULT),
            ("by photographs alone", lambda _, own=photographs: own, CHOSEN),
            ("channels shuffled, refitted", lambda _, own=shuffled: own, CHOSEN),
            ("without the explained species", less.__getitem__, CHOSEN),
            (f"the same, {DEFAULT}", less.__getitem__, DEFAULT),
            ("the same, by photographs alone", less_photographs.__getitem__, CHOSEN),
        ):
            keep(name, say(birds, head, scores[rows], supports, least, rules))
        for values in birds.percent[species[answers]]:
            keep("lookup of the predicted species", [looked_up(birds, values, alike)])
        commonest = looked_up(birds, birds.percent[species].mean(axis=0), alike)
        keep("the commonest phrases", [commonest] * len(rows))
        all_rows.append(rows)
        all_predicted.append(species[answers])
    rows, predicted = np.concatenate(all_rows), np.concatenate(all_predicted)
    true = birds.species[rows]
    table = {name: judge(birds, said, true, predicted, units=true) for name, said in found.items()}
    title = f"never trained: {len(rows)} birds of {len(birds.names)} species, by {len(parts)} heads"
    show(title, table)
    return {title: table}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--birds", type=Path, default=Path("../shared/cub-200-2011"))
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    arguments = parser.parse_args()
    for path in (arguments.birds / "labels.csv", arguments.backbone / "backbone.json"):
        if not path.is_file():
            sys.exit(f"SKIPPED: {path} is not there; birds were not measured")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    birds = read_birds(arguments.birds)
    scores = activation_scores(arguments.backbone, birds.paths, OUTPUT / "birds.npz")
    train, everything = split(birds.species), np.arange(len(birds.names))
    head = Head(*fit_head(scores[train], birds.species[train]), everything)
    print(write_backbone(head.weights, head.bias, birds.names, OUTPUT / "birds.backbone"))
    backbone = Backbone(OUTPUT / "birds.backbone", threads=1)
    paths = [birds.paths[row] for row in np.flatnonzero(train)]
    labels = dict(zip(paths, birds.species[train].tolist(), strict=True))
    artefact, _ = build_bank(
        backbone,
        load_embedder("packaged"),
        paths,
        birds.phrases,
        OUTPUT / "birds.bank",
        ChannelSettings(),
        kinds=birds.kinds,
        tables=Tables(own=table_of(birds, everything)),
        labels=labels,
    )
    product = artefact.bank.supports
    calibration = product.calibration
    print(
        f"source {calibration.source}, slope {calibration.slope:.3f}, expected calibration error "
        f"{calibration.expected_error:.3f} on {calibration.images} probing photographs"
    )
    assert np.allclose(head.weights, backbone.head_weights)
    report = known(birds, scores, train, (head, product))
    report |= never_trained(birds, scores, train, (product.apart, product.repeats))
    (OUTPUT / "birds.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Do words hold up for a fine-tuned head? Birds, a head for 35 species, their 312 attributes.

    python tests/bench/bench_birds.py [--birds ../shared/cub-200-2011] [--backbone build/backbone]

A logistic regression on EfficientNet-Lite0's trunk is written as a backbone; two thirds of each
species train it and build its bank, with their labels and the species' attributes. Truth of a
photograph: its species' attributes, >= 50 % of annotations true, < 10 % false, between left out.
--min-probability and --min-odds were chosen on every other held-out photograph; the others report.

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
from textcam_service.core.concepts.supports import (
    correlations,
    evidence_by_phrase,
    likeness,
    phrase_supports,
)
from textcam_service.core.rationale.calibration_fitting import fit_calibration
from textcam_service.core.rationale.reliability import reliability
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports, SupportWording, stored_likeness
from textcam_service.offline.banks.attribute_tables import GRADES, Tables
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.banks.grounding import by_labels
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.runtime.backbone import Backbone

OUTPUT = Path("build/bench")
COUNT = 5  # phrases at most
DEFAULT = RationaleSettings()
# Of --min-probability and --min-odds; the last reaches every mark on the tuning photographs.
PLAIN, LEAST, GENTLE, CHOSEN = (
    RationaleSettings(min_probability=least, min_odds=odds)
    for least, odds in ((0.5, DEFAULT.min_odds), (0.35, 3.0), (0.5, 2.0), (0.5, 6.0))
)
SHUFFLED = 10  # draws
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


def made(birds, head, seen, *, of_head=True, shuffled=None, table=None):
    """Supports of a head, as offline.phrases.bank_supports makes them with labels.

    Args:
        birds: For their attributes.
        head: The explained one, or without the explained species.
        seen: Probing photographs of its species.
        of_head: Whether its weights count; else the photographs alone.
        shuffled: Control: a seed, by which it is drawn anew which channel supports what.
        table: In place of the attributes' own.
    """
    shares = np.eye(len(head.species), dtype=np.float32)[seen.labels]
    table = table_of(birds, head.species) if table is None else table
    grounding = by_labels(shares, table, birds.phrases, labelled=True)
    weights = head.weights if of_head else None
    supports = phrase_supports(seen.scores, grounding.values, weights, grounding.table)
    if shuffled is not None:
        supports = supports[np.random.default_rng(shuffled).permutation(len(supports))]
    projected = evidence_by_phrase(seen.evidence, supports)
    calibration = fit_calibration(projected, grounding.labels, grounding.prior, grounding.source)
    none = np.zeros((0, 2), np.int64)
    alike = stored_likeness(likeness(grounding.alike, supports))
    return PhraseSupports(supports, alike, calibration, none, none)


def others(head, seen, index):
    """A head and its probing photographs without one of its species."""
    keep = seen.labels != index
    labels = seen.labels[keep]
    less = Probed(seen.scores[keep], seen.evidence[keep], labels - (labels > index))
    return head.without(index), less


def say(birds, head, scores, supports, settings, rules):
    """Lists of (phrases, probabilities) of photographs, by supports of each predicted species.

    Args:
        birds: For the kinds of phrases.
        head: The explained one.
        scores: (N, D).
        supports: By the predicted one of the head's species.
        settings: Of the choice.
        rules: The product's bank's `apart` and `repeats`, of all species.
    """
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
        choice = wordings[index].choose(evidence, logits, index, PhraseFilter(COUNT))
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
    """Figures of lists, with 95 % of a bootstrap over photographs, or over `units` of them.

    With `units`, "rare_again" holds the bootstrap's own shares, to be compared pairwise.
    """
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
    by = np.unique(np.arange(len(said)) if units is None else units, return_inverse=True)[1]
    drawn = np.random.default_rng(0).integers(0, by.max() + 1, (1000, by.max() + 1))
    for name, own in sums.items():
        total = own.sum(axis=0)
        by_unit = np.stack([np.bincount(by, column) for column in own.T], axis=1)
        again = by_unit[drawn].sum(axis=1)
        shares = again[:, 0] / np.maximum(again[:, 1], 1e-9)
        figures[name] = total[0] / total[1] if total[1] else float("nan")
        figures[f"{name}_interval"] = np.quantile(shares, (0.025, 0.975)).tolist()
        if units is not None and name == "rare_precision":
            figures["rare_again"] = shares
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


def known(birds, scores, train, head, product):
    """Held-out photographs of species that the head knows."""
    seen = probed(head, scores[train], birds.species[train])
    held = np.flatnonzero(~train)
    halves = {"tuning": held[0::2], "reporting": held[1::2]}
    predicted = head.logits(scores).argmax(axis=1)
    alike, rules = correlations(birds.percent, birds.percent), (product.apart, product.repeats)
    every = head.species
    less = [made(birds, *others(head, seen, index)) for index in every]
    less_photographs = [made(birds, *others(head, seen, i), of_head=False) for i in every]
    photographs = made(birds, head, seen, of_head=False)
    graded = made(birds, head, seen, table=graded_table(birds))
    report = {}

    def told(rows, ways):
        said = {
            name: say(birds, head, scores[rows], supports, settings, rules)
            for name, (supports, settings) in ways.items()
        }
        rows_of = birds.percent[predicted[rows]]
        said["lookup of the predicted species"] = [looked_up(birds, own, alike) for own in rows_of]
        common = looked_up(birds, birds.percent.mean(axis=0), alike)
        said["the commonest phrases"] = [common] * len(rows)
        return {
            name: judge(birds, own, birds.species[rows], predicted[rows])
            for name, own in said.items()
        }

    def product_ways(*all_settings):
        return {f"product, {_named(own)}": (lambda _: product, own) for own in all_settings}

    sweep = product_ways(DEFAULT, PLAIN, LEAST, GENTLE, CHOSEN)
    further = {
        "by photographs alone, chosen": (lambda _: photographs, CHOSEN),
        "by a table of two grades, chosen": (lambda _: graded, CHOSEN),
        f"without the explained species, {_named(PLAIN)}": (less.__getitem__, PLAIN),
        f"without the explained species, {_named(GENTLE)}": (less.__getitem__, GENTLE),
        "without the explained species, chosen": (less.__getitem__, CHOSEN),
        "the same, by photographs alone": (less_photographs.__getitem__, CHOSEN),
    }
    for half, rows in halves.items():
        accuracy = (predicted[rows] == birds.species[rows]).mean()
        table = told(rows, sweep if half == "tuning" else sweep | further)
        if half == "reporting":
            table |= shuffled_rows(birds, head, scores, seen, rows, rules)
        title = f"held out, {half}: {len(rows)} birds, accuracy {accuracy:.3f}"
        show(title, table)
        report[title] = table
    wrong = held[predicted[held] != birds.species[held]]
    ways = product_ways(DEFAULT, GENTLE, CHOSEN)
    ways["without the explained species, chosen"] = (less.__getitem__, CHOSEN)
    title = f"held out, both halves, where the head is wrong: {len(wrong)} birds"
    report[title] = told(wrong, ways)
    show(title, report[title])
    ways = {"product": lambda _: product, "without the explained species": less.__getitem__}
    report["reliability"] = reliabilities(birds, head, scores, halves["reporting"], ways, rules)
    return report


def _named(settings):
    chosen = ", chosen" if settings == CHOSEN else ""
    return f"{settings.min_probability} x {settings.min_odds}{chosen}"


def graded_table(birds):
    """As a table without percentages says it: nearly always from 70 % on, often from 35 %."""
    grades = [*GRADES.values()]
    rounded = np.where(birds.percent >= 0.7, grades[0], grades[1] * (birds.percent >= 0.35))
    return table_of(replace(birds, percent=rounded), np.arange(len(birds.names)))


def shuffled_rows(birds, head, scores, seen, rows, rules):
    """What shuffled channels say, over some draws: few classes let chance look like a slope."""
    controls = [made(birds, head, seen, shuffled=seed) for seed in range(SHUFFLED)]
    predicted = np.tile(head.logits(scores[rows]).argmax(axis=1), SHUFFLED)
    table = {}
    for settings in (PLAIN, GENTLE, CHOSEN):
        said = []
        for control in controls:
            said += say(birds, head, scores[rows], lambda _, own=control: own, settings, rules)
        name = f"channels shuffled, refitted, {_named(settings)}"
        table[name] = judge(birds, said, np.tile(birds.species[rows], SHUFFLED), predicted)
    return table


def reliabilities(birds, head, scores, rows, ways, rules):
    """Probability against the share of annotations, of what is said and could be said."""
    report = {}
    for name, supports in ways.items():
        for settings in (RationaleSettings(min_probability=0.0), CHOSEN):
            said = say(birds, head, scores[rows], supports, settings, rules)
            truth = birds.percent[birds.species[rows]]
            true = [own[places] for own, (places, _) in zip(truth, said, strict=True)]
            bins = reliability(np.concatenate([p for _, p in said]), np.concatenate(true))
            own = [(b.lower, round(b.probability, 3), round(b.observed, 3), b.count) for b in bins]
            error = sum(abs(p - o) * n for _, p, o, n in own) / sum(n for *_, n in own)
            report[f"{name}, {_named(settings)}"] = {"expected_error": error, "bins": own}
            print(f"\nreliability, {name}, {_named(settings)}: error {error:.3f}")
            print("  ".join(f"{p:.2f}:{o:.2f} ({n})" for _, p, o, n in own))
    return report


def never_trained(birds, scores, train, rules):
    """All species in turn, each asked of a head that was trained without it."""
    alike, lookup = correlations(birds.percent, birds.percent), "lookup of the predicted species"
    parts = np.random.default_rng(0).permutation(len(birds.names)).reshape(-1, NEVER)
    found, all_rows, all_predicted = {}, [], []
    for never in parts:
        strange = np.isin(birds.species, never)
        own, rows = train & ~strange, np.flatnonzero(strange)
        species = np.setdiff1d(np.arange(len(birds.names)), never)
        head = Head(*fit_head(scores[own], birds.species[own]), species)
        seen = probed(head, scores[own], birds.species[own])
        product = made(birds, head, seen)
        photographs = made(birds, head, seen, of_head=False)
        answers = head.logits(scores[rows]).argmax(axis=1)
        less = {index: made(birds, *others(head, seen, index)) for index in np.unique(answers)}
        ways = {
            f"{name}, {_named(settings)}": (supports, settings)
            for name, supports in (
                ("product", lambda _, own=product: own),
                ("by photographs alone", lambda _, own=photographs: own),
                ("without the explained species", less.__getitem__),
            )
            for settings in (DEFAULT, GENTLE, CHOSEN)
        }
        for name, (supports, settings) in ways.items():
            said = say(birds, head, scores[rows], supports, settings, rules)
            found.setdefault(name, []).extend(said)
        for values in birds.percent[species[answers]]:
            found.setdefault(lookup, []).append(looked_up(birds, values, alike))
        commonest = looked_up(birds, birds.percent[species].mean(axis=0), alike)
        found.setdefault("the commonest phrases", []).extend([commonest] * len(rows))
        all_rows.append(rows)
        all_predicted.append(species[answers])
    rows, predicted = np.concatenate(all_rows), np.concatenate(all_predicted)
    true = birds.species[rows]
    table = {name: judge(birds, said, true, predicted, units=true) for name, said in found.items()}
    title = f"never trained: {len(rows)} birds of {len(birds.names)} species, by {len(parts)} heads"
    show(title, table)
    again = {name: figures.pop("rare_again") for name, figures in table.items()}
    print("\nrare precision less the lookup's, 95 % over species drawn anew")
    for name, shares in again.items():
        if name not in (lookup, "the commonest phrases"):
            less_lookup = np.array(shares) - np.array(again[lookup])
            table[name]["rare_less_lookup"] = np.quantile(less_lookup, (0.025, 0.975)).tolist()
            low, high = table[name]["rare_less_lookup"]
            print(f"{name}: {less_lookup.mean():+.3f} [{low:+.2f} {high:+.2f}]")
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
        BankSettings(
            kinds=birds.kinds, tables=Tables(own=table_of(birds, everything)), labels=labels
        ),
    )
    product = artefact.bank.supports
    calibration = product.calibration
    print(
        f"source {calibration.source}, slope {calibration.slope:.3f}, expected calibration error "
        f"{calibration.expected_error:.3f} on {calibration.images} probing photographs"
    )
    assert np.allclose(head.weights, backbone.head_weights)
    report = known(birds, scores, train, head, product)
    report |= never_trained(birds, scores, train, (product.apart, product.repeats))
    (OUTPUT / "birds.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How often are an audit's findings wrong, and what do they miss?

    python tests/bench/bench_audits.py [--seeds 20] [--part twins labels power beside scale]

Audits of rendered scenes in process: concepts are the phrases that would be said. Both twins of
build/scenes (bench_truth.py makes it) see the same scenes, in which a betrayed class has its cue in
half of the images. Drawn scenes stay in build/audits.

twins   Audits by slices (floor; yellow sphere or not) and by masks: spurious findings of the
        unbiased twin, and the rank and p of the planted cues in the biased one.
labels  Audits without slices, of larger data: right against wrong, with and without a list of
        allowed concepts (phrases whose words are all of the class's name).
power   How often a cue is found, over its strength (probability of the cue with its class, in the
        scenes that the head was fitted on) and its prevalence (share of the class's images on the
        rarer side of the slice, that without the cue), for at most 1,000 images of a class: named
        by one of its phrases, and the class flagged by any phrase.
beside  Components of per-class PCA of the evidence, spuriosity ranking, and error slices by
        clustering, on the same scenes.
scale   A million records, drawn: time and memory of all statistics.
"""

import argparse
import resource
import sys
import time
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import log_softmax
from sklearn.cluster import KMeans

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from audit_scenes import CUE_CLASSES, NAMES, Network, bundles, draw, table
from audit_tables import evidence_table
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.findings.summary import summarise
from textcam_service.offline.evaluation.spurious_cues import cue_phrases
from textcam_service.scenes.classes import BIASED, CLASSES

POOL = Path("build/audits")
COUNTS = {c: 150 if c in CUE_CLASSES else 60 for c in range(len(CLASSES))}
SLICES = ("floor", "yellow sphere")
PULL = 1e-2  # of a fitted head towards the network's own
CUES = {c: cue_phrases(c, BIASED) for c in CUE_CLASSES}


def pool(seeds, folder):
    """Scenes by seed, drawn unless they are in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found, twins = [], None
    for seed in seeds:
        path = folder / f"{seed}.npz"
        if not path.is_file():
            twins = twins or bundles()
            np.savez(path, **draw(twins, seed, COUNTS, inside=True))
        with np.load(path) as saved:
            found.append(dict(saved))
    return found


def joined(scenes):
    return {key: np.concatenate([each[key] for each in scenes]) for key in scenes[0]}


def cues_first(summary):
    """By betrayed class: p of its first finding, if that is of the cue, and if it has its word.

    With slices the cue is its slice; without, one of the finding's concepts.
    """
    found = {}
    for label, column in zip(CUE_CLASSES, SLICES, strict=True):
        own = [f for f in summary.findings if f.class_index == label and f.adjusted_p is not None]
        named = bool(own) and bool(CUES[label] & {*own[0].concepts, *own[0].alike})
        hit = bool(own) and (own[0].basis.startswith(f"slice {column}: ") or named)
        found[label] = (own[0].adjusted_p if hit else None, named)
    return found


def spurious(summary):
    return [f for f in summary.findings if f.kind == "spurious_cue"]


def judge_twins(scenes, networks, group):
    """Audit `group` sets of scenes at a time."""
    scenes = [joined(scenes[k : k + group]) for k in range(0, len(scenes) - group + 1, group)]
    print(
        f"\n{group * COUNTS[CUE_CLASSES[0]]} images of a betrayed class, "
        f"{group * COUNTS[0]} of another"
    )
    print(
        f"{'design':10} {'unbiased: audits with a spurious finding':42} "
        "biased: cue first with p < 0.001; its word named"
    )
    for name, options in (("slices", {"slices": SLICES}), ("masks", {"masks": True})):
        clean, first = 0, {label: [] for label in CUE_CLASSES}
        words = dict.fromkeys(CUE_CLASSES, 0)
        for seed, each in enumerate(scenes):
            settings = FindingSettings(seed=seed)
            audits = {
                twin: summarise(table(networks[twin], each, twin, **options), settings=settings)
                for twin in networks
            }
            clean += not spurious(audits["unbiased"])
            for label, (p, named) in cues_first(audits["biased"]).items():
                first[label] += [] if p is None else [p]
                words[label] += named
        hits = ", ".join(
            f"{NAMES[c]} {sum(p < 0.001 for p in ps)} "
            f"(p <= {max(ps, default=1):.4f} in {len(ps)}); {words[c]}"
            for c, ps in first.items()
        )
        print(f"{name:10} {len(scenes) - clean:3} of {len(scenes):<35} {hits} of {len(scenes)}")


def own_words():
    """Allowed for each class: phrases all of whose words are the class's."""
    found = {}
    for name in NAMES:
        words = name.split()
        found[name] = [
            " ".join(part) for n in range(1, len(words) + 1) for part in permutations(words, n)
        ]
    return ConceptLists(found)


def judge_labels(scenes, networks, group):
    print(f"\nwithout slices, {group} sets of scenes an audit")
    for start in range(0, len(scenes) - group + 1, group):
        data = joined(scenes[start : start + group])
        for twin, network in networks.items():
            for listed in (None, own_words()):
                summary = summarise(table(network, data, twin), listed, FindingSettings(seed=start))
                tested = [f for f in summary.findings if f.adjusted_p is not None]
                shown = [
                    f"{f.kind[:5]} {f.class_index}:{f.concepts[0]} {f.effect.value:.2f} "
                    f"p {f.adjusted_p:.4f}"
                    for f in tested
                ]
                print(start, twin, "list" if listed else "none", len(spurious(summary)), shown)


def fitted(network, scenes, strength, rng):
    """The network with a head fitted on scenes whose cues have a strength; features stay."""
    label, features = scenes["label"], scenes["biased features"]
    there = np.where(label == BIASED.floor_class, scenes["floor"] == BIASED.floor, scenes["cue"])
    kept = []
    for index in range(len(CLASSES)):
        rows = np.flatnonzero(label == index)
        if index not in CUE_CLASSES:
            kept.append(rows)
            continue
        with_, without = rows[there[rows]], rows[~there[rows]]
        n = int(min(len(with_) / strength, len(without) / max(1 - strength, 1e-9), 600))
        ones = round(n * strength)
        kept += [rng.permutation(with_)[:ones], rng.permutation(without)[: n - ones]]
    rows = np.concatenate(kept)
    spread = features[rows].std(0) + 1e-6
    inputs, truth = features[rows] / spread, np.eye(len(CLASSES))[label[rows]]
    weights = 1 / np.bincount(label[rows])[label[rows], None] / len(CLASSES)
    start = np.c_[network.weights * spread, network.bias]

    def loss(flat):
        head = flat.reshape(start.shape)
        logs = log_softmax(inputs @ head[:, :-1].T + head[:, -1], axis=1)
        slope = weights * (np.exp(logs) - truth)
        away = head - start
        value = -(weights * truth * logs).sum() + PULL / 2 * (away**2).sum()
        return value, (np.c_[slope.T @ inputs, slope.sum(0)] + PULL * away).ravel()

    head = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B").x.reshape(start.shape)
    return Network(
        (head[:, :-1] / spread).astype(np.float32),
        head[:, -1].astype(np.float32),
        network.bundle,
    )


def judge_power(scenes, network, draws, strengths, size=1000):
    """Fit on one half of the sets of scenes, audit the other."""
    half = len(scenes) // 2
    training, auditing = joined(scenes[:half]), joined(scenes[half:])
    prevalences = (0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
    print(
        "\nstrength  class  "
        + "  ".join(f"{p:9.1%}" for p in prevalences)
        + "   effect, accuracy with and without"
    )
    for strength in strengths:
        own = fitted(network, training, strength, np.random.default_rng(0))
        for label in CUE_CLASSES:
            there = (
                auditing["floor"] == BIASED.floor
                if label == BIASED.floor_class
                else auditing["cue"]
            )
            rows = np.flatnonzero(auditing["label"] == label)
            with_, without = rows[there[rows]], rows[~there[rows]]
            slices = SLICES[:1] if label == BIASED.floor_class else SLICES[1:]
            shares = []
            for prevalence in prevalences:
                named = flagged = 0
                for number in range(draws):
                    rng = np.random.default_rng([1, label, number])
                    few = max(round(prevalence * size), 1)
                    n = min(size - few, len(with_))
                    chosen = np.concatenate(
                        [rng.permutation(with_)[:n], rng.permutation(without)[:few]]
                    )
                    own_table = table(own, auditing, "biased", chosen, slices=slices)
                    settings = FindingSettings(seed=number, concepts_per_class=1)
                    found = summarise(own_table, settings=settings)
                    of_class = [f for f in spurious(found) if f.class_index == label]
                    flagged += bool(of_class)
                    named += any(CUES[label] & {*f.concepts, *f.alike} for f in of_class)
                shares.append(f"{named / draws:.0%}/{flagged / draws:.0%}")
            logits = auditing["biased features"] @ own.weights.T + own.bias
            right = logits.argmax(1) == label
            features, labels = auditing["biased features"], np.full(len(right), label)
            evidence = own.concepts(features, own.weights[labels], labels)[0]
            column = [k for k, name in enumerate(own.names) if name in CUES[label]]
            effect = (
                evidence[with_][:, column].mean(0) - evidence[without][:, column].mean(0)
            ).max()
            print(
                f"{strength:8}  {label:5}  "
                + "  ".join(f"{share:>9}" for share in shares)
                + f"   {effect:.2f}, {right[with_].mean():.2f} {right[without].mean():.2f}",
                flush=True,
            )


def judge_beside(scenes, networks):
    """Count how often a neighbour's first candidate for a betrayed class is its cue."""
    print("\nbeside: the first candidate for the class is its cue")
    methods = ("PCA component", "spuriosity ranking", "error clusters")
    hits = {name: dict.fromkeys(CUE_CLASSES, 0) for name in methods}
    for each in scenes:
        for label in CUE_CLASSES:
            network, rows = networks["biased"], np.flatnonzero(each["label"] == label)
            features = each["biased features"][rows]
            evidence = features * network.weights[label]
            labels = np.full(len(rows), label)
            concepts = network.concepts(features, network.weights[labels], labels)[0]
            right = (features @ network.weights.T + network.bias).argmax(1) == label
            centred = evidence - evidence.mean(0)
            _, _, axes = np.linalg.svd(centred, full_matrices=False)
            best = axes[0]  # a component is named by the concept that it loads on most
            supports = network.bundle.wording.supports(np.arange(len(network.names)))
            loads = (best**2) @ np.clip(supports, 0, None)
            hits["PCA component"][label] += network.names[loads.argmax()] in CUES[label]
            order = concepts.argsort(0)
            k = min(25, len(rows) // 2)
            gap = [
                right[order[-k:, c]].mean() - right[order[:k, c]].mean()
                for c in range(concepts.shape[1])
            ]
            hits["spuriosity ranking"][label] += network.names[int(np.argmax(gap))] in CUES[label]
            if (~right).any():
                cluster = (
                    KMeans(4, n_init=3, random_state=0)
                    .fit(np.c_[concepts, 3.0 * right[:, None]])
                    .labels_
                )
                worst = min(range(4), key=lambda c: right[cluster == c].mean())
                shift = concepts[cluster == worst].mean(0) - concepts[cluster != worst].mean(0)
                hits["error clusters"][label] += (
                    network.names[int(np.abs(shift).argmax())] in CUES[label]
                )
    for name, own in hits.items():
        print(
            f"{name:20} " + ", ".join(f"{NAMES[c]} {own[c]} of {len(scenes)}" for c in CUE_CLASSES)
        )


def judge_scale(rows=1_000_000, classes=1000, concepts=500, said=40):
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, concepts + 1)
    columns = np.sort(rng.choice(concepts, (classes, 80), p=popularity / popularity.sum()), axis=1)
    label = np.repeat(np.arange(classes), rows // classes)
    chosen = columns[label[:, None], rng.integers(0, 80, (rows, said))].astype(np.int32)
    values = rng.exponential(0.3, (rows, said)).astype(np.float32)
    evidence = csr_array(
        (values.ravel(), chosen.ravel(), np.arange(rows + 1) * said), shape=(rows, concepts)
    )
    evidence.sum_duplicates()
    del chosen, values
    predicted = np.where(rng.random(rows) < 0.8, label, rng.integers(0, classes, rows))
    light = np.array(["day", "night"], object)[rng.integers(0, 2, rows)]
    own = replace(
        evidence_table(np.zeros((rows, 1)), label, predicted, names=("",)),
        concepts=tuple(range(concepts)),
        names=tuple(f"c{k}" for k in range(concepts)),
        kinds=("",) * concepts,
        evidence=evidence,
        logit=np.asarray(evidence.sum(1), np.float32),
        slices={"light": light},
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, used = time.monotonic(), time.process_time()
    summary = summarise(own)
    print(
        f"\n{rows} records, {classes} classes, {concepts} concepts, {said} of them in a record: "
        f"{time.monotonic() - begun:.0f} s ({time.process_time() - used:.0f} s of CPU), "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB at most "
        f"({before / 2**20:.2f} before); {len(spurious(summary))} spurious findings, "
        f"{len(summary.nothing_found)} comparisons without"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--strengths", type=float, nargs="*", default=(0.6, 0.7, 0.8, 0.9, 1.0))
    parts = ("twins", "labels", "power", "beside", "scale")
    parser.add_argument("--part", nargs="*", default=parts, choices=parts)
    arguments = parser.parse_args()
    if set(arguments.part) - {"scale"}:
        scenes = pool(range(1, arguments.seeds + 1), arguments.pool)
        networks = {twin: Network.of(bundle) for twin, bundle in bundles().items()}
    if "twins" in arguments.part:
        judge_twins(scenes, networks, 1)
        judge_twins(scenes, networks, 2)
    if "labels" in arguments.part:
        judge_labels(scenes, networks, 4)
    if "power" in arguments.part:
        judge_power(scenes, networks["biased"], arguments.draws, arguments.strengths)
    if "beside" in arguments.part:
        judge_beside(scenes, networks)
    if "scale" in arguments.part:
        judge_scale()


if __name__ == "__main__":
    main()

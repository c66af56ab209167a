"""Is a rationale right? The rendered world as judge: method, controls, rivals, ablations.

    python tests/bench/bench_truth.py [--count 500]

Held-out scenes; none was used in training or in building a bank. Everything is made on the way:
backbones, probing scenes and banks go to build/scenes.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # before pyplot

import numpy as np
from matplotlib import pyplot as plt
from textcam_client._heatmaps.colormap import blend
from textcam_service.core.concepts.channel_embeddings import ChannelSettings, channel_directions
from textcam_service.core.heatmap import heatmap
from textcam_service.core.rationale.phrases import choose_phrases, evidence_embedding
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.banks.probing import read_probing
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.evaluation.cases import explain_case, observe, scene_truth
from textcam_service.offline.evaluation.controls import (
    EMBEDDER,
    control_bundles,
    embedder_explainer,
    with_directions,
)
from textcam_service.offline.evaluation.phrases import (
    PHRASES,
    SaidPhrase,
    bundle_explainer,
    judge_phrases,
)
from textcam_service.offline.evaluation.report import as_json, as_text, write_report
from textcam_service.offline.evaluation.run import evaluate
from textcam_service.offline.evaluation.spurious_cues import judge_cues, perturbed_settings
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.probing import render_probing_set
from textcam_service.scenes.world import vocabulary

WORK = Path("build/scenes")
PROBING = 4000
# Class names are descriptions here, so that to say them is no repetition; and a spurious cue is
# rare in the unbiased probing set, so that its probability is low: what the evidence speaks for is
# said whatever its probability. The others are the paper's own way (wording=embeddings):
# Ledoit-Wolf LDA, plain evidence, both lambdas, the whole vocabulary.
# Chosen on scenes of seed 300; those of seed 100 report.
SETTINGS = ChannelSettings(remove_common=False)
RATIONALE = RationaleSettings(
    min_probability=0.0,
    repeat_class=True,
    sparsity=0.48,
    decorrelation=0.15,
    candidates=1000,
    root=False,
    prior=0.0,
)
PAPER = "paper's way (wording=embeddings, LDA)"
RIVALS = ("mean_difference", "correlation", "top_mean", "contrast", "soft_wpmi")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    count = parser.parse_args().count
    begun = time.monotonic()
    Path("build/bench").mkdir(parents=True, exist_ok=True)
    embedder = load_embedder("scenes")
    images = render_probing_set(WORK / "probing", PROBING)
    bundles = {name: bundle_of(name, embedder, images) for name in ("classifier", "biased")}
    bundle, truth, probing = bundles["classifier"], scene_truth(count), read_probing(WORK / "bank")
    report = evaluate(
        bundle, truth, embedder=embedder, probing=probing, biased=bundles["biased"], progress=print
    )
    seen = [
        o for o in observe(bundle, truth.cases) if o.prediction.class_index == o.case.class_index
    ]
    report["moved"] = moved(bundle, seen, truth, report["cues"], report.pop("cues_moved"))
    paper = {name: by_embeddings(own) for name, own in bundles.items()}
    report[PAPER] = papers_words(paper["classifier"], seen, truth, embedder)
    cues, _ = judge_cues(paper["biased"], paper["classifier"], max(len(seen) // 5, 1))
    report["cues"] |= {f"{cue}, paper's way": figures for cue, figures in cues.items()}
    known = probing.scores, probing.embeddings, bundle.artefact.vocabulary.embeddings
    report["rivals"] = rivals(paper["classifier"], seen, truth, *known)
    report["ablations"] = ablations(paper["classifier"], seen, truth, *known)
    draw_sheet(bundle, seen, Path("build/bench/scenes.png"))
    report["seconds"] = round(time.monotonic() - begun)
    print(as_text(report))
    write_report(report, Path("build/bench/truth"))
    Path("build/bench/truth.json").write_text(as_json(report))


def bundle_of(name, embedder, images):
    """Export a network and build its bank."""
    prefix = "" if name == "classifier" else f"{name}-"
    folder, bank = WORK / f"{prefix}backbone", WORK / f"{prefix}bank"
    export_network(load_network(f"scenes:{name}"), folder)
    settings = BankSettings(SETTINGS, rationale=RATIONALE)
    build_bank(Backbone(folder), embedder, images, vocabulary(), bank, settings)
    return ModelBundle.load(name, folder, bank)


def by_embeddings(bundle):
    return replace(bundle, settings=replace(bundle.settings, wording="embeddings"))


def moved(bundle, seen, truth, as_set, cues):
    """Words and cues with each setting of the choice moved by a tenth."""
    moves = {"as set": lambda own: own, **perturbed_settings(bundle.settings)}
    shown = ("precision", "precision_1", "precision_3", "recall", "ece", "phrases")
    table = {}
    own = {cue: figures["named"] for cue, figures in as_set.items()}
    own |= {f"{cue}, twin": figures["named_by_twin"] for cue, figures in as_set.items()}
    for name, change in moves.items():
        other = replace(bundle, settings=change(bundle.settings))
        figures = asdict(judge_phrases(seen, truth, bundle_explainer(other)))
        table[name] = {column: figures[column] for column in shown} | cues.get(name, own)
    return table


def papers_words(bundle, seen, truth, embedder):
    others = control_bundles(bundle)
    explainers = {"LDA": bundle_explainer(bundle)} | {
        name: bundle_explainer(other) for name, other in others.items()
    }
    explainers[EMBEDDER] = embedder_explainer(bundle, embedder)
    return {name: asdict(judge_phrases(seen, truth, own)) for name, own in explainers.items()}


def words_with(bundle, seen, truth, directions):
    return asdict(
        judge_phrases(seen, truth, bundle_explainer(with_directions(bundle, directions.embeddings)))
    )


def rivals(bundle, seen, truth, scores, embeddings, texts):
    table = {}
    for direction in ("lda", *RIVALS):
        settings = replace(SETTINGS, direction=direction)
        directions = channel_directions(scores, embeddings, settings, texts=texts)
        table[direction] = words_with(bundle, seen, truth, directions)
    return table


def ablations(bundle, seen, truth, scores, embeddings, texts):
    table = {"as shipped": asdict(judge_phrases(seen, truth, bundle_explainer(bundle)))}
    variants = {f"M = {m}": {"samples": m} for m in (20, 50, 200, 500, 1000)}
    variants |= {f"shrinkage {g}": {"shrinkage": g} for g in (0.1, 0.5, 0.8)}
    variants |= {"common direction removed": {"remove_common": True}}
    for name, change in variants.items():
        directions = channel_directions(scores, embeddings, replace(SETTINGS, **change))
        table[name] = words_with(bundle, seen, truth, directions)
    for size in (300, 1000, 2000):
        settings = replace(SETTINGS, samples=min(SETTINGS.samples, size // 2))
        directions = channel_directions(scores[:size], embeddings[:size], settings)
        table[f"{size} probing images"] = words_with(bundle, seen, truth, directions)
    changed = {
        "texts not centred": {"text_embeddings": bundle.artefact.vocabulary.embeddings},
        "root of the evidence": {"settings": replace(bundle.settings, root=True)},
        "prior 0.4": {"settings": replace(bundle.settings, prior=0.4)},
        "no sparsity, no decorrelation": {
            "settings": replace(bundle.settings, sparsity=0.0, decorrelation=0.0)
        },
        "the photographs' defaults": {"settings": RationaleSettings(wording="embeddings")},
    }
    for name, change in changed.items():
        table[name] = asdict(judge_phrases(seen, truth, chosen(bundle, **change)))
    table["weights, not activation-weighted"] = asdict(
        judge_phrases(seen, truth, chosen(bundle, evidence=lambda w, _a: w))
    )
    for kept in (10, 25, 50):
        table[f"{kept} strongest channels"] = asdict(
            judge_phrases(seen, truth, chosen(bundle, evidence=lambda w, a, k=kept: top(w * a, k)))
        )
    rng = np.random.default_rng(0)
    for share in (0.25, 0.5):
        some = np.sort(rng.permutation(len(bundle.phrases))[: int(share * len(bundle.phrases))])
        table[f"{len(some)} phrases"] = asdict(
            judge_phrases(seen, truth, chosen(bundle, phrases=some))
        )
    return table


def draw_sheet(bundle, seen, path, columns=2, rows=5, phrases=3):
    """Scenes with their heatmap and the maps of their first phrases."""
    figure, axes = plt.subplots(
        rows, columns * (phrases + 2), figsize=(13, 1.45 * rows), layout="constrained"
    )
    for axis in axes.ravel():
        axis.axis("off")
    for place, observation in enumerate(seen[: rows * columns]):
        row, left = place % rows, (place // rows) * (phrases + 2)
        pixels = np.asarray(observation.case.image)
        rationale = explain_case(bundle, observation, PHRASES)
        peak = float(rationale.saliency_map.max())
        maps = [("", None), (f"{rationale.logit:+.1f}", rationale.saliency_map)]
        maps += [
            (f"{phrase.text} {phrase.evidence:+.1f}", group.saliency_map)
            for phrase, group in zip(rationale.phrases, rationale.groups, strict=True)
        ]
        maps[0] = (observation.prediction.class_name, None)
        for axis, (title, shown) in zip(axes[row, left:], maps[: phrases + 2], strict=False):
            picture = pixels
            if shown is not None:
                heat = heatmap(shown, observation.crop, *pixels.shape[:2], peak)
                picture = blend(pixels, heat)
            axis.imshow(picture)
            axis.set_title(title, fontsize=7, pad=2, fontweight="bold" if shown is None else None)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def top(evidence, kept):
    weakest = np.argsort(-np.abs(evidence), kind="stable")[kept:]
    evidence = evidence.copy()
    evidence[weakest] = 0
    return evidence


def chosen(
    bundle,
    *,
    evidence=lambda weights, scores: weights * scores,
    settings=None,
    text_embeddings=None,
    phrases=None,
):
    """Phrases by the product's own choice with one thing changed."""
    settings = settings or bundle.settings
    texts = bundle.text_embeddings if text_embeddings is None else text_embeddings
    places = np.arange(len(bundle.phrases)) if phrases is None else phrases
    bank = bundle.artefact.bank

    def explain(observation):
        weights = bundle.backbone.head_weights[observation.prediction.class_index]
        own = evidence(weights, observation.activation_maps.mean((1, 2)))
        target = evidence_embedding(own, bank.channel_embeddings, bank.mean_embedding, settings)
        choice = choose_phrases(target, texts[places], PHRASES, settings)
        said = [bundle.phrases[places[index]] for index in choice.indices]
        return [SaidPhrase(phrase) for phrase in said]

    return explain


if __name__ == "__main__":
    main()

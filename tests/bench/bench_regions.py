"""Do activated regions name channels better than whole images do, and what do they cost?

    python tests/bench/bench_regions.py [--scenes 2000] [--tuning]

Planted channels, whose concept is known: each fires at every object of which one phrase of the
vocabulary is true (276 of them), in scenes of 4 or 5 objects. A channel is recovered when that
phrase is the first (or among the first three) of all 280 for the channel's direction. Then the
product's own words with the real classifier's bank built each way. Settings were chosen on the
scenes of --tuning; the others report. The tables go to the terminal, all of them to
build/bench/regions.json, each as it comes. Nearly all the time goes to the embedder, which sees
the regions of each scene, ways and worlds over: it is in proportion to --scenes. One scene in 30 is
among a channel's most exciting ones. One thread: torch's many wait for each other on a machine with
other work, and the same figures then took hours.
"""

import argparse
import hashlib
import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from textcam_service.core.concepts.activated_regions import RegionSettings
from textcam_service.core.concepts.channel_embeddings import ChannelSettings, channel_directions
from textcam_service.core.rationale.phrases import center_texts
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.imaging.decoding import prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.build import BankSettings, build_bank, probing_order
from textcam_service.offline.banks.extract import extract
from textcam_service.offline.banks.region_samples import region_samples
from textcam_service.offline.embedders.base import TEMPLATES, embed_with_templates
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.evaluation.cases import observe, scene_truth
from textcam_service.offline.evaluation.controls import with_directions
from textcam_service.offline.evaluation.phrases import bundle_explainer, judge_phrases
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.offline.networks.scenes import PREPROCESSING
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.classes import CLASSES, class_scene
from textcam_service.scenes.render import render
from textcam_service.scenes.world import (
    COLOURS,
    arrange,
    object_phrases,
    random_attributes,
    random_scene,
    vocabulary,
)

WORK = Path("build/regions")
SHARE = 30  # one scene of so many is among a channel's most exciting ones
GRID = 12
PHRASES = vocabulary()
CONCEPTS = [phrase for phrase in PHRASES if not phrase.endswith(" floor")]
OTHER = dict(zip(COLOURS, COLOURS[4:] + COLOURS[:4], strict=True))
WAYS = {
    "whole images": None,
    "crop": RegionSettings("crop"),
    "mosaic 2 x 2": RegionSettings("mosaic"),
    "mosaic 3 x 3": RegionSettings("mosaic", tiles=3),
    "dense": RegionSettings("dense"),
}
ABLATIONS = {
    "crop, enlarged to fill": RegionSettings("crop", enlarge=100.0),
    "crop, random negatives": RegionSettings("crop", negatives="random"),
    "mosaic 2 x 2, random negatives": RegionSettings("mosaic", negatives="random"),
    "dense, random negatives": RegionSettings("dense", negatives="random"),
    "dense, minimum 1/2": RegionSettings("dense", minimum=0.5),
    "dense, share 0.3": RegionSettings("dense", share=0.3),
}
# As bench_truth: chosen for whole images there.
PAPER = RationaleSettings(
    wording="embeddings", sparsity=0.48, decorrelation=0.15, candidates=1000, root=False, prior=0.0
)


def independent(rng):
    """4 or 5 random objects."""
    return random_scene(rng, int(rng.integers(4, 6)))


def in_company(rng):
    """4 or 5 objects; nine in ten bring one of a colour that belongs to theirs."""
    items, count = [], int(rng.integers(4, 6))
    while len(items) < count:
        items.append(random_attributes(rng))
        if len(items) < count and rng.random() < 0.9:
            items.append({**random_attributes(rng), "colour": OTHER[items[-1]["colour"]]})
    return arrange(rng, [items[place] for place in rng.permutation(len(items))])


class Planted:
    """A backbone whose channels are planted: it knows its scenes by their pixels."""

    def __init__(self, images, places, firing):
        self.manifest = SimpleNamespace(
            preprocessing=PREPROCESSING, weights_digest="planted", vertices=0
        )
        self._places, self._firing = places, firing
        self._known = {}
        for index, path in enumerate(images):
            pixels = prepare(Image.open(path), PREPROCESSING)[0]
            self._known[hashlib.sha256(pixels.tobytes()).digest()] = index

    def maps(self, index):
        return np.einsum("khw,kd->dhw", self._places[index], self._firing[index])

    def run(self, inputs):
        found = [self._known[hashlib.sha256(own.tobytes()).digest()] for own in inputs]
        return None, np.stack([self.maps(index) for index in found])

    @staticmethod
    def on_grid(crop):
        return crop


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000, help="of each world")
    parser.add_argument("--tuning", action="store_true", help="the scenes that settings see")
    parser.add_argument("--ablations", action="store_true", help="other settings too")
    arguments = parser.parse_args()
    if arguments.scenes < 600:
        parser.error("fewer than 600 scenes leave channels of a third of them under 6 samples")
    torch.set_num_threads(1)
    begun, count = time.monotonic(), arguments.scenes
    embedder = load_embedder("scenes")
    texts = center_texts(embed_with_templates(embedder, PHRASES, TEMPLATES))
    ways = {**WAYS, **ABLATIONS} if arguments.ablations else WAYS
    seed = 300 if arguments.tuning else 600
    report = {"scenes": count, "planted": {}}

    def keep():
        report["seconds"] = round(time.monotonic() - begun)
        name = "regions-tuning.json" if arguments.tuning else "regions.json"
        output = Path("build/bench") / name
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n")

    report["lone objects"] = ceiling(embedder, texts)
    print("ceiling, lone objects:", report["lone objects"], flush=True)
    for number, scene_of in enumerate((independent, in_company)):
        rendering = rendered(WORK / f"{scene_of.__name__}-{seed}", scene_of, seed + number, count)
        table = report["planted"][scene_of.__name__] = {}
        for name, found in planted_tables(scene_of.__name__, *rendering, embedder, texts, ways):
            table[name] = found
            keep()
    report["words"] = words(embedder, ways, 300 if arguments.tuning else 100, count)
    keep()


def planted_tables(world, images, scenes, masks, embedder, texts, ways):
    """Recovery of a world's planted channels: (name, table) each."""
    for firing, places in (("spots", spots(masks)), ("masks", cells(masks))):
        backbone = Planted(images, places, firing_of(scenes))
        table = planted(backbone, embedder, images, texts, ways)
        show(f"{world}, planted {firing}", table)
        yield firing, table
    backbone = Planted(images, spots(masks), firing_of(scenes, elsewhere=True))
    scores = scores_of(Planted(images, spots(masks), firing_of(scenes)), len(images))
    control = {name: ways[name] for name in ("crop", "mosaic 2 x 2", "dense")}
    table = planted(backbone, embedder, images, texts, control, scores)
    show(f"{world}, control: a wrong object's region", table)
    yield "wrong object", table


def rendered(folder, scene_of, seed, count):
    """Scenes as files: paths, scenes, (N, 5, S, S) masks."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [scene_of(np.random.default_rng([seed, index])) for index in range(count)]
    paths, masks = [], np.zeros((count, 5, 96, 96), bool)
    for index, scene in enumerate(scenes):
        picture = render(scene)
        masks[index, : len(scene.objects)] = picture.masks
        paths.append(folder / f"{index:05}.png")
        Image.fromarray(picture.image).save(paths[-1])
    return paths, scenes, masks


def cells(masks):
    """(N, 5, S, S) -> (N, 5, H, W): how much of each cell an object fills."""
    side = masks.shape[2] // GRID
    return masks.reshape(*masks.shape[:2], GRID, side, GRID, side).mean((3, 5), dtype=np.float32)


def spots(masks):
    """As `cells`, but 3 x 3 cells about each object's middle, of the same sum but for chance.

    A channel of masks prefers large objects: its most exciting images show "large red" where
    "red" was planted, and both are then right. Spots are excited by what is planted alone.
    """
    filled = cells(masks)
    strength = np.random.default_rng(0).uniform(0.75, 1.25, filled.shape[:2])
    rows, columns = np.mgrid[0:GRID, 0:GRID]
    total = np.maximum(filled.sum((2, 3)), 1e-9)
    row = np.rint((filled * rows).sum((2, 3)) / total)[..., None, None]
    column = np.rint((filled * columns).sum((2, 3)) / total)[..., None, None]
    near = (
        (np.abs(rows - row) <= 1)
        & (np.abs(columns - column) <= 1)
        & (total > 1e-6)[..., None, None]
    )
    share = near / np.maximum(near.sum((2, 3), keepdims=True), 1)
    return (share * strength[..., None, None]).astype(np.float32)


def firing_of(scenes, elsewhere=False):
    """(N, 5, D): which objects each channel fires at; elsewhere: at one that it should not."""
    column = {phrase: index for index, phrase in enumerate(CONCEPTS)}
    found = np.zeros((len(scenes), 5, len(CONCEPTS)), np.float32)
    for index, scene in enumerate(scenes):
        for place, item in enumerate(scene.objects):
            own = [column[phrase] for phrase in object_phrases(item.attributes) if phrase in column]
            found[index, place, own] = 1
        if elsewhere:
            count = len(scene.objects)
            there = found[index, :count]
            found[index, :count] = (1 - there) * there.any(axis=0)
    return found


def scores_of(backbone, count):
    return np.stack([backbone.maps(index).mean((1, 2)) for index in range(count)])


def planted(backbone, embedder, images, texts, ways, scores=None):
    """Recovery by way and size."""
    scores = scores_of(backbone, len(images)) if scores is None else scores
    order = probing_order(np.zeros(len(images), np.int64), None)
    images, scores = [images[index] for index in order], scores[order].astype(np.float32)
    table = {}
    for kept in (len(images), len(images) // 3):
        for way, regions in ways.items():
            settings = ChannelSettings(samples=kept // SHARE, regions=regions)
            table[f"{way}; M = {settings.samples} of {kept:,}"] = row(
                images[:kept], scores[:kept], backbone, embedder, texts, settings
            )
    return table


def row(images, scores, backbone, embedder, texts, settings):
    embeddings, samples, passes, seconds = sampled(images, scores, backbone, embedder, settings)
    found = {"passes": passes, "seconds": round(seconds, 1)}
    for name, removed in (("kept", False), ("removed", True)):
        own = replace(settings, remove_common=removed)
        directions = channel_directions(scores, embeddings, own, samples=samples).embeddings
        found[name] = recovery(directions, texts)
    return found


def sampled(images, scores, backbone, embedder, settings):
    """What a bank would be built from: embeddings, rows, passes and seconds of the embedder."""
    begun = time.process_time()  # of this process: others' work beside it does not count
    if settings.regions is None:
        pictures = [np.asarray(Image.open(path)) for path in images]
        embeddings = embedder.embed_images(pictures)
        return embeddings, None, len(images), time.process_time() - begun
    work = WORK / "work"
    shutil.rmtree(work, ignore_errors=True)
    found = region_samples(images, scores, backbone, embedder, settings, work)
    shutil.rmtree(work)
    return found.embeddings, (found.low, found.high), found.passes, time.process_time() - begun


def recovery(directions, texts):
    """Share of channels whose phrase is the first, among three; also by the phrase's words."""
    ranks = np.argsort(-(directions @ texts.T), axis=1, kind="stable")
    own = np.array([PHRASES.index(concept) for concept in CONCEPTS])
    first, three = ranks[:, 0] == own, (ranks[:, :3] == own[:, None]).any(axis=1)
    length = np.array([len(concept.split()) for concept in CONCEPTS])
    found = {"top_1": float(first.mean()), "top_3": float(three.mean())}
    for words_ in (1, 2, 3):
        found[f"top_1_of_{words_}_words"] = float(first[length == words_].mean())
        found[f"top_3_of_{words_}_words"] = float(three[length == words_].mean())
    return found


def ceiling(embedder, texts, count=40):
    """Recovery where every image holds one object alone: what this embedder can tell at best."""
    seeds = ([601, index] for index in range(SHARE * count))
    scenes = [random_scene(np.random.default_rng(seed), 1) for seed in seeds]
    embeddings = embedder.embed_images([render(scene).image for scene in scenes])
    fires = firing_of(scenes)[:, 0].T > 0
    rng = np.random.default_rng(0)
    high, low = (
        np.stack(
            [rng.choice(np.flatnonzero(own), count, replace=own.sum() < count) for own in side]
        )
        for side in (fires, ~fires)
    )
    found = {}
    for name, removed in (("kept", False), ("removed", True)):
        settings = ChannelSettings(samples=count, remove_common=removed)
        directions = channel_directions(fires.T, embeddings, settings, samples=(low, high))
        found[name] = recovery(directions.embeddings, texts)
    return found


def words(embedder, ways, seed, count):
    """The product's words with the real classifier's bank built each way."""
    export_network(load_network("scenes:classifier"), WORK / "backbone")
    backbone = Backbone(WORK / "backbone")
    images = crowded(WORK / "classes", count)
    settings = ChannelSettings(samples=count // SHARE, remove_common=False)
    own = BankSettings(settings, rationale=PAPER)
    build_bank(backbone, embedder, images, PHRASES, WORK / "bank", own)
    bundle = ModelBundle.load("scenes", WORK / "backbone", WORK / "bank")
    truth = scene_truth(500, seed)
    seen = observe(bundle, truth.cases)
    seen = [o for o in seen if o.prediction.class_index == o.case.class_index]
    extracted = extract(images, backbone, embedder, WORK / "extracted")
    order = probing_order(extracted.predicted, None)
    images, scores = [images[index] for index in order], extracted.activation_scores[order]
    tables = {}
    for kept in (count, count // 3):
        table = tables[f"{kept} scenes"] = {}
        for way, regions in ways.items():
            own = replace(settings, regions=regions, samples=kept // SHARE)
            table[way] = worded(
                bundle, seen, truth, (images[:kept], scores[:kept], backbone, embedder), own
            )
        show_words(f"words, bank of {kept} scenes with 4 or 5 objects", table)
    return tables


def crowded(folder, count):
    """Scenes of the ten classes in turn, of 4 or 5 objects."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, seed = [], 0
    while len(paths) < count:
        scene = class_scene(np.random.default_rng([610, seed]), len(paths) % len(CLASSES))
        seed += 1
        if len(scene.objects) >= 4:
            paths.append(folder / f"{len(paths):05}.png")
            Image.fromarray(render(scene).image).save(paths[-1])
    return paths


def worded(bundle, seen, truth, probing, settings):
    embeddings, samples, passes, seconds = sampled(*probing, settings)
    found = {"passes": passes, "seconds": round(seconds, 1)}
    for name, rationale, removed in (
        ("paper", PAPER, False),
        ("defaults", RationaleSettings(wording="embeddings"), True),
    ):
        own = replace(settings, remove_common=removed)
        directions = channel_directions(probing[1], embeddings, own, samples=samples)
        changed = with_directions(bundle, directions.embeddings)
        bank = changed.artefact.bank
        parameters = {**bank.parameters, "rationale": asdict(rationale)}
        changed = with_rationale(changed, replace(bank, parameters=parameters), rationale)
        found[name] = asdict(judge_phrases(seen, truth, bundle_explainer(changed)))
    return found


def with_rationale(bundle, bank, rationale):
    return replace(bundle, artefact=replace(bundle.artefact, bank=bank), settings=rationale)


def show(title, table):
    print(
        f"\n{title}\n{'':<48}{'passes':>7}{'s':>7}{'kept: 1':>9}{'3':>7}{'removed: 1':>12}{'3':>7}"
    )
    for name, figures in table.items():
        kept, removed = figures["kept"], figures["removed"]
        print(
            f"{name:<48}{figures['passes']:>7}{figures['seconds']:>7}{kept['top_1']:>9.3f}"
            f"{kept['top_3']:>7.3f}{removed['top_1']:>12.3f}{removed['top_3']:>7.3f}",
            flush=True,
        )


def show_words(title, table):
    print(
        f"\n{title}\n{'':<34}{'passes':>7}{'s':>7}   paper's: P1, P3, recall    defaults: the same"
    )
    for name, figures in table.items():
        marks = [
            f"{figures[kind][mark]:.3f}"
            for kind in ("paper", "defaults")
            for mark in ("precision_1", "precision_3", "recall")
        ]
        cells_ = "  ".join(marks)
        print(f"{name:<34}{figures['passes']:>7}{figures['seconds']:>7}   {cells_}", flush=True)


if __name__ == "__main__":
    main()

"""The rendered world's networks for real: what they were trained to, and how they are judged."""

import json
import re
import subprocess
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from processes import BANK, TEXTCAM
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.errors import BundleMismatch, InvalidTruth
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.banks.probing import read_probing
from textcam_service.offline.banks.vocabulary import replace_vocabulary
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.evaluation.cases import Case, Truth, logits_of, observe, scene_truth
from textcam_service.offline.evaluation.run import evaluate
from textcam_service.offline.evaluation.spurious_cues import judge_cues, perturbed_settings
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.classes import BIASED
from textcam_service.scenes.probing import render_probing_set
from textcam_service.scenes.render import render
from textcam_service.scenes.world import ATTRIBUTES, random_scene, vocabulary

# As `make demo-scenes`: class names are descriptions, and cues are rare in the probing set.
RATIONALE = RationaleSettings(min_probability=0.0, repeat_class=True)
SETTINGS = BankSettings(ChannelSettings(samples=100), rationale=RATIONALE)
LONE = [random_scene(np.random.default_rng([77, index]), 1) for index in range(200)]


@pytest.fixture(scope="module")
def embedder():
    return load_embedder("scenes")


@pytest.fixture(scope="module")
def world(tmp_path_factory, embedder):
    """(folder, bundle): the classifier with a bank from a small probing set."""
    folder = tmp_path_factory.mktemp("scenes")
    images = render_probing_set(folder / "probing", 800)
    export_network(load_network("scenes:classifier"), folder / "backbone")
    backbone = Backbone(folder / "backbone")
    own = backbone, embedder, images, vocabulary(), folder / "bank", SETTINGS
    build_bank(*own)
    return folder, ModelBundle.load("scenes", folder / "backbone", folder / "bank")


def test_the_classifier_knows_its_classes(world):
    seen = observe(world[1], scene_truth(300).cases)
    right = [o.prediction.class_index == o.case.class_index for o in seen]
    assert np.mean(right) >= 0.96


def test_the_biased_twin_leans_on_its_cues(tmp_path):
    """On unbiased scenes it falls on the betrayed classes, and hardly on others."""
    export_network(load_network("scenes:biased"), tmp_path / "b")
    backbone = Backbone(tmp_path / "b")
    cases = scene_truth(500).cases
    truth = np.array([case.class_index for case in cases])
    bundle_like = type("Bundle", (), {"backbone": backbone})
    right = logits_of(bundle_like, [case.image for case in cases]).argmax(1) == truth
    betrayed = np.isin(truth, list(BIASED.cue_phrases))
    assert right[~betrayed].mean() - right[betrayed].mean() >= 0.1


def test_the_clip_tells_the_words_of_lone_objects(embedder):
    seen = embedder.embed_images([Image.fromarray(render(scene).image) for scene in LONE])
    for kind, words in ATTRIBUTES.items():
        found = (seen @ embedder.embed_texts(list(words)).T).argmax(1)
        truth = [scene.objects[0].attributes[kind] for scene in LONE]
        assert np.mean([words[i] == t for i, t in zip(found, truth, strict=True)]) >= 0.93, kind


@pytest.fixture(scope="module")
def report(world, embedder):
    return evaluate(
        world[1], scene_truth(40), embedder=embedder, probing=read_probing(world[0] / "bank")
    )


def test_the_evaluation_prefers_the_method_to_its_controls(report):
    words = report["words"]
    own, other = words["TextCAM"], words["control: embedder's opinion"]
    assert own["precision"] >= 0.85
    assert own["precision_1"] >= 0.95
    assert own["none"] == 0
    assert own["precision"] - other["precision"] >= 0.3
    assert own["precision"] - own["swapped"] >= 0.5
    assert own["ece"] <= 0.1
    assert sum(row["phrases"] for row in report["reliability"].values()) == pytest.approx(
        own["phrases"] * report["judged"]
    )
    low, high = report["intervals"].values()
    for name in ("precision", "recall", "phrases"):
        assert low[name] <= own[name] <= high[name]
    assert low["precision"] < high["precision"]
    place = report["place"]
    assert place["TextCAM"]["pointing"] - place["control: centred Gaussian"]["pointing"] >= 0.3
    faith = report["faithfulness"]
    assert faith["TextCAM"]["deletion_auc"] < faith["control: centred Gaussian"]["deletion_auc"]
    assert report["counterfactual"]["TextCAM"]["ablation_error"] < 1e-5
    assert report["randomisation"]["head"]["words"] < 0.3
    assert report["randomisation"]["all layers"]["words"] < 0.3


def test_channels_that_stand_for_nothing_say_nothing_once_they_are_calibrated(report):
    for name in ("control: shuffled channels", "control: random supports"):
        assert report["words"][name]["none"] >= 0.95
    assert report["notes"] == []


def test_effects_follow_what_removal_costs_and_the_logit_alone_does_not(report):
    rows = report["counterfactual"]
    own = rows["TextCAM"]
    assert own["rank_correlation"] >= 0.7
    assert own["within_scene"] >= 0.6
    assert rows["control: logit alone"]["within_scene"] == 0
    for control in ("control: logit alone", "control: shuffled channels"):
        assert own["rank_correlation"] - rows[control]["rank_correlation"] >= 0.2
        assert rows[control]["pairs"] == own["pairs"] >= 200


def test_without_probing_images_controls_keep_the_banks_calibration_and_the_report_says_so(world):
    report = evaluate(world[1], scene_truth(10))
    assert report["notes"] == [
        "the controls keep the bank's calibration, for the bank has no probing images beside it"
    ]
    words = report["words"]
    assert words["control: shuffled channels"]["phrases"] > 1
    assert words["control: shuffled channels"]["precision"] < words["TextCAM"]["precision"] - 0.3


def test_the_papers_way_is_judged_with_its_own_controls(world, embedder):
    settings = replace(RATIONALE, wording="embeddings")
    report = evaluate(replace(world[1], settings=settings), scene_truth(20), embedder=embedder)
    words = report["words"]
    controls = {name for name in words if name.startswith("control")}
    assert controls == {
        "control: random directions",
        "control: shuffled channels",
        "control: embedder's opinion",
    }
    assert all(words["TextCAM"]["precision"] - words[name]["precision"] > 0.2 for name in controls)
    assert "reliability" not in report
    assert report["notes"] == []
    effect = report["counterfactual"]
    assert effect["TextCAM"]["pairs"] == effect["control: shuffled channels"]["pairs"] > 100


def test_cues_are_named_in_the_biased_world_and_not_in_the_other(world, embedder, tmp_path):
    export_network(load_network("scenes:biased"), tmp_path / "backbone")
    backbone = Backbone(tmp_path / "backbone")
    images = sorted((world[0] / "probing").glob("*.png"))
    own = backbone, embedder, images, vocabulary(), tmp_path / "bank", SETTINGS
    build_bank(*own)
    twin = ModelBundle.load("biased", tmp_path / "backbone", tmp_path / "bank")
    cues, moved = judge_cues(twin, world[1], 30)
    for cue, figures in cues.items():
        assert figures["named"] >= 0.9
        assert figures["named_by_twin"] <= 0.05
        assert figures["auroc"] > 0.9
        assert figures["accuracy_with"] > figures["accuracy_without"]
        assert figures["logit_cost"] > 1
        assert min(moves[cue] for moves in moved.values()) >= 0.8
        assert max(moves[f"{cue}, twin"] for moves in moved.values()) <= 0.1
    assert list(moved) == list(perturbed_settings(RATIONALE))

    # A setting that lets nothing more through is obeyed: the cue is then never the second phrase.
    strict = replace(RATIONALE, min_new=99.0, min_more=99.0)
    bundles = [replace(bundle, settings=strict) for bundle in (twin, world[1])]
    only_first, _ = judge_cues(*bundles, 10)
    assert min(figures["named"] for figures in only_first.values()) < 0.5

    papers = replace(RATIONALE, wording="embeddings")
    by_embeddings, none = judge_cues(
        *(replace(bundle, settings=papers) for bundle in (twin, world[1])), 10
    )
    assert none == {}
    assert min(figures["auroc"] for figures in by_embeddings.values()) > 0.9

    small = tmp_path / "small"
    other, _ = replace_vocabulary(
        tmp_path / "bank", embedder, ["red", "cube"], small, backbone=backbone
    )
    with pytest.raises(InvalidTruth, match="different vocabularies"):
        judge_cues(replace(twin, artefact=other), world[1], 5)


def test_what_cannot_be_judged_says_why(world, embedder, backbone_folder):
    photos = ModelBundle.load("photos", backbone_folder, BANK)
    with pytest.raises(InvalidTruth, match="this one knows 1000: tench"):
        evaluate(photos, scene_truth(10))
    with pytest.raises(BundleMismatch, match="give the same"):
        evaluate(world[1], scene_truth(10), embedder=type("Other", (), {"identity": "x"})())
    wrong = [
        Case(str(i), case.image, (case.class_index + 1) % 10)
        for i, case in enumerate(scene_truth(10).cases)
    ]
    with pytest.raises(InvalidTruth, match="right on none of the 10 images"):
        evaluate(world[1], Truth(wrong))


def test_a_bank_takes_another_vocabulary_of_its_own_space_only(world, embedder, tmp_path):
    folder, bundle = world
    other = partial(replace_vocabulary, folder / "bank")
    words = ["red", "cube"]
    artefact, ungrounded = other(embedder, words, tmp_path / "bank", backbone=bundle.backbone)
    assert artefact.vocabulary.phrases == ("red", "cube")
    assert ungrounded == ()
    assert artefact.bank.supports is not None
    places = [bundle.phrases.index(word) for word in words]
    kept = bundle.artefact.bank.supports.supports[:, places]
    np.testing.assert_allclose(artefact.bank.supports.supports, kept, atol=2e-3)
    assert ModelBundle.load("x", folder / "backbone", tmp_path / "bank").phrases == ("red", "cube")

    stranger = type("Stranger", (), {"identity": "another"})()
    with pytest.raises(BundleMismatch, match="give the same"):
        other(stranger, ["red"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_commands_render_and_judge(world, tmp_path):
    folder = world[0]
    common = ["--backbone", folder / "backbone", "--bank", folder / "bank"]
    shown = tmp_path / "shown"
    subprocess.run(
        [TEXTCAM, "scenes", "--count", "12", "--seed", "8", "--output", shown], check=True
    )
    assert len(list(shown.glob("*.png"))) == 12
    done = subprocess.run(
        [TEXTCAM, "evaluate", *common, "--truth", shown / "truth.json", "--output", tmp_path / "r"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert re.search(r"(9|1[0-2]) of 12 images judged", done.stdout)
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert set(report["words"]) >= {"TextCAM", "control: shuffled channels"}
    assert report["words"]["TextCAM"]["precision"] > 0.7
    assert "2.5 %" in done.stdout
    assert "reliability" in done.stdout
    assert "the controls keep the bank's calibration, for the bank's embedder" in done.stdout
    bad = subprocess.run(
        [TEXTCAM, "evaluate", *common, "--truth", tmp_path / "none.json"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert bad.returncode == 1
    assert "cannot be read" in bad.stderr

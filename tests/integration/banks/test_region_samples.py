"""Banks of activated regions, with the rendered world's classifier and CLIP."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from textcam_service.cli.bank.build import bank_build
from textcam_service.core.concepts.activated_regions import RegionSettings
from textcam_service.core.concepts.channel_embeddings import ChannelSettings, channel_directions
from textcam_service.core.rationale.phrases import center_texts
from textcam_service.errors import EmbedderError, InvalidSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.banks.region_samples import region_samples
from textcam_service.offline.embedders.base import embed_with_templates
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.evaluation.cases import explain_case, observe, scene_truth
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.probing import render_probing_set
from textcam_service.scenes.render import render
from textcam_service.scenes.world import (
    COLOURS,
    arrange,
    object_phrases,
    random_attributes,
    vocabulary,
)

WAYS = {
    kind: BankSettings(ChannelSettings(samples=10, regions=RegionSettings(kind)))
    for kind in ("crop", "mosaic", "dense")
}


@pytest.fixture(scope="module")
def embedder():
    return load_embedder("scenes")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    images = render_probing_set(folder / "probing", 40)
    export_network(load_network("scenes:classifier"), folder / "backbone")
    return folder, images, Backbone(folder / "backbone")


def test_banks_are_built_every_way_and_say_so(world, embedder):
    folder, images, backbone = world
    passes = {}
    for kind, settings in WAYS.items():
        artefact, _ = build_bank(backbone, embedder, images, vocabulary(), folder / kind, settings)
        parameters = artefact.bank.parameters
        assert parameters["channel_settings"]["regions"]["kind"] == kind
        assert parameters["embedder_passes"]["images"] == 40
        passes[kind] = parameters["embedder_passes"]["regions"]
        assert not (folder / f"{kind}.work").exists()
        bundle = ModelBundle.load(kind, folder / "backbone", folder / kind)
        (seen,) = observe(bundle, scene_truth(1).cases)
        assert explain_case(bundle, seen, 3).phrases
    assert passes["dense"] <= 40 < passes["mosaic"] < passes["crop"]
    # 2 x 2 regions in a mosaic, and one not filled for every 16 images.
    assert passes["mosaic"] <= passes["crop"] / 4 + 40 / 16 + 1


def test_regions_begin_again_where_they_stopped(world, embedder, monkeypatch):
    folder, images, backbone = world
    settings = WAYS["crop"]
    with monkeypatch.context() as patch:
        patch.setattr("textcam_service.offline.banks.build.write_bank", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_bank(backbone, embedder, images, ["red", "cube"], folder / "again", settings)
        patch.undo()
        patch.setattr(embedder, "embed_images", interrupted)
        build_bank(backbone, embedder, images, ["red", "cube"], folder / "again", settings)
    assert not (folder / "again.work").exists()


def interrupted(*_arguments):
    raise KeyboardInterrupt


def test_what_cannot_be_built_is_refused_before_the_work(world, embedder, monkeypatch):
    folder, images, backbone = world
    monkeypatch.setattr("textcam_service.offline.banks.build.extract", interrupted)
    settings = BankSettings(ChannelSettings("correlation", 20, regions=RegionSettings("dense")))
    with pytest.raises(InvalidSettings, match="'correlation' is of whole images"):
        build_bank(backbone, embedder, images, ["red", "cube"], folder / "none", settings)
    whole = type("Whole", (), {"identity": "whole@sha256:0"})()
    with pytest.raises(EmbedderError, match="whole@sha256:0 gives one embedding per picture"):
        build_bank(backbone, whole, images, ["red", "cube"], folder / "none", WAYS["mosaic"])
    assert not (folder / "none.work").exists()


def test_the_command_takes_regions(world, tmp_path):
    folder = world[0]
    common = ["--backbone", folder / "backbone", "--images", folder / "probing"]
    common += ["--embedder", "scenes", "--regions", "dense", "--region", "share=0.4"]
    options = [
        "--vocabulary",
        tmp_path / "words.txt",
        "--samples",
        "20",
        "--output",
        tmp_path / "b",
    ]
    (tmp_path / "words.txt").write_text("red\ncube\n")
    done = CliRunner().invoke(bank_build, [str(option) for option in (*common, *options)])
    assert done.exit_code == 0, done.output
    assert "embedder passes: 40 images, " in done.output
    manifest = json.loads((tmp_path / "b" / "bank.json").read_text())
    assert manifest["parameters"]["channel_settings"]["regions"]["share"] == 0.4


# --- planted channels ----------------------------------------------------------------------------


class Planted:
    """Channels that fire at every object of which a phrase is true, in the middle of it."""

    def __init__(self, folder: Path, preprocessing, count=200):
        self.manifest = type(
            "Manifest",
            (),
            {"preprocessing": preprocessing, "weights_digest": "planted", "vertices": 0},
        )
        self.phrases = [phrase for phrase in vocabulary() if not phrase.endswith(" floor")]
        self.images, self._maps = [], {}
        folder.mkdir()
        for index in range(count):
            scene = in_company(np.random.default_rng([700, index]))
            rendered = render(scene)
            self.images.append(folder / f"{index:03}.png")
            Image.fromarray(rendered.image).save(self.images[-1])
            maps = np.zeros((len(self.phrases), 12, 12), np.float32)
            for item, mask in zip(scene.objects, rendered.masks, strict=True):
                row, column = (int(place.mean()) // 8 for place in np.nonzero(mask))
                true = np.isin(self.phrases, object_phrases(item.attributes))
                maps[true, row, column] = 1
            self._maps[rendered.image.tobytes()] = maps

    @property
    def scores(self):
        return np.stack([maps.mean((1, 2)) for maps in self._maps.values()])

    def run(self, inputs):
        size = self.manifest.preprocessing
        pixels = inputs.transpose(0, 2, 3, 1) * np.array(size.std) + np.array(size.mean)
        images = np.rint(pixels * 255).astype(np.uint8)
        return None, np.stack([self._maps[image.tobytes()] for image in images])

    @staticmethod
    def on_grid(crop):
        return crop


def in_company(rng):
    """Every colour comes with another one, always the same."""
    other = dict(zip(COLOURS, COLOURS[4:] + COLOURS[:4], strict=True))
    items = [random_attributes(rng), random_attributes(rng)]
    items += [{**random_attributes(rng), "colour": other[item["colour"]]} for item in items]
    return arrange(rng, [items[place] for place in rng.permutation(4)])


def test_planted_concepts_are_recovered_better_than_by_whole_images(world, embedder, tmp_path):
    """One pass per image, and by far more of 276 phrases among the first three of 280."""
    planted = Planted(tmp_path / "planted", world[2].manifest.preprocessing)
    phrases = vocabulary()
    texts = center_texts(embed_with_templates(embedder, phrases))
    own = np.array([phrases.index(phrase) for phrase in planted.phrases])

    def recovered(embeddings, samples=None):
        settings = ChannelSettings(samples=20)
        found = channel_directions(planted.scores, embeddings, settings, samples=samples)
        ranks = np.argsort(-(found.embeddings @ texts.T), axis=1)[:, :3]
        return (ranks == own[:, None]).any(axis=1).mean()

    whole = recovered(embedder.embed_images([Image.open(path) for path in planted.images]))
    regions = region_samples(
        planted.images,
        planted.scores,
        planted,
        embedder,
        ChannelSettings(samples=20, regions=RegionSettings("dense")),
        tmp_path / "work",
    )
    assert regions.passes <= len(planted.images)
    dense = recovered(regions.embeddings, (regions.low, regions.high))
    assert dense - whole >= 0.1

"""A wrong preprocessing shows in answers to pictures: the rendered world's trained classifier."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import run
from PIL import Image
from textcam_service.core.types import Preprocessing
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.export.preprocessing_check import check_preprocessing
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.classes import CLASSES, class_scene
from textcam_service.scenes.render import render
from torch import nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5,) * 3, (0.5,) * 3
WHOLE = (0.0,) * 3, (1 / 255,) * 3


class Refed(nn.Module):
    """The scenes' classifier, fed in another convention."""

    def __init__(self, mean, std):
        super().__init__()
        network = load_network("scenes:classifier")
        self.network, own = network.module, network.preprocessing
        scale = torch.tensor(std) / torch.tensor(own.std)
        shift = (torch.tensor(mean) - torch.tensor(own.mean)) / torch.tensor(own.std)
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, images):
        return self.network(images * self.scale + self.shift)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """One that was trained with --mean 0.5 --std 0.5."""
    known = load_network("scenes:classifier")
    own = replace(known.preprocessing, mean=HALVES[0], std=HALVES[1])
    folder = tmp_path_factory.mktemp("refed") / "backbone"
    export_network(replace(known, module=Refed(*HALVES).eval(), preprocessing=own), folder)
    return Backbone(folder)


@pytest.fixture(scope="module")
def pictures():
    scenes = (
        class_scene(np.random.default_rng([7, index]), index % len(CLASSES)) for index in range(48)
    )
    return [Image.fromarray(render(scene).image) for scene in scenes]


def fed(backbone, mean, std):
    """The same graph, described as fed otherwise."""
    other = Backbone(backbone.folder)
    size: Preprocessing = backbone.manifest.preprocessing
    other.manifest = replace(backbone.manifest, preprocessing=replace(size, mean=mean, std=std))
    return other


def test_the_right_preprocessing_is_not_doubted(backbone, pictures):
    check = check_preprocessing(backbone, pictures)
    assert check.better == ""
    assert check.better_information == check.information
    assert check.probabilities.shape == (48, len(backbone.manifest.class_names))


@pytest.mark.parametrize("wrong", [IMAGENET, WHOLE, ((0.0,) * 3, (1.0,) * 3)])
def test_a_wrong_one_is_told_with_the_right_options(backbone, pictures, wrong):
    check = check_preprocessing(fed(backbone, *wrong), pictures)
    assert check.better == "--mean 0.5 --std 0.5"
    assert check.information < check.better_information


def test_colours_in_the_other_order_are_told(backbone, pictures):
    turned = [Image.merge("RGB", picture.split()[::-1]) for picture in pictures]
    check = check_preprocessing(backbone, turned)
    assert check.better.startswith("--mean 0.5 --std 0.5, and the other order of the colours")


def test_the_command_shows_answers_and_the_better_options(pictures, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, picture in enumerate(pictures):
        picture.save(folder / f"{index:02}.png")
    (folder / "00.png").write_bytes(b"no picture")
    shown = ["--mean", "0", "--std", "1/255", "--check-images", folder, "--output", tmp_path / "b"]
    code, said = run("export", "--model", "scenes:classifier", *shown)
    assert code == 0
    assert "01.png: " in said
    assert "00.png" not in said
    assert "sure of the 47 photographs by " in said
    assert "another preprocessing suits it better; was it trained so? With --mean " in said

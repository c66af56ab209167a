"""The scene world's networks: their parts, packaged weights, and files of one's own."""

import pytest
import torch
from safetensors.torch import save_file
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.scenes import (
    SceneNet,
    SceneTrunk,
    load_scene_network,
)
from textcam_service.scenes.classes import CLASSES

WIDTHS = (4, 4, 6, 8)
IMAGES = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_logits_are_linear_in_the_mean_of_maps_of_twelve_by_twelve():
    network = SceneNet(WIDTHS).eval()
    with torch.no_grad():
        maps = network.blocks(network.stem(IMAGES))
        assert maps.shape == (2, 8, 12, 12)
        torch.testing.assert_close(network(IMAGES), network.head(maps.mean((2, 3))))


def test_a_trunk_gives_features_in_two_steps_that_are_its_whole():
    trunk = SceneTrunk().eval()
    with torch.no_grad():
        maps = trunk.forward_features(IMAGES)
        assert maps.shape[1] == trunk.num_features
        torch.testing.assert_close(trunk(IMAGES), trunk.forward_head(maps))


def test_the_packaged_twins_have_the_worlds_classes_and_weights_of_their_own():
    own, biased = (load_scene_network(which) for which in ("classifier", "biased"))
    assert own.class_names == biased.class_names == tuple(cls.name for cls in CLASSES)
    assert own.module.head.weight.dtype == torch.float32
    assert not torch.equal(own.module.head.weight, biased.module.head.weight)


def test_weights_are_read_from_a_file(tmp_path):
    state = SceneNet().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    loaded = load_scene_network("classifier", str(tmp_path / "w.safetensors"))
    assert torch.equal(loaded.module.head.weight, state["head.weight"])


def test_an_unknown_network_is_refused_with_those_that_there_are():
    with pytest.raises(ExportRefused, match="unknown network 'scenes:x'; there are classifier, "):
        load_scene_network("x")

"""timm's models: preprocessing from their own config, and checkpoints of one's own."""

import argparse

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks import timm as own
from textcam_service.offline.networks.loading import load_network, weights_digest
from textcam_service.offline.networks.timm import load_timm, timm

NAME = "test_resnet"  # timm's own smallest, for tests
ARGUMENTS = argparse.Namespace(
    gp="avgmax", img_size=192, mean=(0.5, 0.5, 0.5), std=None, interpolation="", model_kwargs={}
)


def test_random_weights_are_the_same_at_every_load():
    one, other = (load_timm(NAME, "none") for _ in range(2))
    for mine, yours in zip(one.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_the_preprocessing_follows_the_models_config():
    loaded = load_timm(NAME, "none")
    config = timm.data.resolve_model_data_config(loaded.module)
    found, (_, height, width) = loaded.preprocessing, config["input_size"]
    assert (found.height, found.width) == (height, width)
    assert found.resize == int(max(height, width) / config["crop_pct"])
    assert found.mean == tuple(config["mean"])
    assert found.crop_mode == config["crop_mode"]


def test_a_checkpoint_sets_the_number_of_classes(tmp_path):
    module = timm.create_model(NAME, pretrained=False, num_classes=3)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    loaded = load_timm(NAME, str(tmp_path / "w.pt"))
    assert loaded.class_names == ("class 0", "class 1", "class 2")
    assert torch.equal(loaded.module.get_classifier().weight, module.get_classifier().weight)


def test_a_way_of_cropping_that_is_not_served_is_refused(monkeypatch):
    known = timm.data.resolve_model_data_config
    monkeypatch.setattr(
        own.timm.data,
        "resolve_model_data_config",
        lambda module, **fed: known(module, **fed) | {"crop_mode": "spiral"},
    )
    with pytest.raises(ExportRefused, match="wants its images resized by 'spiral'; served are "):
        load_timm(NAME, "none")


def trained(name, form=lambda module: module, **options):
    torch.manual_seed(0)
    return form(timm.create_model(name, num_classes=7, **options).eval())


def reloaded(module, name, folder, options=None, **beside):
    state = module.state_dict()
    torch.save({"state_dict": state, **beside} if beside else state, folder / "w.pth")
    return load_network(f"timm:{name}", str(folder / "w.pth"), options or {})


def same_logits(network, module):
    fed = network.preprocessing
    images = torch.randn(2, 3, fed.height, fed.width)
    with torch.no_grad():
        return torch.equal(network.module(images), module(images))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("eva02_tiny_patch14_224", {}, "num_classes=7"),
        ("test_vit", {"img_size": 96}, "img_size=96"),
        ("test_vit", {"global_pool": "avg"}, "global_pool=avg, num"),
        ("test_vit", {"global_pool": "map"}, "global_pool=map"),
        ("test_resnet", {"global_pool": "catavgmax"}, "global_pool=catavgmax"),
    ],
)
def test_a_fine_tuned_network_is_built_as_its_weights_show(name, options, said, tmp_path):
    """Default weights of eva02 have no classifier."""
    module = trained(name, **options)
    network = reloaded(module, name, tmp_path)
    assert len(network.class_names) == 7
    assert said in network.notes[0]
    assert network.preprocessing.height == options.get("img_size", network.preprocessing.height)
    assert same_logits(network, module)


@pytest.mark.parametrize("name", ["mobileone_s0", "repvit_m0_9"])
def test_a_reparameterised_network_loads(name, tmp_path):
    module = trained(name, timm.utils.reparameterize_model)
    network = reloaded(module, name, tmp_path)
    assert "reparameterised" in network.notes[1]
    assert same_logits(network, module)


def test_pooling_that_weights_do_not_show_is_told_said_or_read(tmp_path):
    module = trained("test_resnet", global_pool="avgmax")
    assumed = reloaded(module, "test_resnet", tmp_path)
    assert assumed.notes[-1].startswith("global_pool=avg is assumed")
    said = reloaded(module, "test_resnet", tmp_path, {"global_pool": "avgmax"})
    assert not any("assumed" in note for note in said.notes)
    assert same_logits(said, module)
    assert weights_digest(said, "x") != weights_digest(assumed, "x")
    read = reloaded(module, "test_resnet", tmp_path, args=ARGUMENTS)
    assert "global_pool=avgmax, img_size=192, mean=(0.5, 0.5, 0.5), as its" in read.notes[-1]
    assert same_logits(read, module)
    assert (read.preprocessing.height, read.preprocessing.mean) == (192, (0.5,) * 3)


def test_the_size_of_a_network_that_takes_any_is_its_inputs(tmp_path):
    module = trained("test_resnet")
    assert reloaded(module, "test_resnet", tmp_path, {"img_size": 96}).preprocessing.height == 96


def test_classes_are_no_option_of_the_librarys_weights():
    with pytest.raises(ExportRefused, match="have their own classes; leave it out"):
        load_network("timm:test_resnet", None, {"num_classes": 5})

"""timm's networks from checkpoints: arguments that weights or a training script show."""

import argparse

import pytest
import timm
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.loading import load_network, weights_digest

ARGUMENTS = argparse.Namespace(
    gp="avgmax", img_size=192, mean=(0.5, 0.5, 0.5), std=None, interpolation="", model_kwargs={}
)


def trained(name, form=lambda module: module, **options):
    torch.manual_seed(0)
    return form(timm.create_model(name, num_classes=7, **options).eval())


def loaded(module, name, folder, options=None, **beside):
    state = module.state_dict()
    torch.save({"state_dict": state, **beside} if beside else state, folder / "w.pth")
    return load_network(f"timm:{name}", str(folder / "w.pth"), options)


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
    network = loaded(module, name, tmp_path)
    assert len(network.class_names) == 7
    assert said in network.notes[0]
    assert network.preprocessing.height == options.get("img_size", network.preprocessing.height)
    assert same_logits(network, module)


@pytest.mark.parametrize("name", ["mobileone_s0", "repvit_m0_9"])
def test_a_reparameterised_network_loads(name, tmp_path):
    module = trained(name, timm.utils.reparameterize_model)
    network = loaded(module, name, tmp_path)
    assert "reparameterised" in network.notes[1]
    assert same_logits(network, module)


def test_pooling_that_weights_do_not_show_is_told_said_or_read(tmp_path):
    module = trained("test_resnet", global_pool="avgmax")
    assumed = loaded(module, "test_resnet", tmp_path)
    assert assumed.notes[-1].startswith("global_pool=avg is assumed")
    said = loaded(module, "test_resnet", tmp_path, {"global_pool": "avgmax"})
    assert not any("assumed" in note for note in said.notes)
    assert same_logits(said, module)
    assert weights_digest(said, "x") != weights_digest(assumed, "x")
    read = loaded(module, "test_resnet", tmp_path, args=ARGUMENTS)
    assert "global_pool=avgmax, img_size=192, mean=(0.5, 0.5, 0.5), as its" in read.notes[-1]
    assert same_logits(read, module)
    assert (read.preprocessing.height, read.preprocessing.mean) == (192, (0.5,) * 3)


def test_the_size_of_a_network_that_takes_any_is_its_inputs(tmp_path):
    module = trained("test_resnet")
    assert loaded(module, "test_resnet", tmp_path, {"img_size": 96}).preprocessing.height == 96


def test_classes_are_no_option_of_the_librarys_weights():
    with pytest.raises(ExportRefused, match="have their own classes; leave it out"):
        load_network("timm:test_resnet", None, {"num_classes": 5})

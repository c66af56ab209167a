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
    assert (loaded.class_count, loaded.class_names) == (3, ())
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


@pytest.fixture
def fetched(monkeypatch):
    """Weights of the library drawn at random, for no test fetches them."""
    create = timm.create_model
    monkeypatch.setattr(
        own.timm, "create_model", lambda name, pretrained, **rest: create(name, **rest)
    )


@pytest.mark.usefixtures("fetched")
def test_the_librarys_heads_have_the_names_that_it_ships():
    large = load_network("timm:mobilenetv3_large_100.miil_in21k").class_names
    synonyms = timm.data.ImageNetInfo("imagenet-21k-miil").label_descriptions()
    assert len(set(large)) == len(large) == 11221
    assert all(
        said.startswith(named.removesuffix(f" ({at})"))
        for at, (named, said) in enumerate(zip(large, synonyms, strict=True))
    )
    dog = next(at for at, said in enumerate(synonyms) if said.startswith("dog, domestic dog"))
    assert large[dog] == "dog"
    small = load_network("timm:mobilenetv3_small_050.lamb_in1k").class_names
    assert (small[0], small[-1]) == ("tench", "toilet tissue")


def test_a_checkpoint_of_as_many_classes_as_imagenet_has_no_names_of_its(tmp_path):
    torch.manual_seed(0)
    other = timm.create_model(NAME, num_classes=1000)
    assert reloaded(other, NAME, tmp_path).class_names[0] == "class 0"
    named = reloaded(other, NAME, tmp_path, classes=[f"bird {index}" for index in range(1000)])
    assert named.class_names[999] == "bird 999"
    assert "the class names 'classes'" in named.notes[0]


@pytest.mark.usefixtures("fetched")
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("eva02_tiny_patch14_224.mim_in22k", {}, "it has num_classes=0; give --weights"),
        ("resnet50_clip.openai", {}, "its 1024 outputs are an image's embedding"),
        ("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", {}, "its 512 outputs"),
    ],
)
def test_towers_without_a_classifier_are_refused_with_the_remedy(name, options, said):
    with pytest.raises(ExportRefused, match=said):
        load_network(f"timm:{name}", None, options)


def test_a_towers_checkpoint_and_random_weights_are_refused_unless_their_classes_are_said(tmp_path):
    name = "vit_xsmall_patch16_clip_224"
    torch.manual_seed(0)
    tower = timm.create_model(name)
    with pytest.raises(ExportRefused, match="--model-option num_classes=NUMBER"):
        reloaded(tower, name, tmp_path)
    assert len(reloaded(tower, name, tmp_path, {"num_classes": 512}).class_names) == 512
    assert len(load_network(f"timm:{name}", "none", {"num_classes": 5}).class_names) == 5
    with pytest.raises(ExportRefused, match="num_classes=0"):
        load_network("timm:test_vit", "none", {"num_classes": 0})


def test_a_checkpoint_says_that_its_classes_do_not_exclude_each_other(tmp_path):
    module = trained("test_resnet")
    stated = reloaded(module, NAME, tmp_path, config={"problem_type": "multi_label_classification"})
    assert stated.multi_label
    assert "'config.problem_type', by which the network is multi-label" in stated.notes[0]
    plain = reloaded(module, NAME, tmp_path, epoch=3)
    assert not plain.multi_label
    assert weights_digest(stated, "x") != weights_digest(plain, "x")

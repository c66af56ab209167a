"""torchvision's models: the preprocessing of their weights, and checkpoints of their own."""

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.loading import load_network
from textcam_service.offline.networks.torchvision import _preset, load_torchvision
from torchvision import models

NAME = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def drawn():
    return load_torchvision(NAME, "none")


def test_random_weights_are_the_same_at_every_load_and_know_no_names(drawn):
    again = load_torchvision(NAME, "none")
    for one, other in zip(drawn.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (drawn.class_count, drawn.class_names) == (1000, ())
    assert drawn.preprocessing.height == 224


def test_the_preprocessing_is_the_one_that_the_weights_state():
    weights = models.EfficientNet_B1_Weights.IMAGENET1K_V2
    found = _preset(weights)
    assert (found.resize, found.height, found.width) == (255, 240, 240)
    assert found.interpolation == "bilinear"
    assert found.mean == pytest.approx((0.485, 0.456, 0.406))


def test_a_checkpoint_sets_the_number_of_classes(drawn, tmp_path):
    module = models.get_model(NAME, weights=None, num_classes=3)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    loaded = load_torchvision(NAME, str(tmp_path / "w.pt"))
    assert (loaded.class_count, loaded.class_names) == (3, ())
    assert torch.equal(loaded.module.classifier[-1].weight, module.classifier[-1].weight)


def test_names_are_those_of_the_librarys_weights_and_not_of_a_file_with_as_many(
    drawn, tmp_path, monkeypatch
):
    weights, torch_hub = models.MobileNet_V3_Small_Weights.DEFAULT, models._api.WeightsEnum
    monkeypatch.setattr(torch_hub, "get_state_dict", lambda *_, **__: drawn.module.state_dict())
    assert load_torchvision(NAME, None).class_names == tuple(weights.meta["categories"])
    network = reloaded(drawn.module, NAME, tmp_path)
    assert network.class_names == tuple(f"class {index}" for index in range(1000))


def test_weights_that_are_neither_a_tag_nor_a_file_are_refused_with_the_tags():
    with pytest.raises(ExportRefused, match="IMAGENET1K_V1"):
        load_torchvision(NAME, "IMAGENET9")


def reloaded(module, name, folder, options=None):
    torch.save(module.state_dict(), folder / "w.pth")
    return load_network(f"torchvision:{name}", str(folder / "w.pth"), options or {})


@pytest.mark.parametrize("auxiliary", [True, False])
def test_auxiliary_heads_are_built_where_the_weights_have_them(auxiliary, tmp_path):
    module = models.googlenet(num_classes=3, aux_logits=auxiliary, init_weights=False)
    network = reloaded(module, "googlenet", tmp_path)
    assert len(network.class_names) == 3
    assert ("aux_logits=False" in network.notes[0]) == (not auxiliary)
    assert network.notes[-1].startswith("transform_input=False is assumed")
    said = reloaded(module, "googlenet", tmp_path, {"transform_input": True})
    assert said.module.transform_input
    assert len(said.notes) == 1


def test_a_vits_size_follows_from_its_positions(tmp_path):
    network = reloaded(models.vit_b_32(num_classes=3, image_size=64), "vit_b_32", tmp_path)
    assert network.preprocessing.height == network.preprocessing.resize == 64
    assert network.module.image_size == 64

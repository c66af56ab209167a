"""torchvision's models: the preprocessing of their weights, and checkpoints of their own."""

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.torchvision import _preset, load_torchvision
from torchvision import models

NAME = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def drawn():
    return load_torchvision(NAME, "none")


def test_random_weights_are_the_same_at_every_load_with_imagenets_classes(drawn):
    again = load_torchvision(NAME, "none")
    for one, other in zip(drawn.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert len(set(drawn.class_names)) == 1000
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
    assert loaded.class_names == ("class 0", "class 1", "class 2")
    assert torch.equal(loaded.module.classifier[-1].weight, module.classifier[-1].weight)


def test_weights_that_are_neither_a_tag_nor_a_file_are_refused_with_the_tags():
    with pytest.raises(ExportRefused, match="IMAGENET1K_V1"):
        load_torchvision(NAME, "IMAGENET9")

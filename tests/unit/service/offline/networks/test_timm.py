"""timm's models: preprocessing from their own config, and checkpoints of one's own."""

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks import timm as own
from textcam_service.offline.networks.timm import load_timm, timm

NAME = "test_resnet"  # timm's own smallest, for tests


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
        lambda module: known(module) | {"crop_mode": "spiral"},
    )
    with pytest.raises(ExportRefused, match="wants its images resized by 'spiral'; served are "):
        load_timm(NAME, "none")

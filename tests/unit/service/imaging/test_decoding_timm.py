"""The network's input is what timm's own transforms make of an image."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from textcam_service.core.heatmap import heatmap
from textcam_service.core.types import Preprocessing
from textcam_service.imaging.decoding import prepare

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def noise(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def waves(width, height):
    """Fine waves that no filter takes out of 0..255, where its two passes would be clipped."""
    y, x = np.mgrid[:height, :width]
    levels = 128 + 50 * np.stack([np.sin(x / 3 + y / 7), np.cos(y / 4), np.sin((x + y) / 5)], -1)
    return Image.fromarray(levels.round().astype(np.uint8))


def differences(image, config):
    """Levels, 0..255, by which the service's input differs from timm's."""
    _, height, width = config["input_size"]
    mean, std = tuple(config["mean"]), tuple(config["std"])
    resize = int(max(height, width) / config["crop_pct"])
    mode, filtering = config["crop_mode"], config["interpolation"]
    mine, _ = prepare(image, Preprocessing(resize, height, width, filtering, mean, std, mode))
    reference = timm.data.create_transform(**config)(image)
    return (torch.from_numpy(mine) - reference).abs() * torch.tensor(std)[:, None, None] * 255


def configurations():
    """One model of each geometry and filter that timm's weights want."""
    found = {}
    for name in timm.list_pretrained():
        wanted = timm.get_pretrained_cfg(name).to_dict()
        config = timm.data.resolve_data_config({}, pretrained_cfg=wanted)
        kind = (*(config[key] for key in ("input_size", "crop_pct", "crop_mode", "interpolation")),)
        found.setdefault(kind, (name, config))
    return dict(found.values())


@pytest.mark.parametrize("portrait", [False, True])
def test_every_configuration_of_timm_gives_timms_input(portrait):
    found = configurations()
    assert len(found) > 100
    assert any(config["crop_pct"] > 1 for config in found.values())
    image = waves(*((130, 181) if portrait else (181, 130)))
    for name, config in found.items():
        levels = differences(image, config)
        assert levels.max() <= 2.5, name  # Pillow rounds between its two passes
        assert levels.mean() <= 0.2, name


@pytest.mark.parametrize("size", [(300, 200), (200, 333), (64, 64), (500, 90), (61, 20)])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [1.15, 1.5, 2.3])
def test_a_crop_larger_than_the_image_is_filled_as_timm_fills_it(size, crop_mode, crop_pct):
    config = {
        "input_size": (3, 65, 65),
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "interpolation": "bicubic",
        "mean": MEAN,
        "std": STD,
    }
    levels = differences(noise(*size), config)
    assert levels.max() <= 2.5
    assert levels.mean() <= 0.2


def test_a_heatmap_lands_on_what_a_crop_larger_than_the_image_shows():
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[120:160, 110:140, 0] = 255
    contract = Preprocessing(48, 64, 64, "bilinear", (0.0,) * 3, (1.0,) * 3)
    tensor, crop = prepare(Image.fromarray(pixels), contract)
    assert not tensor[:, :8].any()  # black above the image
    assert not tensor[:, 56:].any()
    rows, columns = np.nonzero(heatmap(tensor[0], crop, 200, 300) > 0.5)
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert np.abs(np.subtract(found, (110, 120, 140, 160))).max() <= crop.width / 64

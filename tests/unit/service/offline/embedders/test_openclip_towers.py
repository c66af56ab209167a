"""How open_clip's image towers pool: the whole picture as a part is their own embedding."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders.base import part_embedder
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.embedders.openclip_towers import dense_tower
from torch import nn

TEXT = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}


TOWERS = {
    "class token": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "attention pool": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
    "timm": {"image_size": 160, "timm_model_name": "resnet10t", "timm_proj": "linear"},
    "timm, norm after pool": {"image_size": 64, "timm_model_name": "convnext_atto"},
}


REFUSED = {
    "attentional pooling": {**TOWERS["class token"], "attentional_pool": True},
    "mean of tokens": {**TOWERS["class token"], "pool_type": "avg"},
    "timm transformer": {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224"},
    "timm, maximum": {**TOWERS["timm"], "timm_pool": "max"},
    "timm, own pooling": {**TOWERS["timm"], "timm_pool": "rot_attn", "timm_proj": ""},
}


def visual(config):
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=16, vision_cfg=config, text_cfg=TEXT).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # some begin at 0, which hides their branch
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.visual.requires_grad_(False)


@pytest.mark.parametrize("config", TOWERS.values(), ids=TOWERS.keys())
def test_the_whole_as_a_part_is_the_towers_own_embedding(config):
    """And parts are told apart by what is in them."""
    network = visual(config)
    tower = dense_tower(network, "x")
    side = config["image_size"]
    pixels = torch.randn(2, 3, side, side)
    pixels[1, :, :, side // 2 :] = pixels[0, :, :, side // 2 :]  # right halves alike
    parts = np.array([[0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0, 1, 1]])
    found = nn.functional.normalize(tower.embed(pixels, [parts, parts]), dim=1).reshape(2, 3, -1)
    own = nn.functional.normalize(network(pixels), dim=1)
    assert torch.allclose(found[:, 0], own, atol=1e-5)
    left, right = (found[0, place] @ found[1, place] for place in (1, 2))
    assert right > left


@pytest.mark.parametrize("config", REFUSED.values(), ids=REFUSED.keys())
def test_towers_that_pool_in_other_ways_are_refused(config):
    with pytest.raises(EmbedderError, match="gives one embedding per picture"):
        dense_tower(visual(config), "x")


def test_the_scenes_embedder_sees_parts_of_pictures():
    embedder = part_embedder(load_embedder("scenes"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
    parts = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5]])
    found = embedder.embed_parts([image], [parts])
    assert np.allclose(found[0], embedder.embed_images([image])[0], atol=1e-5)
    assert found[1] @ found[0] < 0.999


def pixels(path):
    return np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255

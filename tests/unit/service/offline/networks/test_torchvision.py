"""torchvision's networks from checkpoints: arguments that the weights show."""

import pytest
import torch
from textcam_service.offline.networks.loading import load_network
from torchvision import models


def loaded(module, name, folder, options=None):
    torch.save(module.state_dict(), folder / "w.pth")
    return load_network(f"torchvision:{name}", str(folder / "w.pth"), options)


@pytest.mark.parametrize("auxiliary", [True, False])
def test_auxiliary_heads_are_built_where_the_weights_have_them(auxiliary, tmp_path):
    module = models.googlenet(num_classes=3, aux_logits=auxiliary, init_weights=False)
    network = loaded(module, "googlenet", tmp_path)
    assert len(network.class_names) == 3
    assert ("aux_logits=False" in network.notes[0]) == (not auxiliary)
    assert network.notes[-1].startswith("transform_input=False is assumed")
    said = loaded(module, "googlenet", tmp_path, {"transform_input": True})
    assert said.module.transform_input
    assert len(said.notes) == 1


def test_a_vits_size_follows_from_its_positions(tmp_path):
    network = loaded(models.vit_b_32(num_classes=3, image_size=64), "vit_b_32", tmp_path)
    assert network.preprocessing.height == network.preprocessing.resize == 64
    assert network.module.image_size == 64

"""Classifiers by name: local checkpoints however they were saved, and modules of one's own."""

import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.loading import load_network
from torchvision import models

_MODULES = """
import torch
from torch import nn
from textcam_service.core.types import Preprocessing

class HeadFirst(nn.Module):
    # Made in another order than it runs.
    def __init__(self):
        super().__init__()
        self.head, self.stem, self.norm = nn.Linear(8, 5), nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8)
        self.preprocessing = Preprocessing(32, 32, 32, "bilinear", (0.5,) * 3, (0.25,) * 3)
    def forward(self, x):
        return self.head(torch.relu(self.norm(self.stem(x))).mean((2, 3)))

def parallel():
    return nn.DataParallel(HeadFirst())

def scalar():
    made = HeadFirst()
    made.head = nn.Linear(8, 1)
    return made

def nearest():
    return Preprocessing(32, 32, 32, "nearest", (0.5,) * 3, (0.25,) * 3)
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / "mods.py").write_text(_MODULES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mods", raising=False)
    return "import:mods"


@pytest.fixture
def resnet():
    return models.resnet18(num_classes=3).state_dict()


def _saved(content, tmp_path, save=torch.save):
    path = tmp_path / ("w.safetensors" if save is save_file else "w.pth")
    save(content, path)
    return str(path)


def _prefixed(state, prefix="module."):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {}, "loss": 0.5},
        lambda state: {"state_dict": _prefixed(state)},
        _prefixed,
        lambda state: _prefixed(state, "module._orig_mod."),
        lambda state: dict(sorted(state.items())),
    ],
)
def test_checkpoints_of_training_loops_are_unwrapped(wrapped, resnet, tmp_path):
    network = load_network("torchvision:resnet18", _saved(wrapped(resnet), tmp_path))
    assert len(network.class_names) == 3
    assert torch.equal(network.module.fc.weight, resnet["fc.weight"])


def test_a_safetensors_checkpoint_loads_though_its_names_are_sorted(resnet, tmp_path):
    network = load_network("torchvision:resnet18", _saved(resnet, tmp_path, save_file))
    assert len(network.class_names) == 3
    assert torch.equal(network.module.fc.weight, resnet["fc.weight"])


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:squeezenet1_1",
        "torchvision:shufflenet_v2_x0_5",
        "timm:mobilenetv3_small_050",
        "timm:deit_tiny_distilled_patch16_224",
    ],
)
def test_libraries_make_their_classifier_last(name, tmp_path):
    library, _, model = name.partition(":")
    make = models.get_model if library == "torchvision" else timm.create_model
    state = make(model, num_classes=7).state_dict()
    network = load_network(name, _saved(state, tmp_path, save_file))
    assert len(network.class_names) == 7
    found = network.module.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_a_torchvision_checkpoint_is_fed_as_the_library_feeds_its_own(tmp_path):
    state = models.efficientnet_b1(num_classes=3).state_dict()
    fed = load_network("torchvision:efficientnet_b1", _saved(state, tmp_path)).preprocessing
    assert (fed.resize, fed.height, fed.width, fed.interpolation) == (255, 240, 240, "bilinear")


def test_a_vit_is_fed_the_one_size_that_it_is_built_for(tmp_path, monkeypatch):
    """Of vit_h_14, the usual weights are for 518 pixels, and the network without them for 224."""
    weights = models.ViT_H_14_Weights
    assert weights.DEFAULT.transforms().crop_size == [518]
    monkeypatch.setattr(models, "get_model_weights", lambda _: weights)
    state = models.vit_b_32(num_classes=3).state_dict()
    network = load_network("torchvision:vit_b_32", _saved(state, tmp_path))
    assert network.preprocessing.height == network.module.image_size == 224
    assert network.preprocessing.interpolation == "bicubic"


def test_the_classes_of_ones_own_module_are_counted_by_what_it_answers(modules, tmp_path):
    module = load_network(f"{modules}:HeadFirst").module
    weights = _saved({"state_dict": module.state_dict(), "class_names": list("abcde")}, tmp_path)
    assert load_network(f"{modules}:HeadFirst", weights).class_names == tuple("abcde")
    weights = _saved({"state_dict": module.state_dict(), "class_names": list("abc")}, tmp_path)
    with pytest.raises(ExportRefused, match="5 classes, but 3 class names come with"):
        load_network(f"{modules}:HeadFirst", weights)


def test_a_parallel_module_keeps_its_names(modules, tmp_path):
    state = load_network(f"{modules}:parallel").module.state_dict()
    assert all(name.startswith("module.") for name in state)
    found = load_network(f"{modules}:parallel", _saved(state, tmp_path)).module.state_dict()
    assert torch.equal(found["module.stem.weight"], state["module.stem.weight"])


def test_a_broken_safetensors_file_is_told(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ExportRefused, match=r"cannot be read .*; save a state dict"):
        load_network("torchvision:squeezenet1_1", str(tmp_path / "w.safetensors"))


def test_ones_own_module_is_told_what_to_mend_where_it_is_loaded(modules):
    with pytest.raises(ExportRefused, match=r"two logits, \[0, z\]"):
        load_network(f"{modules}:scalar")
    with pytest.raises(ExportRefused, match=r"'nearest' is not one of .*; fix the cause"):
        load_network(f"{modules}:nearest")

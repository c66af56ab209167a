"""Checkpoints as training loops save them, read as data."""

import pytest
import torch
from safetensors.torch import save_file
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoints import class_count, read_checkpoint
from torch import nn


def network(num_classes=4):
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2, num_classes))


def saved(content, folder, save=torch.save):
    path = folder / ("w.safetensors" if save is save_file else "w.pth")
    save(content, path)
    return str(path)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {"module." + name: value for name, value in state.items()},
        lambda state: {"module._orig_mod." + name: value for name, value in state.items()},
    ],
)
def test_weights_are_unwrapped_and_bring_their_number_of_classes(wrapped, tmp_path):
    state = network(7).state_dict()
    module = read_checkpoint(saved(wrapped(state), tmp_path)).build(network)
    assert class_count(module) == 7
    assert torch.equal(module[2].weight, state["2.weight"])


def test_safetensors_are_read_though_their_names_are_sorted(tmp_path):
    path = saved(network(7).state_dict(), tmp_path, save_file)
    assert class_count(read_checkpoint(path).build(network)) == 7


def test_class_names_are_read_beside_the_weights(tmp_path):
    content = {"state_dict": network(2).state_dict(), "class_names": ["a", "b"]}
    assert read_checkpoint(saved(content, tmp_path)).class_names == ("a", "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "weights": {}}, r"holds no state dict, but \['epoch', 'weights'\]"),
        (torch.zeros(3), "holds no state dict, but Tensor"),
        (nn.Linear(2, 2), "cannot be read .*; save a state dict"),
    ],
)
def test_a_file_without_weights_is_refused_with_a_remedy(content, message, tmp_path):
    with pytest.raises(ExportRefused, match=message):
        read_checkpoint(saved(content, tmp_path))


def test_weights_of_another_network_are_refused(tmp_path):
    checkpoint = read_checkpoint(saved(nn.Linear(2, 2).state_dict(), tmp_path))
    with pytest.raises(ExportRefused, match=r"does not fit the network .* name the network"):
        checkpoint.build(network)


def test_what_is_neither_a_tag_nor_a_file_is_refused_with_the_tags():
    with pytest.raises(ExportRefused, match=r"neither a weights tag \(tags: V1, V2\) nor a file"):
        read_checkpoint("/nowhere.pth", tags=("V1", "V2"))

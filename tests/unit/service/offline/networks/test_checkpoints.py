"""Checkpoints as training loops save them, read as data."""

import argparse
import collections
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoints import class_count, read_checkpoint
from torch import nn


def network(num_classes=4):
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2, num_classes))


class _Settings(dict):
    pass


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def averaged(state):
    """An average's state dict as torchvision's training script saves it."""
    return {"n_averaged": torch.tensor(3), **prefixed("module.", state)}


def raw(state):
    return {name: value + 1 for name, value in state.items()}


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


@pytest.mark.parametrize(
    ("wrapped", "said"),
    [
        (lambda state: {"model": state, "args": argparse.Namespace(lr=0.1)}, "weights 'model'"),
        (lambda state: {"state_dict": state, "args": {"out": Path("runs")}}, "'state_dict'"),
        (lambda state: {"state_dict": state, "metric": np.float64(1), "x": np.ones(2)}, "'state_"),
        (lambda state: {"state_dict": state, "hparams": _Settings(lr=0.1)}, "'state_dict'"),
        (lambda state: {"state_dict": state, "hparams": collections.defaultdict(list)}, "'state_"),
        (lambda state: {"net": state, "accuracy": 0.9}, "the weights 'net'"),
        (
            lambda state: {"state_dict": raw(state), "state_dict_ema": state},
            "'state_dict_ema' (the average",
        ),
        (
            lambda state: {"model": raw(state), "model_ema": averaged(state)},
            "1 tensors beside them",
        ),
        (
            lambda state: {"state_dict": {**prefixed("model.", state), "loss.w": torch.ones(2)}},
            "without the prefix 'model.', 1 tensors beside them left out",
        ),
        (lambda state: prefixed("model._orig_mod.", state), "without the prefix 'model.'"),
        (lambda state: prefixed("_fsdp_wrapped_module.", state), None),
        (
            lambda state: {
                "0._orig_mod" + name[1:] if name[0] == "0" else name: value
                for name, value in state.items()
            },
            None,
        ),
    ],
)
def test_training_scripts_checkpoints_load_and_what_was_taken_is_told(wrapped, said, tmp_path):
    state = network(7).state_dict()
    checkpoint = read_checkpoint(saved(wrapped(state), tmp_path))
    module = checkpoint.build(network)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert said in checkpoint.taken(module)[0] if said else checkpoint.taken(module) == ()


def test_what_the_training_script_was_called_with_is_read(tmp_path):
    content = {"model": network().state_dict(), "args": argparse.Namespace(gp="avgmax")}
    assert read_checkpoint(saved(content, tmp_path)).arguments == {"gp": "avgmax"}


def test_a_file_that_holds_the_network_twice_is_refused_with_both_places(tmp_path):
    state = network().state_dict()
    content = {**prefixed("model.", state), **prefixed("ema.module.", state)}
    with pytest.raises(ExportRefused, match=r"2 times, under the prefixes ema.module., model.; sa"):
        read_checkpoint(saved(content, tmp_path)).build(network)


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
        (nn.Linear(2, 2), "holds no state dict, but a whole module; save one"),
        ({"ema": nn.Linear(2, 2)}, r"but \['ema'\] \(whole modules: ema\); save one"),
        ({"student": network().state_dict(), "teacher": network().state_dict()}, "several .* one"),
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

"""Files of checkpoints are data: what else they hold is inert, and no code of theirs runs."""

import argparse
import collections
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from textcam_service.offline.networks.checkpoint_files import (
    class_names,
    is_module,
    multi_label_entry,
    read_content,
    reason,
)
from torch import nn


class _Call:
    """Calls Python's eval when it is unpickled."""

    def __reduce__(self):
        return eval, ("__import__('pytest').fail('code of the file has run')",)


class _Shell:
    def __reduce__(self):
        return os.system, ("exit",)


class _Settings(dict):
    pass


def saved(content, folder, **options):
    path = folder / "w.pth"
    torch.save(content, path, **options)
    return str(path)


@pytest.mark.parametrize(
    "beside",
    [
        _Call(),
        _Settings(lr=0.1),
        collections.defaultdict(list, a=[1]),
        np.float64(3),
        np.ones(2),
        {"nested": [nn.Linear(2, 2), np.float32(1), _Settings(a=_Call())]},
    ],
)
def test_what_lies_beside_the_tensors_is_inert(beside, tmp_path):
    content = read_content(saved({"beside": beside, "weight": torch.ones(2)}, tmp_path))
    assert torch.equal(content["weight"], torch.ones(2))
    assert not isinstance(content["beside"], type(beside)) or type(beside) is dict


@pytest.mark.parametrize("archive", [True, False])
def test_the_arguments_of_a_training_script_are_read(archive, tmp_path):
    content = {"args": argparse.Namespace(gp="avgmax", device=torch.device("cpu"))}
    path = saved(content, tmp_path, _use_new_zipfile_serialization=archive)
    assert read_content(path)["args"].gp == "avgmax"


def test_a_call_of_the_system_is_no_data_and_the_reason_names_it(tmp_path):
    with pytest.raises(Exception, match="posix") as caught:
        read_content(saved({"x": _Shell()}, tmp_path))
    assert reason(caught.value).startswith("Trying to load unsupported GLOBAL posix.system")


def test_a_whole_module_is_told_from_weights(tmp_path):
    assert is_module(read_content(saved(nn.Linear(2, 2), tmp_path)))
    assert not is_module(read_content(saved(nn.Linear(2, 2).state_dict(), tmp_path)))


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        ({"class_names": ["cat", "dog"]}, "class_names"),
        ({"classes": ("cat", "dog")}, "classes"),
        ({"class_to_idx": {"dog": 1, "cat": 0}}, "class_to_idx"),
        ({"idx_to_class": {1: "dog", 0: "cat"}}, "idx_to_class"),
        ({"config": {"id2label": {"0": "cat", "1": "dog"}}}, "config.id2label"),
        ({"hyper_parameters": _Settings(classes=["cat", "dog"])}, "hyper_parameters.classes"),
        ({"args": argparse.Namespace(class_names=["cat", "dog"])}, "args.class_names"),
        ({"meta": {"dataset_meta": {"classes": ("cat", "dog")}}}, "meta.dataset_meta.classes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_class_names_are_found_where_training_tools_keep_them(content, entry, tmp_path):
    path = saved({"state_dict": {"w": torch.zeros(2)}, **content}, tmp_path)
    assert class_names(read_content(path)) == (("cat", "dog"), entry)


@pytest.mark.parametrize("value", [2, None, [0, 1], {"cat": 0, "dog": 2}, {"cat": "dog"}, "ab", []])
def test_what_names_no_class_for_each_index_is_left(value):
    assert class_names({"classes": value}) == ((), "")


def test_safetensors_are_read_by_their_suffix(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    assert torch.equal(read_content(str(tmp_path / "w.safetensors"))["a"], torch.ones(2))


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        ({"config": {"problem_type": "multi_label_classification"}}, "config.problem_type"),
        ({"hyper_parameters": _Settings(task="multilabel")}, "hyper_parameters.task"),
        ({"args": argparse.Namespace(multi_label=True)}, "args.multi_label"),
        ({"config": {"problem_type": "single_label_classification"}, "multi_label": False}, ""),
        ({"args": argparse.Namespace(task="multiclass")}, ""),
    ],
)
def test_training_tools_state_that_classes_do_not_exclude_each_other(content, entry, tmp_path):
    path = saved({"state_dict": {"w": torch.zeros(2)}, **content}, tmp_path)
    assert multi_label_entry(read_content(path)) == entry

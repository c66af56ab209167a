"""Differences between graphs and torch are found, in batches of any size."""

import math

import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    CLASS_WEIGHTS,
    HEAD_GRADIENT,
    INPUT,
    LOGITS,
)
from textcam_service.offline.export.from_torch.split import split
from textcam_service.offline.export.from_torch.verification import backbone_errors, head_errors
from textcam_service.offline.export.tensor_layout import HookPoint
from torch import nn

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    ).eval()


OWN = network().requires_grad_(False)


def saved(nodes, inputs, outputs, weights):
    def declare(name, rank):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *[None] * (rank - 1)])

    graph = helper.make_graph(
        nodes,
        "graph",
        [declare(name, rank) for name, rank in inputs.items()],
        [declare(name, rank) for name, rank in outputs.items()],
        [numpy_helper.from_array(w.contiguous().numpy(), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def pooled():
    return [
        helper.make_node("GlobalAveragePool", [ACTIVATION_MAPS], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("Gemm", ["row", "fc", "bias"], [LOGITS], transB=1),
    ]


def backbone(kernel_scale=1.0, bias_shift=0.0):
    conv, fc = OWN[0], OWN[3]
    node = helper.make_node("Conv", [INPUT, "kernel", "shift"], [ACTIVATION_MAPS], strides=[2, 2])
    weights = {
        "kernel": conv.weight * kernel_scale,
        "shift": conv.bias * kernel_scale,
        "fc": fc.weight / kernel_scale,
        "bias": fc.bias + bias_shift,
    }
    return saved([node, *pooled()], {INPUT: 4}, {LOGITS: 2, ACTIVATION_MAPS: 4}, weights)


def eager(images):
    maps = OWN[0](images)
    return OWN[1:](maps), maps


def test_a_faithful_backbone_has_no_error():
    assert max(backbone_errors(backbone(), eager, IMAGES)) < 1e-6


def test_errors_of_logits_and_of_maps_are_told_apart():
    logits_error, maps_error = backbone_errors(backbone(bias_shift=0.1), eager, IMAGES)
    assert logits_error > 0.05
    assert maps_error < 1e-6
    logits_error, maps_error = backbone_errors(backbone(kernel_scale=1.1), eager, IMAGES)
    assert maps_error == pytest.approx(0.1, rel=1e-3)
    assert logits_error < 1e-5


def head(slope=1.0):
    """The head's graph, whose gradient is `slope` times the right one."""
    fc = OWN[3]
    nodes = [
        *pooled(),
        helper.make_node("MatMul", [CLASS_WEIGHTS, "scaled"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "axes"], ["cells"]),
        helper.make_node("Shape", [ACTIVATION_MAPS], ["shape"]),
        helper.make_node("Expand", ["cells", "shape"], [HEAD_GRADIENT]),
    ]
    weights = {
        "fc": fc.weight,
        "bias": fc.bias,
        "scaled": fc.weight * (slope / 16),
        "axes": torch.tensor([2, 3]),
    }
    inputs = {ACTIVATION_MAPS: 4, CLASS_WEIGHTS: 2}
    return saved(nodes, inputs, {LOGITS: 2, HEAD_GRADIENT: 4}, weights)


@pytest.mark.parametrize(("slope", "error"), [(1.0, 0.0), (1.2, 0.2), (float("nan"), None)])
def test_the_gradients_error_is_relative_and_nan_does_not_pass(slope, error):
    parts = split(OWN, IMAGES, HookPoint("0"))
    _, maps = parts.trunk(IMAGES)
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    given = {ACTIVATION_MAPS: maps, CLASS_WEIGHTS: weights}
    logits_error, gradient_error = head_errors(head(slope), parts.head, given)
    assert logits_error < 1e-5
    if error is None:
        assert math.isnan(gradient_error)
    else:
        assert gradient_error == pytest.approx(error, abs=1e-5)


def test_without_class_weights_only_logits_are_compared():
    parts = split(OWN, IMAGES, HookPoint("0"))
    _, maps = parts.trunk(IMAGES)
    weights = {"fc": OWN[3].weight, "bias": OWN[3].bias + 0.1}
    graph = saved(pooled(), {ACTIVATION_MAPS: 4}, {LOGITS: 2}, weights)
    logits_error, gradient_error = head_errors(graph, parts.head, {ACTIVATION_MAPS: maps})
    assert logits_error > 0.05
    assert gradient_error == 0

"""The kind of head that a network gets: closed form, gradients, forward passes, none."""

import pytest
import torch
from textcam_service.artefacts.backbone import FORWARD, GAP_LINEAR, GRADIENT
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch import heads
from textcam_service.offline.export.from_torch.heads import (
    TrunkSample,
    export_layers_head,
    export_target_head,
)
from textcam_service.offline.export.from_torch.split import split
from textcam_service.offline.export.plan import ExportedHead
from textcam_service.offline.export.tensor_layout import HookPoint
from textcam_service.offline.networks.network import Network
from torch import nn
from torch.nn import functional

SIZE = Preprocessing(16, 16, 16, "bilinear", (0.5,) * 3, (0.25,) * 3)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

    def features(self, maps):
        return maps.mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(self.body(self.stem(x).relu())))


class Bent(Small):
    def features(self, maps):
        return maps.tanh().mean((2, 3))


class Ceiling(Small):
    """Its pooling exports, but has no gradient that does."""

    def features(self, maps):
        return functional.avg_pool2d(maps, 3, 3, 1, ceil_mode=True)[..., 0, 0]


def case(module, layers=()):
    network = Network("tiny", module().eval().requires_grad_(False), SIZE, tuple("abcde"))
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    parts = split(network.module, images, HookPoint("body"), [HookPoint(n) for n in layers])
    with torch.no_grad():
        logits, maps, *further = parts.trunk(images)
    sample = TrunkSample(images, logits, maps, dict(zip(parts.outputs, further, strict=True)))
    return network, parts, sample


def test_a_head_that_is_linear_in_the_mean_is_its_weights():
    network, parts, sample = case(Small)
    head = export_target_head(network, parts, sample, 1e-4)
    assert (head.kind, head.graph) == (GAP_LINEAR, None)
    weights, bias = head.linear
    torch.testing.assert_close(torch.tensor(weights), network.module.fc.weight)
    torch.testing.assert_close(torch.tensor(bias), network.module.fc.bias)


def test_any_other_head_is_a_graph_with_gradients_that_agree():
    head = export_target_head(*case(Bent), 1e-4)
    assert (head.kind, head.contexts, head.without) == (GRADIENT, (), "")
    assert head.graph
    assert max(head.logits_error, head.gradient_error) < 1e-4


def test_a_head_without_gradients_says_why_and_still_runs_forward():
    head = export_target_head(*case(Ceiling), 1e-4)
    assert head.kind == FORWARD
    assert head.without == "aten.avg_pool2d cannot be differentiated or translated"


def test_further_layers_need_gradients(monkeypatch):
    network, parts, sample = case(Small)
    assert export_layers_head(network, parts, sample, 1e-4) is None
    monkeypatch.setattr(heads, "_export_head", lambda *_: ExportedHead(FORWARD, without="no luck"))
    with pytest.raises(ExportRefused, match="tiny: the further layers need gradients, but no luck"):
        export_layers_head(*case(Ceiling, ["stem"]), 1e-4)


def test_the_operation_is_named_from_the_innermost_exception_that_knows_it():
    inner = NotImplementedError("no decomposition of aten::special_thing.out here")
    outer = RuntimeError("it failed")
    outer.__cause__ = inner
    said = heads._failed_operation(outer)
    assert said == "aten.special_thing.out cannot be differentiated or translated"
    assert heads._failed_operation(ValueError("one\ntwo")) == "ValueError: one"

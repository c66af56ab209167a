"""Modules as ONNX graphs, with a free batch and nothing of the machine inside."""

import logging

import onnx
import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.to_onnx import _free_batch, _quiet, to_onnx
from textcam_service.offline.export.numerics import cpu_session
from torch import nn


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x, y):
        return x * self.scale, x + y


@pytest.fixture(scope="module")
def graph():
    given = [torch.zeros(2, 3), torch.zeros(2, 3)]
    return to_onnx("it", Scaled().eval(), given, ["x", "y"], ["scaled", "sum"])


def test_outputs_have_their_names_for_any_batch(graph):
    session = cpu_session(graph)
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    scaled, total = session.run(["scaled", "sum"], {"x": x.numpy(), "y": y.numpy()})
    torch.testing.assert_close(torch.from_numpy(scaled), x * torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(torch.from_numpy(total), x + y)


def test_nodes_carry_no_stack_traces(graph):
    assert not any(node.metadata_props for node in onnx.load_from_string(graph).graph.node)
    assert __file__.encode() not in graph


def test_a_module_that_the_exporter_cannot_translate_is_refused_by_its_name():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportRefused, match="the branch: torch cannot export it to ONNX: "):
        to_onnx("the branch", Branching(), [torch.ones(2, 3)], ["x"], ["y"])


def test_inputs_that_forward_takes_as_varargs_form_a_tuple():
    class Variadic(nn.Module):
        def forward(self, x, *contexts):
            return x

    free = {0: torch.export.Dim.DYNAMIC}
    assert _free_batch(Variadic(), 3) == (free, (free, free))
    assert _free_batch(Variadic(), 1) == (free,)
    assert _free_batch(Scaled(), 2) == (free, free)


def test_the_exporters_warnings_are_hidden_and_the_level_comes_back(capsys):
    before = logging.root.manager.disable
    with _quiet():
        print("progress")
        assert not logging.getLogger().isEnabledFor(logging.WARNING)
    assert logging.root.manager.disable == before
    assert capsys.readouterr().out == ""

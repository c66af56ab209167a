"""Parts of small networks: what the trunk returns, and what the head takes."""

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.split import WithHooks, split
from textcam_service.offline.export.tensor_layout import HookPoint, VertexSource
from torch import nn


class Residual(nn.Module):
    """A stem, and a branch that the stem's output goes around."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.branch = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        maps = self.stem(x)
        return self.fc((maps + self.branch(maps)).tanh().mean((2, 3)))


class Tokens(nn.Module):
    """A prefix of one token before the grid's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.mix, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, x):
        grid = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.mix(torch.cat([grid.mean(1, keepdim=True), grid], 1))
        return self.fc(tokens.tanh().mean(1))


def images(count=2):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def run(parts, given):
    with torch.no_grad():
        logits, maps, *further = parts.trunk(given)
        named = dict(zip(parts.outputs, further, strict=True))
        return logits, maps, named, parts.head(maps, *(named[n] for n in parts.head.contexts))


@pytest.mark.parametrize(
    ("module", "point", "outputs"),
    [
        (Residual, "stem", ()),
        (Residual, "branch", ("context_0",)),
        (Residual, "input of branch", ()),
        (Tokens, "mix", ("prefix",)),
    ],
)
def test_trunk_and_head_together_compute_the_network(module, point, outputs):
    network = module().eval().requires_grad_(False)
    parts = split(network, images(), HookPoint.parse(point))
    assert parts.outputs == parts.head.contexts == outputs
    for count in (1, 3):
        logits, maps, _, again = run(parts, images(count))
        assert maps.shape[:2] == (count, 4)
        assert torch.allclose(logits, network(images(count)), atol=1e-6)
        assert torch.allclose(again, logits, atol=1e-6)


def test_further_layers_come_in_the_order_in_which_they_are_computed():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    points = [HookPoint("1"), HookPoint("0")]
    parts = split(network, images(), HookPoint("2"), points)
    assert [str(point) for point in parts.layers] == ["0", "1"]
    assert parts.outputs == ("layer_0", "layer_1")
    assert len(parts.layers_head.taps) == 1
    _, _, named, _ = run(parts, images())
    logits = parts.layers_head(named["layer_0"])
    assert torch.allclose(logits, network(images()), atol=1e-6)


def test_fixed_positions_of_vertices_are_the_last_output_for_each_image():
    positions = torch.rand(64, 2)
    vertices = VertexSource(64, positions=positions)

    class Vertices(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 4, 2, 2)
            self.mix = nn.Linear(4, 5)

        def forward(self, x):
            return self.mix(self.embed(x).flatten(2).transpose(1, 2)).tanh().mean(1)

    parts = split(Vertices().eval(), images(), HookPoint("mix"), vertices=vertices)
    assert parts.outputs == ("vertex_positions",)
    _, maps, named, _ = run(parts, images(3))
    assert maps.shape == (3, 5, 64, 1)
    assert torch.equal(named["vertex_positions"], positions.expand(3, -1, -1))


def test_a_layer_without_maps_is_refused_with_its_shape():
    with pytest.raises(ExportRefused, match=r"fc has shape \(5,\): no maps"):
        split(Residual().eval(), images(), HookPoint("fc"))


def test_of_a_module_called_twice_the_last_call_is_kept():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = nn.ReLU()

        def forward(self, x):
            return self.step(self.step(x) - 1)

    given = torch.tensor([[2.5]])
    _, seen = WithHooks(Twice(), [HookPoint("step")])(given)
    assert seen.tolist() == [[1.5]]

"""Where a network says that its vertices lie."""

import pytest
import torch
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.vertices import vertex_source
from textcam_service.offline.networks.network import Network
from torch import nn

SIZE = Preprocessing(36, 32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Positions(nn.Module):
    """Returns positions in the middle of the image for each image, times `scale`."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return torch.full((len(x), 5, 2), 16.0) * self.scale


class Graph(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.where, self.idle = Positions(scale), nn.Identity()

    def forward(self, x):
        return self.where(x).mean((1, 2))[:, None].expand(-1, 4)


def source(stated, scale=1.0):
    network = Network("tiny", Graph(scale), SIZE, tuple("abcd"), stated)
    return vertex_source(network, torch.zeros(2, 3, 32, 32))


def test_a_network_that_states_none_has_maps_on_a_grid():
    assert source(None) is None


def test_fixed_positions_are_kept_and_computed_ones_named():
    fixed = source(torch.full((7, 2), 3.0))
    assert (fixed.count, fixed.point) == (7, None)
    computed = source("where")
    assert (computed.count, computed.positions, str(computed.point)) == (5, None, "where")


@pytest.mark.parametrize(
    ("stated", "scale", "message"),
    [
        ("nowhere", 1, "which is no module of it; name the one"),
        ("idle", 1, "a module that is never called"),
        ("where", 3, r"no x and y, .* give \(N, V, 2\) within"),
        ("where", float("nan"), "no x and y, in pixels of the input"),
        ("input of where", 1, r"give \(N, V, 2\) within"),
        (torch.zeros(1, 2), 1, "two or more vertices"),
        (torch.full((4, 2), -1.0), 1, r"within 0\.\.width, 0\.\.height"),
        (torch.zeros(()), 1, "no x and y"),
    ],
)
def test_what_states_no_positions_in_the_image_is_refused(stated, scale, message):
    with pytest.raises(ExportRefused, match=message):
        source(stated, scale)

"""Where the cells of activation maps look, measured on networks of which it is known."""

import numpy as np
import pytest
import timm
import torch
from textcam_service.offline.networks.cell_offsets import cell_offset
from torch import nn

EVEN = (1.0, 1.0, 1.0)
RIGHT = (0.0, 1.0, 1.0)  # as kernels learn it: the half pixel that padding put the cell off


def strided(taps, *, before=1, after=1):
    """Three strides of two with kernels of these taps along both axes."""
    torch.manual_seed(0)
    layers, channels = [], 3
    for _ in range(3):
        layer = nn.Conv2d(channels, 16, 3, 2, bias=False)
        across = torch.tensor(taps)
        with torch.no_grad():
            mixed = torch.randn(16, channels, 1, 1)
            layer.weight.copy_(mixed * across[:, None] * across)
        layers += [nn.ZeroPad2d((before, after, before, after)), layer, nn.ReLU()]
        channels = 16
    return nn.Sequential(*layers)


def measured(network, height=128, width=128):
    def run(images):
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    return cell_offset(run, height, width)


@pytest.mark.parametrize(
    ("before", "after", "shift"), [(1, 1, -3.5), (0, 1, 3.5)], ids=["symmetric", "after"]
)
def test_even_kernels_look_where_strides_and_paddings_put_them(before, after, shift):
    network = strided(EVEN, before=before, after=after)
    assert measured(network) == pytest.approx((shift, shift), abs=0.5)


def test_kernels_that_make_up_for_the_padding_leave_no_shift():
    assert measured(strided(RIGHT)) == (0, 0)
    assert measured(strided(RIGHT), 96, 160) == (0, 0)


def test_what_reaches_all_cells_alike_hides_no_shift():
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = strided(EVEN)

        def forward(self, images):
            maps = self.trunk(images)
            return maps * (1 + maps.mean((2, 3), keepdim=True))

    assert measured(Squeezed()) == pytest.approx((-3.5, -3.5), abs=0.5)


def test_kernels_as_wide_as_their_strides_leave_no_noise_for_a_shift():
    torch.manual_seed(0)
    assert measured(timm.create_model("convnext_atto").eval().forward_features) == (0, 0)


@pytest.mark.parametrize(
    "maps_of",
    [
        lambda images: np.zeros((len(images), 4, 3, 3), np.float32),
        lambda images: images.mean(axis=(2, 3), keepdims=True),
        lambda images: np.full((len(images), 4, 3, 3), np.nan, np.float32),
    ],
    ids=["dead", "one cell", "not a number"],
)
def test_maps_that_tell_nothing_of_a_place_have_no_shift(maps_of):
    assert cell_offset(maps_of, 32, 32) == (0, 0)

"""Attention and maxima that torch's exporter refuses, computed otherwise."""

import pytest
import torch
from head_networks import CLASSES, Stem, exported
from textcam_service.offline.export.from_torch.translatable import Translatable
from torch import nn
from torch.nn import functional

GROUPS = {3: (5, 8), 4: (2, 5, 8), 5: (3, 2, 5, 8)}


def tensors(dimensions):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((2, *GROUPS[dimensions]), generator=generator) for _ in range(3)]


@pytest.mark.parametrize("dimensions", GROUPS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.7},
        {"is_causal": True},
        {"attn_mask": torch.linspace(-1, 1, 25).view(5, 5)},
        {"attn_mask": torch.eye(5, dtype=torch.bool)},
    ],
    ids=["plain", "scale", "causal", "mask", "allowed"],
)
def test_attention_is_that_of_torch(dimensions, options):
    given = tensors(dimensions)
    wanted = functional.scaled_dot_product_attention(*given, **options)
    with Translatable():
        found = functional.scaled_dot_product_attention(*given, **options)
    torch.testing.assert_close(found, wanted)


POOLS = {
    "global": nn.AdaptiveMaxPool2d(1),
    "bins": nn.AdaptiveMaxPool2d((3, 2)),
    "rows kept": nn.AdaptiveMaxPool2d((None, 2)),
    "by keyword": lambda maps: functional.adaptive_max_pool2d(input=maps, output_size=(2, 3)),
    "one axis": lambda maps: functional.adaptive_max_pool1d(maps.flatten(2), 3),
    "with places": nn.AdaptiveMaxPool2d(2, return_indices=True),
}


@pytest.mark.parametrize("name", POOLS)
def test_maxima_and_their_gradients_are_those_of_torch_where_values_are_equal_too(name):
    maps = torch.randn((2, 4, 7, 8), generator=torch.Generator().manual_seed(0)).relu()
    maps[:, 0] = 0  # a dead channel
    own, theirs = (maps.clone().requires_grad_(True) for _ in range(2))
    wanted = POOLS[name](theirs)
    with Translatable():
        found = POOLS[name](own)
    if isinstance(wanted, tuple):
        assert torch.equal(found[1], wanted[1])
        found, wanted = found[0], wanted[0]
    assert torch.equal(found, wanted)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    slopes = [
        torch.autograd.grad((value * weights).sum(), given)[0]
        for value, given in ((found, own), (wanted, theirs))
    ]
    torch.testing.assert_close(*slopes)


class Maximal(Stem):
    """As timm's catavgmax and fastai's heads: the maximum of each channel, and its mean."""

    def __init__(self):
        super().__init__()
        self.most, self.fc = nn.AdaptiveMaxPool2d(1), nn.Linear(16, CLASSES)

    def forward(self, x):
        maps = self.stem(x).relu()
        return self.fc(torch.cat([self.most(maps).flatten(1), maps.mean((2, 3))], 1)).tanh()


class Attending(nn.Module):
    """Attention with one head (3 dimensions), or within windows (5), behind normalised tokens."""

    def __init__(self, windows):
        super().__init__()
        self.patches, self.stem = nn.Conv2d(3, 16, 8, 8), nn.LayerNorm(16)
        self.ask, self.fc, self.windows = nn.Linear(16, 48), nn.Linear(16, CLASSES), windows

    def forward(self, x):
        tokens = self.stem(self.patches(x).flatten(2).transpose(1, 2))
        asked = self.ask(tokens).chunk(3, -1)
        if self.windows:
            asked = [own.reshape(-1, 4, 4, 2, 8).transpose(2, 3) for own in asked]
        found = functional.scaled_dot_product_attention(*asked)
        if self.windows:
            found = found.transpose(2, 3)
        return self.fc((tokens + found.reshape(-1, 16, 16)).mean(1)).tanh()


@pytest.mark.parametrize(
    "module",
    [Maximal, lambda: Attending(windows=False), lambda: Attending(windows=True)],
    ids=["maxima", "one head", "windows"],
)
def test_heads_of_them_have_gradients_that_agree_with_torch(module, tmp_path):
    _, report, _ = exported(module, tmp_path, target_layer="stem")
    assert report.head_kind == "gradient"
    assert report.gradient_error < 1e-4

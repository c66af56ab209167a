"""Small networks with heads of many kinds, and their export."""

import numpy as np
import torch
from textcam_service.core.types import Preprocessing
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.network import Network
from textcam_service.runtime.backbone import Backbone
from torch import nn
from torch.nn import functional

SMALL = Preprocessing(36, 32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CLASSES = 5


class Stem(nn.Module):
    """Images to maps (N, 8, 16, 16), then whatever follows."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh())


class Pooled(Stem):
    """Adaptive pooling to a grid that does not divide the map's, as VGG's may."""

    def __init__(self):
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(7), nn.Linear(8 * 49, CLASSES)

    def forward(self, x):
        return self.fc(self.pool(self.stem(x)).flatten(1))


class Deeper(Stem):
    """Strided, grouped, dilated convolutions, batch norm, both other poolings."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, 2, 1, groups=4), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.Hardswish(),
            nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.MaxPool2d(2),
        )  # fmt: skip
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Class token, two blocks of fused attention, read at the class token."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.norm, self.fc = nn.LayerNorm(16), nn.Linear(16, CLASSES)

    def forward(self, x):
        grid = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), grid], dim=1)
        return self.fc(self.norm(self.blocks(tokens))[:, 0])


class Windows(Stem):
    """Attention in windows that are rolled, over maps (N, H, W, D), as Swin has it."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, CLASSES)
        self.mix = nn.Linear(8, 24)

    def forward(self, x):
        grid = self.stem(x).permute(0, 2, 3, 1)
        y = torch.roll(self.norm(grid), (-2, -2), (1, 2))
        y = y.view(-1, 4, 4, 4, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 8)
        q, k, v = self.mix(y)[:, None].chunk(3, -1)
        mask = torch.zeros(16, 16)
        mask[:8, 8:] = -100.0
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = y.view(-1, 4, 4, 4, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 16, 8)
        grid = grid + torch.roll(y, (2, 2), (1, 2))
        return self.fc(torch.tanh(grid.mean((1, 2))))


class Around(Stem):
    """A residual goes around the branch."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU())
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x):
        seen = self.stem(x)
        return self.fc(torch.tanh(seen + self.branch(seen)).mean((2, 3)))


class Ceiling(Stem):
    """A pooling whose backward pass is not written out."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8 * 25, CLASSES)

    def forward(self, x):
        return self.fc(
            functional.avg_pool2d(self.stem(x), 3, 3, 1, ceil_mode=True)[..., :5, :5].flatten(1)
        )


class CeilingAround(Around):
    """As Ceiling, with a residual that goes around the branch."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8 * 25, CLASSES)

    def forward(self, x):
        seen = self.stem(x)
        pooled = functional.avg_pool2d(seen + self.branch(seen), 3, 3, 1, ceil_mode=True)
        return self.fc(pooled[..., :5, :5].flatten(1))


class Twofold(Stem):
    """Two branches side by side, one of which the logits do not need; a module never called."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.unread, self.uncalled = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.both, self.fc = Pair(), nn.Linear(8, CLASSES)

    def forward(self, x):
        seen = self.stem(x)
        left = self.left(seen)
        self.unread(left)
        ours, theirs = self.both(left.tanh(), self.right(seen))
        return self.fc(torch.tanh(ours + theirs.relu()).mean((2, 3)))


class Pair(nn.Module):
    def forward(self, left, right):
        return left, right


def exported(module, folder, **options):
    torch.manual_seed(3)
    made = module()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    network = Network("tiny", made.eval().requires_grad_(False), SMALL, tuple("abcde"))
    return network, export_network(network, folder / "b", **options), Backbone(folder / "b")


def images(count):
    return np.random.default_rng(5).normal(0, 1, (count, 3, 32, 32)).astype(np.float32)

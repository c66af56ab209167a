"""The layer that is chosen by what small networks compute."""

import re

import pytest
import torch
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.target_layer import (
    choose_target,
    is_close,
    linear_head,
)
from textcam_service.offline.networks.network import Network
from timm.models.vision_transformer import VisionTransformer
from torch import nn

SIZE = Preprocessing(36, 32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Convolutions(nn.Module):
    """Two convolutions and a pooled head."""

    def __init__(self, head):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 6, 2, 2)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), head

    def forward(self, x):
        return self.head(self.pool(self.body(self.stem(x).relu())).flatten(1))


class ClassToken(nn.Module):
    """Tokens are mixed, and behind the last layer only the first one is read."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.mix = nn.Parameter(torch.randn(17, 17))
        self.last, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.patches(x).flatten(2)
        tokens = torch.cat([tokens.mean(2, keepdim=True), tokens], 2)
        mixed = (tokens @ self.mix).transpose(1, 2)
        return self.head(self.last(mixed).tanh()[:, 0])


class Residual(nn.Module):
    """A branch whose sum with the rest no module gives, and a head that is not linear."""

    def __init__(self, seed, head):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.branch = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 6, 3, padding=1)
        self.read, self.head = nn.Linear(6, 4), head

    def forward(self, x):
        maps = self.stem(x).relu()
        maps = maps + self.branch(maps).relu()
        return self.head(self.read(maps.mean((2, 3)).tanh()))


class Around(Convolutions):
    """The image goes around the body."""

    def forward(self, x):
        maps = self.stem(x).relu()
        return self.head((self.body(maps).mean((2, 3)) + maps[:, :6].mean((2, 3))).tanh())


def network(module):
    return Network("tiny", module.eval().requires_grad_(False), SIZE, tuple("abcd"))


def chosen(module):
    torch.manual_seed(1)
    return choose_target(network(module), torch.randn(2, 3, 32, 32))


def test_the_pooled_layer_is_chosen_if_the_head_is_linear_in_its_mean():
    head = nn.Linear(6, 4)
    target = chosen(Convolutions(head))
    assert str(target.point) == "body"
    assert target.head.name == "head"
    assert target.head.weights.shape == (4, 6)


def test_the_last_bottleneck_is_chosen_before_any_other_head():
    target = chosen(Convolutions(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))))
    assert (str(target.point), target.head) == ("body", None)


def test_a_layer_that_the_image_goes_around_is_not_chosen():
    assert str(chosen(Around(nn.Linear(6, 4))).point) == "stem"


class AttentionPool(nn.Module):
    """Tokens, read by one learned query; names as in timm's AttentionPoolLatent."""

    def __init__(self):
        super().__init__()
        self.latent, self.kv = nn.Parameter(torch.randn(1, 1, 6)), nn.Linear(6, 12)

    def forward(self, tokens):
        keys, values = self.kv(tokens).chunk(2, -1)
        return ((self.latent @ keys.transpose(1, 2)).softmax(-1) @ values)[:, 0]


class Reader(nn.Module):
    """The same under names of a user's, over maps."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(6))
        self.key, self.value = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)

    def forward(self, maps):
        shares = (self.query @ self.key(maps).flatten(2)).softmax(-1)
        return (self.value(maps).flatten(2) * shares[:, None]).sum(-1)


class Attended(Convolutions):
    """Read by an attention pooling, behind a layer normalisation or not."""

    def __init__(self, pool, normalised):
        super().__init__(nn.Linear(6, 4))
        self.norm, self.pool, self.normalised = nn.LayerNorm(6), pool, normalised

    def forward(self, x):
        maps = self.body(self.stem(x).relu())
        if self.normalised:
            maps = self.norm(maps.flatten(2).transpose(1, 2))
        return self.head(self.pool(maps).tanh())


def test_an_attention_pooling_is_explained_at_the_layer_that_it_takes():
    torch.manual_seed(0)
    assert str(chosen(Attended(AttentionPool(), normalised=True)).point) == "norm"
    assert str(chosen(Attended(Reader(), normalised=False)).point) == "body"


def test_a_pooling_of_a_timm_transformer_is_explained_at_its_norm():
    module = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=4,
        global_pool="map", class_token=False,
    )  # fmt: skip
    assert str(chosen(module).point) == "norm"


def test_a_head_of_convolutions_that_pools_at_its_end_is_looked_into():
    """As SqueezeNet's, whose last convolution has a map for each class."""
    layers = nn.Conv2d(6, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    module = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU(), nn.Sequential(*layers))
    assert str(chosen(module).point) == "2.1"


# Logits that add up to the same number, whatever the image is.
CONSTANT_SUMS = {
    "two-sided": lambda z: torch.cat([z[:, :1], -z[:, :1]], 1),
    "two pairs": lambda z: torch.cat([z[:, :2], -z[:, :2]], 1),
    "centred": lambda z: z - z.mean(1, keepdim=True),
    "of a 0": lambda z: torch.stack([z[:, 0], z[:, 1], -z[:, 0] - z[:, 1], 0 * z[:, 0]], 1),
}


class Apply(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, logits):
        return self.change(logits)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", CONSTANT_SUMS)
def test_the_choice_does_not_depend_on_what_the_logits_add_up_to(kind, seed):
    assert str(chosen(Residual(seed, Apply(CONSTANT_SUMS[kind]))).point) == "stem"


def test_the_choice_draws_no_random_numbers_of_the_callers():
    module = network(Residual(0, nn.Identity()))
    before = torch.random.get_rng_state()
    choose_target(module, torch.ones(2, 3, 32, 32))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_tokens_that_are_not_read_are_not_chosen():
    assert str(chosen(ClassToken()).point) == "patches"


def test_a_network_without_maps_is_refused_with_the_option_to_choose():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3 * 32 * 32, 5), nn.Linear(5, 4)

        def forward(self, x):
            return self.last(self.first(x.flatten(1)).relu())

    with pytest.raises(ExportRefused, match="--target-layer; near: none of its modules"):
        chosen(Flat())


def test_near_misses_are_named_with_what_they_lack():
    class Everywhere(Around):
        """The image goes around each module; one of them is hardly read."""

        def __init__(self):
            super().__init__(nn.Linear(6, 4))
            self.corner = nn.Conv2d(6, 6, 1)

        def forward(self, x):
            corner = self.corner(self.body(self.stem(x)))[:, :, 0, 0]
            return super().forward(x) + self.head(corner + x.mean((2, 3)).repeat(1, 2)).tanh()

    with pytest.raises(ExportRefused) as refused:
        chosen(Everywhere())
    said = str(refused.value)
    assert "'body' (more of the image goes around it)" in said
    assert re.search(r"'corner' \(\d+% of its positions matter\)", said)


def test_a_head_without_bias_has_a_bias_of_zeros():
    head = linear_head(network(Convolutions(nn.Linear(6, 4, bias=False))), torch.ones(2, 3, 32, 32))
    assert head.bias.tolist() == [0, 0, 0, 0]


def test_a_last_layer_whose_output_is_changed_is_no_linear_head():
    module = Convolutions(nn.Sequential(nn.Linear(6, 4), nn.Tanh()))
    assert linear_head(network(module), torch.ones(2, 3, 32, 32)) is None


def test_tensors_agree_on_their_own_scale_and_zeros_never():
    tiny = torch.tensor([1e-9, -2e-9])
    assert is_close(tiny * 1.00001, tiny)
    assert not is_close(tiny * 1.001, tiny)
    assert not is_close(torch.zeros(2), torch.zeros(2))
    assert not is_close(torch.ones(3), torch.ones(2))

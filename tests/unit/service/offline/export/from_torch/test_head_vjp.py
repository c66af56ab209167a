"""Decomposed operations compute what torch's own do, and so do a head's gradients."""

import pytest
import torch
from textcam_service.offline.export.from_torch import head_vjp
from textcam_service.offline.export.from_torch.head_vjp import eager_gradients, gradient_graph
from textcam_service.offline.export.from_torch.split import split
from textcam_service.offline.export.tensor_layout import HookPoint
from torch import nn
from torch.nn import functional

GIVEN = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (3, 4), (5, 2)])
def test_adaptive_pooling_is_two_products(size):
    found = head_vjp._adaptive_average(GIVEN, size)
    torch.testing.assert_close(found, functional.adaptive_avg_pool2d(GIVEN, size))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": (3, 2)},
        {"kernel": (3, 3), "stride": (2, 1), "padding": (1, 1)},
        {"kernel": (3, 3), "padding": (1, 1), "count_include_pad": False},
        {"kernel": (2, 2), "divisor": 3},
    ],
    ids=str,
)
def test_average_pooling_is_a_convolution(options):
    names = {"kernel": "kernel_size", "divisor": "divisor_override"}
    own = {names.get(name, name): value for name, value in options.items()}
    found = head_vjp._average(GIVEN, **options)
    torch.testing.assert_close(found, functional.avg_pool2d(GIVEN, **own))


def test_pooling_that_rounds_up_is_not_decomposed():
    with pytest.raises(NotImplementedError, match=r"aten\.avg_pool2d with ceil_mode"):
        head_vjp._average(GIVEN, (2, 2), ceil_mode=True)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 2, 3)])
def test_the_gradient_of_a_convolution_is_a_transposed_one(stride, padding, dilation, groups):
    weight = torch.randn(6, 3 // groups, 3, 2)
    given = GIVEN.clone().requires_grad_(True)
    out = functional.conv2d(given, weight, None, stride, padding, dilation, groups)
    gradient = torch.randn_like(out)
    (wanted,) = torch.autograd.grad(out, given, gradient)
    pairs = [(own, own) for own in (stride, padding, dilation)]
    arguments = (gradient, GIVEN, weight, None, *pairs, False, [0, 0], groups)
    found, *others = head_vjp._convolution_backward(*arguments, [True, False, False])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert others == [None, None]
    weights_too = head_vjp._convolution_backward(*arguments, [True, True, False])
    assert weights_too is NotImplemented


def test_linear_layers_keep_the_leading_dimensions():
    layer = nn.Linear(9, 4)
    torch.testing.assert_close(head_vjp._linear(GIVEN, layer.weight, layer.bias), layer(GIVEN))


class Bent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.pool, self.fc = nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(3), None
        self.fc = nn.Linear(36, 5)

    def forward(self, x):
        return self.fc(self.pool(self.stem(x)).tanh().flatten(1))


class Attending(nn.Module):
    """One head of attention over 16 tokens."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.mix, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 12), nn.Linear(4, 5)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        query, key, value = self.mix(tokens)[:, None].chunk(3, -1)
        mixed = functional.scaled_dot_product_attention(query, key, value)[:, 0]
        return self.fc((tokens + mixed).mean(1))


@pytest.fixture(scope="module", params=[(Bent, "stem"), (Attending, "patches")], ids=str)
def case(request):
    module, point = request.param
    torch.manual_seed(1)
    images = torch.randn(2, 3, 16, 16)
    parts = split(module().eval().requires_grad_(False), images, HookPoint(point))
    _, maps, *_ = parts.trunk(images)
    return parts.head, maps


def test_the_graph_computes_logits_and_gradients_for_batches_of_any_size(case):
    head, maps = case
    traced, _ = gradient_graph(head, maps, [], 5)
    for count in (1, 2):
        some, weights = maps[:count], torch.randn(count, 5)
        logits, *found = traced(some, weights)
        torch.testing.assert_close(logits, head(some), rtol=1e-4, atol=1e-5)
        wanted = eager_gradients(head, some, weights, [])
        for own, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_the_gradient_agrees_with_a_difference_of_logits(case):
    head, maps = case
    weights = torch.randn(2, 5, generator=torch.Generator().manual_seed(2))
    gradient = eager_gradients(head, maps, weights, [])[0]
    step = 1e-2 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(3))
    rise = ((head(maps + step) - head(maps - step)) * weights).sum() / 2
    assert float((gradient * step).sum()) == pytest.approx(float(rise), rel=0.02, abs=1e-4)

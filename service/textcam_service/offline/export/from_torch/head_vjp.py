"""The head's vector-Jacobian product as a graph of primitive operations.

torch.func.vjp is traced with a free batch. Some operations have a backward pass that ONNX lacks,
or fix the batch's size when they are traced: these are decomposed into other operations here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from textcam_service.artefacts.backbone import ATTENTION, TAP
from textcam_service.offline.export.from_torch.split import Head
from textcam_service.offline.export.tensor_layout import Layout

aten = torch.ops.aten
Tensor = torch.Tensor


def gradient_graph(
    head: Head, maps: Tensor, contexts: Sequence[Tensor], class_count: int
) -> tuple[fx.GraphModule, list[str]]:
    """Trace a head with its gradients.

    Args:
        head: The head to differentiate.
        maps: (N >= 2, D, H, W) example.
        contexts: Examples of the head's contexts.
        class_count: C.

    Returns:
        The graph (maps, class_weights (N, C), *contexts) -> (logits (N, C), gradient
        (N, D, H, W), *further), and the further outputs' names: "attention" (N, L, H, W), where
        the head attends over the layer's tokens, and "tap_0" ..., the taps' gradients.
    """
    attention = _attention_shapes(head, maps, contexts)
    names = [ATTENTION] if attention else []
    names += [f"{TAP}{index}" for index in range(len(head.taps))]

    def graph(maps: Tensor, class_weights: Tensor, *contexts: Tensor) -> tuple[Tensor, ...]:
        def logits_of(maps: Tensor, *added: Tensor) -> Tensor:
            return _logits(head, maps, contexts, added)

        pulled: Any = torch.func.vjp(logits_of, maps, *_zeros(head, maps, attention))
        logits, pull = pulled
        gradient, *added = pull(class_weights)
        return (logits, gradient, *_further(head, added))

    fake = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    class_weights = torch.zeros(len(maps), class_count)
    examples = [_free_batch(fake, tensor) for tensor in (maps, class_weights, *contexts)]
    table = {**core_aten_decompositions(), **_BACKWARD}
    traced = make_fx(
        graph, decomposition_table=table, tracing_mode="symbolic", _allow_non_fake_inputs=True
    )(*examples)
    return traced, names


def eager_gradients(
    head: Head, maps: Tensor, class_weights: Tensor, contexts: Sequence[Tensor]
) -> list[Tensor]:
    """Compute by torch's autograd the outputs of gradient_graph's graph after the logits.

    The maps' gradient comes from the head as it stands, without this module's decompositions.
    """
    given = maps.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((head(given, *contexts) * class_weights).sum(), given)
    attention = _attention_shapes(head, maps, contexts)
    added = [zero.requires_grad_(True) for zero in _zeros(head, maps, attention)]
    if not added:
        return [gradient]
    score = (_logits(head, maps, contexts, added) * class_weights).sum()
    return [gradient, *_further(head, torch.autograd.grad(score, added))]


def _logits(
    head: Head, maps: Tensor, contexts: Sequence[Tensor], added: Sequence[Tensor]
) -> Tensor:
    """Run the head; `added` are zeros, added to its attention and its taps."""
    count = len(added) - len(head.taps)
    run = _Decompositions(head, added[:count], added[count:])
    logits: Tensor = run.run(*head.arguments(maps, contexts))
    return logits


def _zeros(head: Head, maps: Tensor, attention: Sequence[tuple[int, ...]]) -> list[Tensor]:
    shapes = [*attention, *(_tap_shape(layout) for _, layout in head.taps)]
    return [maps.new_zeros((maps.shape[0], *shape)) for shape in shapes]


def _further(head: Head, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Make the further outputs from the gradients by the added zeros."""
    count = len(gradients) - len(head.taps)
    gains = [_attention_gain(gradient, head.layout) for gradient in gradients[:count]]
    found = zip(head.taps, gradients[count:], strict=True)
    taps = [layout.maps(gradient) for (_, layout), gradient in found]
    return [*([torch.stack(gains, 1)] if gains else []), *taps]


def _free_batch(fake: FakeTensorMode, tensor: Tensor) -> Tensor:
    sizes = [DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * (tensor.ndim - 1)
    return fake.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes))


def _attention_gain(gradient: Tensor, layout: Layout) -> Tensor:
    """Average max(0, d score / d attention) over heads, queries: (N, h, T, T) -> (N, H, W)."""
    by_token = gradient.relu().mean(dim=(1, 2))[:, layout.prefix :]
    return by_token.reshape(-1, layout.height, layout.width)


def _tap_shape(layout: Layout) -> tuple[int, ...]:
    if layout.kind == "tokens":
        return (layout.prefix + layout.height * layout.width, layout.channels)
    if layout.kind == "NHWC":
        return (layout.height, layout.width, layout.channels)
    return (layout.channels, layout.height, layout.width)


def _attention_shapes(
    head: Head, maps: Tensor, contexts: Sequence[Tensor]
) -> list[tuple[int, ...]]:
    """Return shapes, less the batch, of the head's attention over all of the layer's tokens."""
    if head.layout.kind != "tokens":
        return []
    run = _Decompositions(head)
    with torch.no_grad():
        run.run(*head.arguments(maps, contexts))
    return run.attention


class _Decompositions(fx.Interpreter):
    """Interpreter of a head's body that decomposes operations which do not export."""

    def __init__(
        self, head: Head, attention: Sequence[Tensor] = (), taps: Sequence[Tensor] = ()
    ) -> None:
        super().__init__(head.body)
        layout = head.layout
        self._tokens = layout.prefix + layout.height * layout.width
        self._added = list(attention)
        self._taps = {name: tap for (name, _), tap in zip(head.taps, taps, strict=False)}
        self.attention: list[tuple[int, ...]] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        return value + self._taps[n.name] if n.name in self._taps else value

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if target is aten.scaled_dot_product_attention.default:
            return self._attend(*args, **kwargs)
        if target is aten.softmax.int:
            return self._add_zero(super().call_function(target, args, dict(kwargs)))
        return super().call_function(_DECOMPOSED.get(target, target), args, dict(kwargs))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,  # noqa: ARG002 - of torch's signature; the network evaluates
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if is_causal or enable_gqa:
            raise NotImplementedError("aten.scaled_dot_product_attention, causal or grouped")
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = (query * factor) @ key.transpose(-2, -1)
        if attn_mask is not None:
            scores = scores + attn_mask
        return self._add_zero(scores.softmax(-1)) @ value

    def _add_zero(self, weights: Tensor) -> Tensor:
        """Add a zero to attention over all tokens; the score is differentiated by it."""
        if weights.ndim != 4 or tuple(weights.shape[2:]) != (self._tokens, self._tokens):
            return weights
        self.attention.append(tuple(weights.shape[1:]))
        return weights + self._added.pop(0) if self._added else weights


def _linear(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # aten.linear fixes the batch's size when an input of more than two dimensions is traced.
    out: Tensor = torch.mm(given.reshape(-1, given.shape[-1]), weight.t())
    out = out if bias is None else out + bias
    return out.reshape(*given.shape[:-1], weight.shape[0])


def _adaptive_average(given: Tensor, size: Sequence[int]) -> Tensor:
    height, width = given.shape[-2:]
    if tuple(size) == (1, 1):
        return given.mean((-2, -1), keepdim=True)
    if tuple(size) == (height, width):
        return given
    rows, columns = _averages(height, size[0]), _averages(width, size[1])
    pooled: Tensor = torch.matmul(torch.matmul(rows, given), columns.T)
    return pooled


def _averages(length: int, parts: int) -> Tensor:
    """Build the (parts, length) matrix of adaptive average pooling."""
    matrix = torch.zeros(parts, length)
    for part in range(parts):
        start, end = part * length // parts, -(-(part + 1) * length // parts)
        matrix[part, start:end] = 1 / (end - start)
    return matrix


def _average(
    given: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Tensor:
    """Compute average pooling as a convolution, channel by channel."""
    if ceil_mode:
        raise NotImplementedError("aten.avg_pool2d with ceil_mode")
    channels, height, width = given.shape[1:]
    ones = torch.ones(channels, 1, *kernel)
    step = list(stride) or list(kernel)
    sums: Tensor = aten.conv2d.default(given, ones, None, step, padding, [1, 1], channels)
    if divisor is not None or count_include_pad:
        return sums / (divisor or math.prod(kernel))
    counts = torch.nn.functional.conv2d(
        torch.ones(1, 1, height, width), ones[:1], None, step, list(padding)
    )
    return sums / counts


def _convolution_backward(  # noqa: PLR0917 - ATen's signature
    gradient: Tensor,
    given: Tensor,
    weight: Tensor,
    bias_sizes: Any,  # noqa: ARG001 - of ATen's signature
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Any,  # noqa: ARG001 - of ATen's signature
    groups: int,
    output_mask: Sequence[bool],
) -> Any:
    """Compute the input's gradient of a convolution as a transposed convolution."""
    if transposed or output_mask[1] or output_mask[2]:
        return NotImplemented
    missing = [
        given.shape[2 + axis]
        - ((gradient.shape[2 + axis] - 1) * stride[axis] - 2 * padding[axis])
        - (dilation[axis] * (weight.shape[2 + axis] - 1) + 1)
        for axis in range(len(stride))
    ]
    back = aten.convolution.default(
        gradient, weight, None, stride, padding, dilation, True, missing, groups
    )
    return back, None, None


_BACKWARD: Mapping[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: _convolution_backward,
    # Strides mean nothing in ONNX.
    aten.empty_permuted.default: lambda size, _, **__: torch.zeros(tuple(size)),
}

_DECOMPOSED: Mapping[Any, Callable[..., Any]] = {
    aten.adaptive_avg_pool2d.default: _adaptive_average,
    aten.avg_pool2d.default: _average,
    aten.linear.default: _linear,
    aten.sym_size.int: lambda tensor, axis: tensor.shape[axis],
    # A view's source may have other strides once it is decomposed.
    aten.view.default: lambda tensor, shape: tensor.reshape(shape),
}

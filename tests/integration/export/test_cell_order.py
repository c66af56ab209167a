"""Networks with tokens in windows, exported: their cells are in place, their gradients torch's."""

import numpy as np
import pytest
import torch
from textcam_service.artefacts.backbone import FORWARD, GRADIENT
from textcam_service.offline.export.from_onnx.export import export_onnx
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.network import StatedPreprocessing
from textcam_service.runtime.backbone import Backbone
from windowed_networks import SIZE, cells_in_place, windowed

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def row_by_row(tokens):
    """Tokens (N, 64, D), one window of 4 x 4 after the other, as maps (N, D, 8, 8)."""
    windows = tokens.reshape(len(tokens), 2, 2, 4, 4, -1)
    return windows.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, 8, 8)


@pytest.mark.parametrize("attends", [False, True], ids=["linear", "attention"])
def test_tokens_in_windows_are_put_in_order(attends, tmp_path):
    own = windowed(attends=attends)
    report = export_network(own, tmp_path / "b", target_layer="3")
    assert report.head_kind == GRADIENT
    assert report.notes == ("the cells of '3' were put in order",)
    backbone = Backbone(tmp_path / "b")
    assert cells_in_place(lambda images: backbone.forward(images)[0].activation_maps[None]) == 64
    tokens = own.module[:4](IMAGES).requires_grad_(True)
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
    logits = own.module[4:](tokens)
    (wanted,) = torch.autograd.grad((logits * weights).sum(), tokens)
    outputs = backbone.forward(IMAGES.numpy())
    found = backbone.gradients(outputs, weights.numpy())
    np.testing.assert_allclose(found, row_by_row(wanted), rtol=1e-3, atol=1e-6)
    maps = [output.activation_maps for output in outputs]
    np.testing.assert_allclose(maps, row_by_row(tokens.detach()), rtol=1e-4, atol=1e-5)
    if attends:
        gains = backbone.attention(outputs, weights.numpy())
        wanted = row_by_row(attention_gains(own.module, tokens, weights)[..., None])
        np.testing.assert_allclose(gains, wanted, rtol=1e-3, atol=1e-7)


def attention_gains(module, tokens, weights):
    """Gains (N, T) of attention to each token, as LeGrad means them over the queries."""
    layer = module[4]
    query, key, value = layer.qkv(layer.norm(tokens)).chunk(3, dim=-1)
    attention = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    logits = module[5:](tokens + attention @ value)
    (slope,) = torch.autograd.grad((logits * weights).sum(), attention)
    return slope.relu().mean(dim=1)


def test_further_layers_are_put_in_order_each(tmp_path):
    own = windowed()
    export_network(own, tmp_path / "b", target_layer="4", layers=("1", "3"))
    backbone = Backbone(tmp_path / "b")
    for index in range(2):
        name = f"layer_{index}"
        assert (
            cells_in_place(
                lambda images, name=name: backbone.forward(images)[0].further[name][None]
            )
            == 64
        )


def test_tokens_of_an_onnx_file_are_put_in_order(tmp_path):
    torch.onnx.export(
        windowed(attends=True).module, (IMAGES,), tmp_path / "own.onnx", input_names=["image"],
        dynamo=False, dynamic_axes={"image": {0: "N"}},
    )  # fmt: skip
    stated = StatedPreprocessing(
        (SIZE.height, SIZE.width), SIZE.resize, SIZE.interpolation, SIZE.mean, SIZE.std
    )
    report = export_onnx(
        tmp_path / "own.onnx", tmp_path / "b", preprocessing=stated, target_layer="/3/Add"
    )
    assert report.head_kind == FORWARD
    backbone = Backbone(tmp_path / "b")
    assert cells_in_place(lambda images: backbone.forward(images)[0].activation_maps[None]) == 64
    outputs = backbone.forward(IMAGES.numpy())
    wanted = windowed(attends=True).module(IMAGES).numpy()
    for output, own in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(output.logits, own, rtol=1e-3, atol=1e-5)
        found = backbone.head_logits(output.activation_maps[None], output)
        np.testing.assert_allclose(found[0], own, rtol=1e-3, atol=1e-5)

"""The head's graph computes what torch's autograd computes, whatever the head is made of."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from head_networks import (
    CLASSES,
    Around,
    Ceiling,
    CeilingAround,
    Deeper,
    Pooled,
    Transformer,
    Twofold,
    Windows,
    exported,
    images,
)
from onnx import helper, numpy_helper
from textcam_service.artefacts.backbone import BackboneManifest
from textcam_service.artefacts.files import canonical_json, sha256
from textcam_service.core.methods import Capability
from textcam_service.errors import ArtefactCorrupt, ExportRefused
from textcam_service.offline.export.from_torch import heads
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from torch.nn import functional


def by_autograd(network, backbone, pixels, class_weights):
    """d(class_weights . logits) / d maps, with torch, at the layer's output or input."""
    name = backbone.manifest.target_layer
    kept = []

    def keep(tensor):
        tensor.requires_grad_(True).retain_grad()
        kept.append(tensor)

    module = network.module.get_submodule(name.removeprefix("input of "))
    if name.startswith("input of "):
        hook = module.register_forward_pre_hook(lambda _, given: keep(given[0]))
    else:
        hook = module.register_forward_hook(lambda _, __, output: keep(output))
    logits = network.module(torch.tensor(pixels))
    hook.remove()
    (logits * torch.tensor(class_weights, dtype=torch.float32)).sum().backward()
    found = kept[0].grad
    if found.ndim == 3:
        return found[:, 1:].transpose(1, 2).reshape(len(pixels), -1, 4, 4).numpy()
    if found.shape[3] == 8 and found.shape[1] == 16:
        return found.permute(0, 3, 1, 2).numpy()
    return found.numpy()


@pytest.mark.parametrize(
    ("module", "target_layer"),
    [
        (Pooled, ""),
        (Deeper, "stem"),
        (Transformer, ""),
        (Transformer, "blocks.0"),
        (Windows, "norm"),
        (Windows, "stem"),
        (Around, "branch"),
    ],
)
def test_gradients_are_those_of_autograd_at_any_batch_size(module, target_layer, tmp_path):
    network, report, backbone = exported(module, tmp_path, target_layer=target_layer)
    assert report.head_kind == "gradient", report.without
    for count in (1, 4):
        pixels = images(count)
        class_weights = np.random.default_rng(1).normal(size=(count, CLASSES))
        seen = backbone.forward(pixels)
        found = backbone.gradients(seen, class_weights)
        wanted = by_autograd(network, backbone, pixels, class_weights)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
        for one in seen:
            own = backbone.head_logits(one.activation_maps[None], one)[0]
            np.testing.assert_allclose(own, one.logits, atol=1e-5)


def test_a_transformer_is_cut_where_its_patches_still_matter(tmp_path):
    """At the last block's output only the class token has a gradient."""
    _, report, backbone = exported(Transformer, tmp_path)
    assert report.target_layer == "blocks.1.norm1"
    assert backbone.manifest.head_inputs == ("prefix", "context_0")
    assert backbone.capabilities == {Capability.GRADIENT, Capability.HEAD, Capability.ATTENTION}


def test_attention_gradients_are_those_of_autograd(tmp_path):
    network, _, backbone = exported(Transformer, tmp_path, target_layer="blocks.1.norm1")
    pixels, class_weights = images(2), np.eye(CLASSES)[[1, 3]]
    found = backbone.attention(backbone.forward(pixels), class_weights)
    block = network.module.blocks[1]
    x = network.module.blocks[0](
        torch.cat(
            [
                network.module.token.expand(2, -1, -1),
                network.module.patches(torch.tensor(pixels)).flatten(2).transpose(1, 2),
            ],
            dim=1,
        )
    )
    q, k, v = (
        functional.linear(
            block.norm1(x), block.attention.in_proj_weight, block.attention.in_proj_bias
        )
        .view(2, 17, 3, 2, 8)
        .permute(2, 0, 3, 1, 4)
    )
    weights = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1).requires_grad_(True)
    y = block.attention.out_proj((weights @ v).transpose(1, 2).reshape(2, 17, 16))
    x = x + y
    logits = network.module.fc(network.module.norm(x + block.mlp(block.norm2(x)))[:, 0])
    (wanted,) = torch.autograd.grad((logits * torch.tensor(class_weights)).sum(), weights)
    wanted = wanted.relu().mean((1, 2))[:, 1:].reshape(2, 1, 4, 4).numpy()
    assert wanted.max() > 0
    np.testing.assert_allclose(found, wanted, atol=1e-5 * wanted.max())


def test_a_forward_pass_of_the_head_runs_none_of_its_gradient(tmp_path):
    """As onnxruntime's own profile has it; without class weights all gradients are 0."""
    _, _, backbone = exported(Transformer, tmp_path)
    seen = backbone.forward(images(2))
    feeds = {
        name: np.stack([own.further[name] for own in seen]) for name in ("prefix", "context_0")
    }
    feeds["activation_maps"] = np.stack([own.activation_maps for own in seen])

    def ran(weight):
        options = ort.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
        session = ort.InferenceSession((tmp_path / "b" / "head.onnx").read_bytes(), options)
        names = [output.name for output in session.get_outputs()]
        weights = np.full((2, CLASSES), weight, np.float32)
        found = session.run(None, {**feeds, "class_weights": weights})
        profile = json.loads(Path(session.end_profiling()).read_text())
        nodes = sum(event["name"].endswith("_kernel_time") for event in profile)
        return dict(zip(names, found, strict=True)), nodes

    idle, few = ran(0)
    pulled, many = ran(1)
    assert few < many / 2
    np.testing.assert_array_equal(idle["logits"], pulled["logits"])
    for name in ("gradient", "attention"):
        assert pulled[name].any()
        assert not idle[name].any()
        assert idle[name].shape == pulled[name].shape


def test_further_layers_have_gradients_of_their_own(tmp_path):
    network, _, backbone = exported(
        Deeper, tmp_path, target_layer="body.4", layers=("body.2", "stem")
    )
    assert backbone.manifest.layers == ("stem", "body.2")  # the first to compute first
    pixels, class_weights = images(3), np.eye(CLASSES)[[0, 1, 2]]
    seen = backbone.forward(pixels)
    found = backbone.layer_gradients(seen, class_weights)
    kept = []

    def keep(_module, _given, output):
        output.retain_grad()
        kept.append(output)

    for module in (network.module.stem, network.module.body[2]):
        module.register_forward_hook(keep)
    network.module.body[2].inplace = False
    given = torch.tensor(pixels, requires_grad=True)
    (network.module(given) * torch.tensor(class_weights)).sum().backward()
    for index, (own, tensor) in enumerate(zip(found, kept, strict=True)):
        maps = np.stack([one.layers[index] for one in seen])
        np.testing.assert_allclose(maps, tensor.detach().numpy(), atol=1e-5)
        scale = float(tensor.grad.abs().max())
        np.testing.assert_allclose(own, tensor.grad.numpy(), atol=1e-5 * scale)


def test_a_head_that_cannot_be_differentiated_is_named_and_runs_forward(tmp_path):
    _, report, backbone = exported(Ceiling, tmp_path)
    assert report.head_kind == "forward"
    assert "aten.avg_pool2d" in str(report)
    assert backbone.capabilities == {Capability.HEAD}
    (one,) = backbone.forward(images(1))
    maps = np.stack([one.activation_maps, 0 * one.activation_maps])
    logits = backbone.head_logits(maps, one)
    np.testing.assert_allclose(logits[0], one.logits, atol=1e-5)
    assert np.abs(logits[1] - logits[0]).max() > 1e-2


def test_a_head_without_gradients_that_takes_contexts_runs_forward(tmp_path):
    _, report, backbone = exported(CeilingAround, tmp_path, target_layer="branch")
    assert report.head_kind == "forward", report.without
    assert backbone.manifest.head_inputs == ("context_0",)
    seen = backbone.forward(images(3))
    for one in seen:
        maps = np.stack([one.activation_maps, 0 * one.activation_maps])
        logits = backbone.head_logits(maps, one)
        np.testing.assert_allclose(logits[0], one.logits, atol=1e-5)
        assert np.abs(logits[1] - logits[0]).max() > 1e-2


def spoil(monkeypatch, output, factor=1.01):
    """Let graphs of heads answer 1 % more in one of their outputs."""
    faithful = heads.to_onnx

    def spoiled(what, module, given, inputs, outputs):
        graph = faithful(what, module, given, inputs, outputs)
        if "head" not in what or output not in outputs:
            return graph
        model = onnx.load_from_string(graph)
        for node in model.graph.node:
            node.input[:] = ["own" if name == output else name for name in node.input]
            node.output[:] = ["own" if name == output else name for name in node.output]
        model.graph.initializer.append(numpy_helper.from_array(np.float32([factor]), "more"))
        model.graph.node.append(helper.make_node("Mul", ["own", "more"], [output]))
        return model.SerializeToString()

    monkeypatch.setattr(heads, "to_onnx", spoiled)


@pytest.mark.parametrize(("factor", "error"), [(1.01, "0.01"), (np.nan, "nan")])
def test_a_forward_head_that_computes_something_else_is_left_out(
    factor, error, tmp_path, monkeypatch
):
    spoil(monkeypatch, "logits", factor)
    _, report, backbone = exported(Ceiling, tmp_path)
    assert report.head_kind == "none"
    assert f"by itself, by {error} (logits)" in report.without
    assert backbone.capabilities == set()


def test_gradients_by_attention_that_differ_from_torchs_are_not_exported(tmp_path, monkeypatch):
    spoil(monkeypatch, "attention")
    _, report, backbone = exported(Transformer, tmp_path)
    assert report.head_kind == "forward"
    assert "and 0.01 (gradients)" in report.without
    assert Capability.ATTENTION not in backbone.capabilities


@pytest.mark.parametrize("output", ["gradient", "tap_0"])
def test_gradients_of_further_layers_that_differ_from_torchs_are_refused(
    output, tmp_path, monkeypatch
):
    spoil(monkeypatch, output)
    with pytest.raises(ExportRefused, match=r"further layers need gradients, .* 0\.01 \(gradients"):
        exported(Deeper, tmp_path, target_layer="body.4", layers=("stem", "body.2"))


@pytest.mark.parametrize(
    ("target", "layers", "fault"),
    [
        ("right", ("stem", "stem"), "further layer stem holds the same maps as stem"),
        ("right", ("stem", "stem.1"), "further layer stem.* holds the same maps as stem"),
        ("right", ("both",), "both holds a tuple, not one tensor; name a module inside of it"),
        ("right", ("right",), "right holds the same maps as right; .* the target layer not"),
        ("right", ("uncalled",), "uncalled is a module that the network never calls"),
        ("stem", ("left", "right"), "right is not computed from left, the first of them"),
        ("right", ("unread",), "the logits do not depend on the further layer unread"),
    ],
)
def test_further_layers_that_tell_nothing_more_are_refused(target, layers, fault, tmp_path):
    with pytest.raises(ExportRefused, match=fault):
        exported(Twofold, tmp_path, target_layer=target, layers=layers)


@pytest.mark.parametrize(
    ("layer", "fault"),
    [
        ("both", "both holds a tuple, not one tensor"),
        ("uncalled", "uncalled is a module that the network never calls; name one that it does"),
    ],
)
def test_a_target_layer_without_a_tensor_of_its_own_is_refused(layer, fault, tmp_path):
    with pytest.raises(ExportRefused, match=fault):
        exported(Twofold, tmp_path, target_layer=layer)


def test_a_layer_that_is_not_there_is_answered_by_its_neighbours(tmp_path):
    with pytest.raises(ExportRefused, match=r"no layer 'body\.9'; near it: .*body"):
        exported(Deeper, tmp_path, target_layer="body.9")
    with pytest.raises(ExportRefused, match="no maps of more than one cell"):
        exported(Deeper, tmp_path, target_layer="fc")


def test_a_head_that_was_changed_on_disk_is_refused(tmp_path):
    exported(Pooled, tmp_path)
    (tmp_path / "b" / "head.onnx").write_bytes(b"changed")
    with pytest.raises(ArtefactCorrupt, match=r"head\.onnx does not have the digest"):
        Backbone(tmp_path / "b")


def test_a_backbone_of_an_earlier_version_still_loads(lite0_folder, tmp_path):
    """Before heads had graphs of their own, manifests said nothing of them."""
    import json  # noqa: PLC0415
    import shutil  # noqa: PLC0415

    shutil.copytree(lite0_folder, tmp_path / "b")
    file = tmp_path / "b" / "backbone.json"
    manifest = json.loads(file.read_text())
    for key in ("layers", "outputs", "head_inputs", "layers_inputs", "attention", "grid_shift"):
        manifest.pop(key, None)
    manifest.pop("digest")
    file.write_text(json.dumps({**manifest, "digest": sha256(canonical_json(manifest))}))
    backbone = Backbone(tmp_path / "b")
    assert backbone.is_linear
    (one,) = backbone.forward(np.zeros((1, 3, 224, 224), np.float32))
    assert one.further == {}


def test_a_manifest_whose_preprocessing_cannot_be_served_is_corrupt(lite0_folder):
    manifest = json.loads((lite0_folder / "backbone.json").read_text())
    manifest["preprocessing"]["interpolation"] = "nearest"
    with pytest.raises(ArtefactCorrupt, match="manifest is malformed: interpolation 'nearest'"):
        BackboneManifest.from_json(manifest)


@pytest.fixture
def lite0_folder(backbone_folder):
    return backbone_folder


def test_a_module_of_ones_own_is_imported(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(4, 3))\n"
        "nothing = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    network = load_network("import:mine:make")
    assert network.class_names == ("class 0", "class 1", "class 2")
    assert export_network(network, tmp_path / "b").head_kind == "gap_linear"
    again = load_network("import:mine:make")
    assert torch.equal(network.module[0].weight, again.module[0].weight)
    with pytest.raises(ExportRefused, match="with the package on PYTHONPATH"):
        load_network("import:nowhere:make")
    with pytest.raises(ExportRefused, match="has no attribute 'other'"):
        load_network("import:mine:other")
    with pytest.raises(ExportRefused, match="cannot be loaded"):
        load_network("import:mine:nothing")

"""ONNX classifiers node by node: heads, batches, names and tails as exporters write them."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from textcam_service.core.methods import METHODS, MethodInput, MethodSettings, run_method
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.export import export_onnx
from textcam_service.offline.networks.network import StatedPreprocessing
from textcam_service.runtime.backbone import Backbone

RNG = np.random.default_rng(5)
STEM = RNG.normal(0, 0.4, (6, 3, 3, 3)).astype(np.float32)
WEIGHTS = RNG.normal(0, 1, (4, 6)).astype(np.float32)
BIAS = RNG.normal(0, 1, 4).astype(np.float32)
TOKEN = RNG.normal(0, 1, (1, 1, 6)).astype(np.float32)
PIXELS = RNG.normal(0, 1, (3, 3, 32, 32)).astype(np.float32)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


CONV = [
    node("Conv", "image stem", "conv", strides=[2, 2], pads=[1] * 4),
    node("Relu", "conv", "maps"),
]
GAP = [node("GlobalAveragePool", "maps", "pooled"), node("Flatten", "pooled", "means")]
GEMM = [node("Gemm", "means weights bias", "logits", transB=1)]


def save(path, nodes, *, batch="N", metadata=None, classes=4, **further):
    """A classifier of 4 classes; `further` are weights, by name, beside the usual ones."""
    usual = {
        "stem": STEM, "weights": WEIGHTS, "bias": BIAS, "turned": WEIGHTS.T.copy(),
        "pointwise": WEIGHTS[:, :, None, None], "spatial": np.array([2, 3]),
    }  # fmt: skip
    arrays = {name: np.asarray(array) for name, array in {**usual, **further}.items()}
    taken = {name for one in nodes for name in one.input}
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(own, name) for name, own in arrays.items() if name in taken],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


def export(path, **options):
    """Export beside the file: the report, and the backbone as it is served."""
    output = path.with_suffix("")
    report = export_onnx(path, output, preprocessing=StatedPreprocessing((32, 32)), **options)
    return report, Backbone(output, threads=1)


def logits_of(path, images):
    """The file's own answers, each image by itself."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": one[None]})[0] for one in images])


HEADS = {
    "flatten": [*GAP, *GEMM],
    "mean": [
        node("ReduceMean", "maps spatial", "means", keepdims=0),
        node("MatMul", "means turned", "products"), node("Add", "products bias", "logits"),
    ],
    "bias first": [
        node("ReduceMean", "maps spatial", "means", keepdims=0),
        node("MatMul", "means turned", "products"), node("Add", "bias products", "logits"),
    ],
    "convolution": [
        GAP[0], node("Conv", "pooled pointwise bias", "wide"), node("Flatten", "wide", "logits"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_a_linear_head_has_its_closed_form_however_it_is_written(tmp_path, head):
    path = save(tmp_path / "m.onnx", [*CONV, *HEADS[head]])
    report, backbone = export(path)
    assert (report.head_kind, report.target_layer) == ("gap_linear", "maps")
    np.testing.assert_allclose(backbone.head_weights, WEIGHTS, atol=1e-5)
    np.testing.assert_allclose(backbone.head_bias, BIAS, atol=1e-6)
    np.testing.assert_allclose(backbone.run(PIXELS)[0], logits_of(path, PIXELS), atol=1e-5)


def test_a_head_that_minds_where_things_lie_is_not_linear(tmp_path):
    nodes = [*CONV, node("Flatten", "maps", "flat"), node("Gemm", "flat wide bias", "logits")]
    wide = RNG.normal(0, 0.1, (6 * 16 * 16, 4)).astype(np.float32)
    report, backbone = export(save(tmp_path / "m.onnx", nodes, wide=wide))
    assert report.head_kind == "forward"
    (one,) = backbone.forward(PIXELS[:1])
    flipped = one.activation_maps[None, :, ::-1]
    expected = flipped.reshape(1, -1) @ wide + BIAS
    np.testing.assert_allclose(backbone.head_logits(flipped, one), expected, atol=1e-4)


def mixing(amount):
    """Each image's maps plus some of the batch's mean."""
    return [
        *CONV[:1], node("Relu", "conv", "own"), node("ReduceMean", "own first", "mean"),
        node("Mul", "mean amount", "some"), node("Add", "own some", "maps"), *GAP, *GEMM,
    ], {"first": np.array([0]), "amount": np.float32(amount)}  # fmt: skip


def test_parity_is_measured_against_the_file_and_beyond_tolerance_refused(tmp_path):
    nodes, arrays = mixing(3e-5)
    report, backbone = export(save(tmp_path / "some.onnx", nodes, **arrays))
    assert 1e-6 < report.maps_error < 1e-4
    assert 1e-7 < report.logits_error < 1e-4
    stated = float(backbone.manifest.exporter["max_parity_error"])
    assert stated == pytest.approx(max(report.maps_error, report.logits_error), rel=0.01)
    nodes, arrays = mixing(0.1)
    with pytest.raises(ExportRefused, match="export it in evaluation mode"):
        export(save(tmp_path / "much.onnx", nodes, **arrays))


RESHAPED = [
    *CONV, GAP[0], node("Reshape", "pooled one_row", "means"), *GEMM,
]  # fmt: skip


@pytest.mark.parametrize("stated", [1, "N"])
def test_a_batch_that_a_reshape_holds_fixed_is_made_free(tmp_path, stated):
    path = save(tmp_path / "m.onnx", RESHAPED, batch=stated, one_row=np.array([1, 6]))
    report, backbone = export(path)
    assert report.head_kind == "gap_linear"
    np.testing.assert_allclose(backbone.run(PIXELS)[0], logits_of(path, PIXELS), atol=1e-5)
    kinds = {one.op_type for one in onnx.load(tmp_path / "m" / "backbone.onnx").graph.node}
    assert "Scan" not in kinds, "it runs all images at once"


def test_a_batch_fixed_at_more_than_one_is_made_free(tmp_path):
    path = save(tmp_path / "m.onnx", RESHAPED, batch=2, one_row=np.array([2, 6]))
    found, _ = export(path)[1].run(PIXELS)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pairs = [session.run(None, {"image": PIXELS[[at, at]]})[0][0] for at in range(3)]
    np.testing.assert_allclose(found, pairs, atol=1e-5)


def with_class_token(batch):
    """Tokens behind a class token, which takes the tokens' mean; then a layer at that token."""
    return [
        *CONV, node("Reshape", "maps line", "columns"),
        node("Transpose", "columns", "cells", perm=[0, 2, 1]),
        node("Concat", "token cells", "tokens", axis=1),
        node("Softmax", "tokens", "shares", axis=1), node("Mul", "tokens shares", "parts"),
        node("ReduceMean", "parts along", "mixed", keepdims=1), node("Add", "tokens mixed", "all"),
        node("Gather", "all zero", "means", axis=1), *GEMM,
    ], {
        "line": np.array([batch, 6, 256]), "along": np.array([1]), "zero": np.array(0),
        "token": np.tile(TOKEN, (batch, 1, 1)),
    }  # fmt: skip


def test_a_batch_that_cannot_be_made_free_is_looped_over(tmp_path):
    nodes, arrays = with_class_token(1)
    path = save(tmp_path / "m.onnx", nodes, batch=1, **arrays)
    report, backbone = export(path, target_layer="tokens")
    assert (report.head_kind, report.maps_shape) == ("forward", (6, 16, 16))
    whole = onnx.load(tmp_path / "m" / "backbone.onnx")
    assert [one.op_type for one in whole.graph.node] == ["Scan"]
    np.testing.assert_allclose(backbone.run(PIXELS)[0], logits_of(path, PIXELS), atol=1e-5)
    seen = backbone.forward(PIXELS)
    np.testing.assert_allclose(seen[2].further["prefix"], TOKEN[0])
    swapped = np.stack([one.activation_maps for one in seen[::-1]])
    expected = logits_of(path, PIXELS[::-1])
    np.testing.assert_allclose(backbone.head_logits(swapped, seen[0]), expected, atol=1e-5)
    nodes, arrays = with_class_token(2)
    with pytest.raises(ExportRefused, match="takes 2 images at once"):
        export(save(tmp_path / "two.onnx", nodes, batch=2, **arrays))


def test_tokens_are_cut_before_the_class_token_has_read_them(tmp_path):
    nodes, arrays = with_class_token(0)  # a reshape's 0: as many as there are
    nodes[4:5] = [
        node("Shape", "cells", "size"), node("Gather", "size count", "n", axis=0),
        node("Concat", "n ones", "wide", axis=0), node("Expand", "token wide", "spread"),
        node("Concat", "spread cells", "tokens", axis=1),
    ]  # fmt: skip
    arrays |= {"token": TOKEN, "count": np.array([0]), "ones": np.array([1, 6])}
    path = save(tmp_path / "m.onnx", nodes, **arrays)
    report, backbone = export(path)
    assert (report.target_layer, report.head_kind) == ("tokens", "forward")
    (one,) = backbone.forward(PIXELS[:1])
    inputs = MethodInput(one.activation_maps, one.logits, np.eye(4)[1], PIXELS[0])
    for name in ("recipro_cam", "eigen_cam"):
        steps = METHODS[name].queries(inputs, MethodSettings())
        terms = run_method(steps, lambda ask: backbone.query(ask, one))
        assert np.ptp(terms.weights) > 0


def test_maps_with_channels_last_are_turned(tmp_path):
    nodes = [
        *CONV, node("Transpose", "maps", "turned_maps", perm=[0, 2, 3, 1]),
        node("MatMul", "turned_maps square", "mixed"), node("Relu", "mixed", "last"),
        node("ReduceMean", "last rows", "means", keepdims=0), *GEMM,
    ]  # fmt: skip
    square = RNG.normal(0, 1, (6, 6)).astype(np.float32)
    path = save(tmp_path / "m.onnx", nodes, square=square, rows=np.array([1, 2]))
    report, backbone = export(path)
    assert (report.target_layer, report.head_kind) == ("last", "gap_linear")
    logits, maps = backbone.run(PIXELS)
    assert maps.shape == (3, 6, 16, 16)
    np.testing.assert_allclose(maps.mean((2, 3)) @ WEIGHTS.T + BIAS, logits, atol=1e-5)
    np.testing.assert_allclose(logits, logits_of(path, PIXELS), atol=1e-5)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_a_softmax_at_the_end_is_cut_off(tmp_path, kind):
    head = [*GAP, node("Gemm", "means weights bias", "scores", transB=1)]
    tail = [node(kind, "scores", "shares", axis=1), node("Identity", "shares", "logits")]
    plain = save(tmp_path / "plain.onnx", [*CONV, *GAP, *GEMM])
    report, backbone = export(save(tmp_path / "soft.onnx", [*CONV, *head, *tail]))
    assert report.head_kind == "gap_linear"
    np.testing.assert_allclose(backbone.run(PIXELS)[0], logits_of(plain, PIXELS), atol=1e-5)


def test_a_sigmoid_at_the_end_is_cut_off_and_makes_the_network_multi_label(tmp_path):
    head = [*GAP, node("Gemm", "means weights bias", "scores", transB=1)]
    plain = save(tmp_path / "plain.onnx", [*CONV, *GAP, *GEMM])
    sigmoid = save(tmp_path / "s.onnx", [*CONV, *head, node("Sigmoid", "scores", "logits")])
    _, backbone = export(sigmoid)
    assert backbone.manifest.multi_label
    np.testing.assert_allclose(backbone.run(PIXELS)[0], logits_of(plain, PIXELS), atol=1e-5)


def test_other_ends_than_logits_are_refused_with_the_mend(tmp_path):
    head = [*GAP, node("Gemm", "means weights bias", "scores", transB=1)]
    tail = [node("HardSigmoid", "scores", "shares"), node("Flatten", "shares", "logits")]
    with pytest.raises(ExportRefused, match=r"ends in a HardSigmoid.* make 'scores' its output"):
        export(save(tmp_path / "h.onnx", [*CONV, *head, *tail]))
    lone = [*GAP, node("Gemm", "means row one_bias", "logits", transB=1)]
    one = save(tmp_path / "o.onnx", [*CONV, *lone], row=WEIGHTS[:1], one_bias=BIAS[:1], classes=1)
    with pytest.raises(ExportRefused, match=r"answers 1 logit, .* give two logits"):
        export(one)
    spelt = [
        node("Exp", "scores", "powers"), node("ReduceSum", "powers one", "sum"),
        node("Div", "powers sum", "logits"),
    ]  # fmt: skip
    with pytest.raises(ExportRefused, match="export it without its last softmax"):
        export(save(tmp_path / "p.onnx", [*CONV, *head, *spelt], one=np.array([1])))


NAMES = ["otter", "heron", "newt", "adder"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("class_names", json.dumps(NAMES)),
        ("names", str(dict(enumerate(NAMES)))),
        ("labels", json.dumps({str(index): name for index, name in enumerate(NAMES)})),
    ],
)
def test_class_names_are_read_from_the_metadata(tmp_path, key, text):
    path = save(tmp_path / "m.onnx", [*CONV, *GAP, *GEMM], metadata={key: text, "author": "x"})
    assert export(path)[1].manifest.class_names == tuple(NAMES)
    asked = ("a", "b", "c", "d")
    assert export(path, class_names=asked)[1].manifest.class_names == asked


def test_class_names_of_another_number_are_refused(tmp_path):
    path = save(tmp_path / "m.onnx", [*CONV, *GAP, *GEMM], metadata={"names": '["one"]'})
    with pytest.raises(ExportRefused, match="4 logits, 1 class names in its metadata"):
        export(path)


def test_a_tensor_that_the_image_goes_around_has_no_head(tmp_path):
    nodes = [
        *CONV, node("Mul", "maps maps", "squares"), node("Add", "maps squares", "sum"),
        node("GlobalAveragePool", "sum", "pooled"), GAP[1], *GEMM,
    ]  # fmt: skip
    path = save(tmp_path / "m.onnx", nodes)
    assert export(path)[0].target_layer == "sum"
    report, _ = export(path, target_layer="squares")
    assert report.head_kind == "none"
    assert "more of the image than squares leads to the logits" in str(report)


def test_a_file_may_use_the_products_names(tmp_path):
    nodes = [
        CONV[0], node("Relu", "conv", "activation_maps"),
        node("GlobalAveragePool", "activation_maps", "prefix"), node("Flatten", "prefix", "means"),
        *GEMM,
    ]  # fmt: skip
    path = save(tmp_path / "m.onnx", nodes)
    report, backbone = export(path)
    assert report.target_layer == "activation_maps"
    np.testing.assert_allclose(backbone.run(PIXELS)[0], logits_of(path, PIXELS), atol=1e-5)

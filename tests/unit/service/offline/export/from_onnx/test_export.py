"""Plans of ONNX classifiers: kinds of heads, class names, and models that are refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit
from textcam_service.artefacts.backbone import FORWARD, GAP_LINEAR
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.export import export_onnx, plan_onnx
from textcam_service.offline.export.numerics import cpu_session
from textcam_service.offline.networks.network import StatedPreprocessing
from textcam_service.runtime.backbone import Backbone

SIZE = StatedPreprocessing((8, 8), 8, "bilinear", (0.5,) * 3, (0.25,) * 3)
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3, 2, 2)).astype(np.float32)


def saved(folder, *, classes=5, bent=False, shares=False, names="", last="Identity"):
    """A convolution, the mean of its maps, and a dense layer.

    `bent`: not linear in the mean. `shares`: the output sums up to 1, without a Softmax.
    `last`: the last operator.
    """
    dense = np.random.default_rng(1).normal(size=(4, classes)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["sums"], strides=[2, 2]),
        helper.make_node("Relu", ["sums"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("Tanh" if bent else "Identity", ["row"], ["features"]),
        helper.make_node("MatMul", ["features", "dense"], ["scores"]),
    ]
    if shares:
        nodes += [
            helper.make_node("Exp", ["scores"], ["likelihoods"]),
            helper.make_node("ReduceSum", ["likelihoods", "axis"], ["sum"]),
            helper.make_node("Div", ["likelihoods", "sum"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node(last, ["scores"], ["logits"]))
    declare = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "classifier",
        [declare("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [declare("logits", TensorProto.FLOAT, ["N", classes])],
        [
            numpy_helper.from_array(KERNEL, "kernel"),
            numpy_helper.from_array(dense, "dense"),
            numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if names:
        helper.set_model_props(model, {"class_names": names})
    path = folder / "own.onnx"
    onnx.save(model, path)
    return path


def plan(path, **options):
    return plan_onnx(path, preprocessing=SIZE, **options)


def test_a_head_that_is_linear_in_the_mean_gets_its_closed_form(tmp_path):
    made = plan(saved(tmp_path))
    assert (made.architecture, made.target_layer) == ("own", "maps")
    assert made.head.kind == GAP_LINEAR
    wanted = np.random.default_rng(1).normal(size=(4, 5)).T
    np.testing.assert_allclose(made.head.linear[0], wanted, rtol=1e-3, atol=1e-4)
    assert made.class_names == tuple(f"class {index}" for index in range(5))
    assert max(made.logits_error, made.maps_error) < 1e-5


def test_any_other_head_has_no_gradients(tmp_path):
    made = plan(saved(tmp_path, bent=True))
    assert (made.head.kind, made.head.without) == (FORWARD, "an ONNX model has none")
    assert made.head.graph


def test_the_written_backbone_computes_the_files_logits(tmp_path):
    report = export_onnx(saved(tmp_path), tmp_path / "b", preprocessing=SIZE)
    assert (report.maps_shape, report.class_count) == ((4, 4, 4), 5)
    images = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    found = [output.logits for output in Backbone(tmp_path / "b").forward(images)]
    session = cpu_session((tmp_path / "own.onnx").read_bytes())
    (wanted,) = session.run(["logits"], {"image": images})
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_names_come_from_the_caller_before_the_metadata(tmp_path):
    path = saved(tmp_path, classes=2, names='["cat", "cat"]')
    assert plan(path).class_names == ("cat (0)", "cat (1)")
    named = plan(path, class_names=("a", "b"))
    assert named.class_names == ("a", "b")
    assert named.weights_digest != plan(path).weights_digest


@pytest.mark.parametrize(
    ("options", "names", "said"),
    [
        ({"classes": 1}, (), "answers 1 logit, but the service takes a softmax"),
        ({"shares": True}, (), "answers probabilities, but the service takes logits"),
        ({}, ("a", "b"), "5 logits, 2 class names$"),
        ({"names": '["a"]'}, (), "5 logits, 1 class names in its metadata; give others"),
    ],
    ids=["one logit", "probabilities", "names given", "names in the file"],
)
def test_a_model_that_cannot_be_served_is_refused_with_the_remedy(options, names, said, tmp_path):
    with pytest.raises(ExportRefused, match=said):
        plan(saved(tmp_path, **options), class_names=names)


def test_labels_have_the_files_own_probabilities(tmp_path):
    path = saved(tmp_path, last="Sigmoid")
    report = export_onnx(path, tmp_path / "b", preprocessing=SIZE)
    assert "5 classes that do not exclude each other (multi-label)" in str(report)
    backbone = Backbone(tmp_path / "b")
    assert backbone.manifest.multi_label
    images = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    (wanted,) = cpu_session(path.read_bytes()).run(["logits"], {"image": images})
    found = [output.logits for output in backbone.forward(images)]
    np.testing.assert_allclose(expit(found), wanted, atol=1e-5)


def test_classes_of_logits_exclude_each_other_unless_it_is_said(tmp_path):
    exclusive, labels = plan(saved(tmp_path)), plan(saved(tmp_path), multi_label=True)
    assert (exclusive.multi_label, labels.multi_label) == (False, True)
    assert exclusive.weights_digest != labels.weights_digest
    with pytest.raises(ExportRefused, match=r"ends in a Softmax: .* leave out --multi-label"):
        plan(saved(tmp_path, last="Softmax"), multi_label=True)


def test_one_sigmoid_is_refused_with_the_two_logits_that_say_the_same(tmp_path):
    with pytest.raises(ExportRefused, match=r"two logits, \[0, z\] in place of z"):
        plan(saved(tmp_path, classes=1, last="Sigmoid"))

"""Users' ONNX files: what is read of them, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.feeding import OnnxInterface
from textcam_service.offline.export.from_onnx.nodes import run_model
from textcam_service.offline.export.from_onnx.reading import OWN, read_onnx
from textcam_service.offline.export.numerics import cpu_session
from textcam_service.offline.networks.network import StatedPreprocessing


def saved(folder, *tail, shape=("N", 3, 8, 8), kind=TensorProto.FLOAT, metadata=()):
    """A pooled classifier, then `tail`: nodes from "pooled" (N, 3) to "out"."""
    declare = helper.make_tensor_value_info
    pool = helper.make_node("ReduceMean", ["image"], ["pooled"], axes=[2, 3], keepdims=0)
    tail = tail or (helper.make_node("Neg", ["pooled"], ["out"]),)
    shaped = numpy_helper.from_array(np.array([-1, 3]), "size")
    graph = helper.make_graph(
        [pool, *tail],
        "classifier",
        [declare("image", kind, shape)],
        [declare("out", TensorProto.FLOAT, ["N", 3])],
        [shaped],
    )
    opset = helper.make_opsetid("", 17)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    helper.set_model_props(made, dict(metadata))
    onnx.save(made, folder / "c.onnx")
    return folder / "c.onnx"


def test_input_logits_and_batch_are_read_under_names_of_their_own(tmp_path):
    file = read_onnx(saved(tmp_path, shape=(2, 3, 8, 8)), StatedPreprocessing((8, 8)))
    assert (file.image, file.logits, file.batch) == (OWN + "image", OWN + "out", 2)
    assert file.class_names == ()


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax"])
def test_a_last_softmax_is_cut_off_with_what_only_passes_it_on(last, tmp_path):
    tail = [
        helper.make_node(last, ["pooled"], ["shares"]),
        helper.make_node("Identity", ["shares"], ["out"]),
    ]
    file = read_onnx(saved(tmp_path, *tail), StatedPreprocessing((8, 8)))
    assert file.logits == OWN + "pooled"
    assert [node.op_type for node in file.model.graph.node] == ["ReduceMean"]


@pytest.mark.parametrize("reshaped", [False, True])
def test_a_last_sigmoid_is_cut_off_through_a_reshape_too(reshaped, tmp_path):
    tail = [helper.make_node("Sigmoid", ["pooled"], ["shares" if reshaped else "out"])]
    if reshaped:
        tail.append(helper.make_node("Reshape", ["shares", "size"], ["out"]))
    path = saved(tmp_path, *tail)
    file = read_onnx(path, StatedPreprocessing((8, 8)))
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8))
    assert file.ending == "Sigmoid"
    feeds = images.astype(np.float32)
    (wanted,) = cpu_session(path.read_bytes()).run(None, {"image": feeds})
    (logits,) = run_model(file.model, path, {file.image: feeds}).values()
    np.testing.assert_allclose(expit(logits), wanted, atol=1e-6)


def test_a_last_hard_sigmoid_is_refused_with_the_remedy(tmp_path):
    tail = [helper.make_node("HardSigmoid", ["pooled"], ["out"])]
    with pytest.raises(ExportRefused, match=r"make 'pooled' its output, and give --multi-label"):
        read_onnx(saved(tmp_path, *tail), StatedPreprocessing((8, 8)))


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"names": "{0: 'a', 2: 'c', 1: 'b'}"}, ("a", "b", "c")),
        ({"class_names": '["a", "b", "c"]'}, ("a", "b", "c")),
        ({"labels": '{"10": "k", "9": "j"}'}, ("j", "k")),
        ({"names": "a, b, c"}, ()),
        ({"stride": "32"}, ()),
    ],
)
def test_class_names_are_read_as_json_or_as_python_writes_them(metadata, names, tmp_path):
    file = read_onnx(saved(tmp_path, metadata=metadata), StatedPreprocessing((8, 8)))
    assert file.class_names == names


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        (("N", 8, 8, 1), TensorProto.FLOAT, "export it for images of three colours"),
        (("N", 3, 8, 8), TensorProto.DOUBLE, "takes DOUBLE; .* put a Cast before it"),
        (("N", 3, 4, 8), TensorProto.FLOAT, "state --input-size 4,8"),
    ],
)
def test_an_input_of_another_kind_is_refused_with_a_remedy(shape, kind, message, tmp_path):
    path = saved(
        tmp_path, helper.make_node("Cast", ["pooled"], ["out"], to=1), shape=shape, kind=kind
    )
    with pytest.raises(ExportRefused, match=message):
        read_onnx(path, StatedPreprocessing((8, 8)))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "c.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportRefused, match="is no ONNX model"):
        read_onnx(tmp_path / "c.onnx", StatedPreprocessing((8, 8)))


def with_two_outputs(path):
    """The classifier, whose mean of each colour is an output too."""
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["N", 3]))
    model.graph.node.append(helper.make_node("ArgMax", ["pooled"], ["best"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, ["N", 1]))
    onnx.save(model, path)
    return path


def test_one_of_several_outputs_is_chosen_by_name_and_the_others_are_left_out(tmp_path):
    path = with_two_outputs(saved(tmp_path))
    file = read_onnx(path, interface=OnnxInterface(logits_output="pooled"))
    assert file.logits == OWN + "pooled"
    assert [node.op_type for node in file.model.graph.node] == ["ReduceMean"]


def test_several_outputs_are_listed_for_a_choice(tmp_path):
    path = with_two_outputs(saved(tmp_path))
    with pytest.raises(ExportRefused, match=r"'out' \(N, 3\), 'pooled' \(N, 3\).*--logits-output"):
        read_onnx(path)
    with pytest.raises(ExportRefused, match=r"no output 'scores'; it answers \['out', 'pooled'"):
        read_onnx(path, interface=OnnxInterface(logits_output="scores"))


def test_a_tensor_before_a_sigmoid_can_be_chosen(tmp_path):
    tail = [
        helper.make_node("Neg", ["pooled"], ["scores"]),
        helper.make_node("Sigmoid", ["scores"], ["out"]),
    ]
    path = saved(tmp_path, *tail)
    file = read_onnx(path, interface=OnnxInterface(logits_output="scores"))
    assert file.logits == OWN + "scores"
    with pytest.raises(ExportRefused, match=r"no output 'score'; .* and computes scores"):
        read_onnx(path, interface=OnnxInterface(logits_output="score"))

"""ONNX files without a classifier: what shows it, and ends of classifiers that pass."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.embeddings import require_classifier
from textcam_service.offline.export.from_onnx.export import plan_onnx
from textcam_service.offline.export.from_onnx.nodes import run_model
from textcam_service.offline.export.from_onnx.reading import read_onnx
from textcam_service.offline.networks.network import StatedPreprocessing

RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(3, 3, 8, 8)).astype(np.float32)
WEIGHTS = {
    "kernel": RNG.normal(size=(4, 3, 2, 2)),
    "cells": RNG.normal(size=(4, 4, 1, 1)),
    "dense": RNG.normal(size=(4, 4)),
    "ones": np.ones(4),
    "zeros": np.zeros(4),
}
node = helper.make_node
POOLED = [node("GlobalAveragePool", ["maps"], ["mean"]), node("Flatten", ["mean"], ["row"])]
LENGTH = [node("ReduceL2", ["row"], ["length"], axes=[1]), node("Div", ["row", "length"], ["unit"])]
CLASSIFIERS = {
    "dense": [*POOLED, node("MatMul", ["row", "dense"], ["out"])],
    "mean of two": [
        *POOLED,
        node("MatMul", ["row", "dense"], ["one"]),
        node("Neg", ["one"], ["two"]),
        node("Max", ["one", "two"], ["out"]),
    ],
    "cosines": [*POOLED, *LENGTH, node("MatMul", ["unit", "dense"], ["out"])],
    "convolution": [
        node("Conv", ["maps", "cells"], ["scores"]),
        node("Relu", ["scores"], ["positive"]),
        node("GlobalAveragePool", ["positive"], ["pooled"]),
        node("Flatten", ["pooled"], ["out"]),
    ],
}
EMBEDDINGS = {
    "length": [*POOLED, *LENGTH, node("Identity", ["unit"], ["out"])],
    "layer norm": [*POOLED, node("LayerNormalization", ["row", "ones", "zeros"], ["out"])],
    "batch norm": [
        *POOLED,
        node("BatchNormalization", ["row", "ones", "zeros", "zeros", "ones"], ["out"]),
    ],
    "norm in parts": [
        *POOLED,
        node("ReduceMean", ["row"], ["middle"], axes=[1]),
        node("Sub", ["row", "middle"], ["centred"]),
        node("Mul", ["centred", "centred"], ["squares"]),
        node("ReduceMean", ["squares"], ["variance"], axes=[1]),
        node("Sqrt", ["variance"], ["deviation"]),
        node("Div", ["centred", "deviation"], ["out"]),
    ],
    "residual": [
        node("Relu", ["maps"], ["before"]),
        node("Conv", ["before", "cells"], ["change"]),
        node("Add", ["before", "change"], ["after"]),
        node("GlobalAveragePool", ["after"], ["pooled"]),
        node("Flatten", ["pooled"], ["out"]),
    ],
    "activation": [
        node("HardSwish", ["maps"], ["after"]),
        node("GlobalAveragePool", ["after"], ["pooled"]),
        node("Flatten", ["pooled"], ["out"]),
    ],
}


def saved(folder, tail):
    declare = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("Conv", ["image", "kernel"], ["maps"], strides=[2, 2]), *tail],
        "network",
        [declare("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [declare("out", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in WEIGHTS.items()],
    )
    opset = helper.make_opsetid("", 17)
    path = folder / "own.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def judged(path):
    file = read_onnx(path, StatedPreprocessing((8, 8)))
    (logits,) = run_model(file.model, path, {file.image: PIXELS}).values()
    require_classifier(file, logits)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_pass(name, tmp_path):
    judged(saved(tmp_path, CLASSIFIERS[name]))


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_are_refused_with_the_remedy(name, tmp_path):
    said = "output of 4 numbers (has length 1|comes from no linear layer), .* its last, linear"
    with pytest.raises(ExportRefused, match=said):
        judged(saved(tmp_path, EMBEDDINGS[name]))


def test_an_embedding_is_exported_only_if_its_numbers_have_names_or_a_softmax_follows(tmp_path):
    size = StatedPreprocessing((8, 8), 8, "bilinear", (0.5,) * 3, (0.25,) * 3)
    path = saved(tmp_path, EMBEDDINGS["residual"])
    with pytest.raises(ExportRefused, match="name them by --classes FILE"):
        plan_onnx(path, preprocessing=size)
    assert plan_onnx(path, preprocessing=size, class_names=tuple("abcd")).class_names[3] == "d"
    *most, last = EMBEDDINGS["residual"]
    tail = [*most, node("Flatten", last.input, ["row"]), node("Softmax", ["row"], ["out"])]
    assert plan_onnx(saved(tmp_path, tail), preprocessing=size).class_names[3] == "class 3"

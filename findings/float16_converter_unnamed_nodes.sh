#!/usr/bin/env bash
# onnxconverter-common 1.16.0, onnx 1.19.1, numpy 2.2.6
#
# One would guess: convert_float_to_float16 turns any valid model into a valid one. ONNX leaves it open
# whether a node has a name, and a model whose nodes have none passes the checker.
# Seen: the converter names the values of the Cast nodes that it puts behind a blocked operator after
# that operator's node. Two blocked nodes without a name get values of the same name, so the graph is
# no longer in static single assignment form, and the checker refuses it. Names that
# differ (of the nodes alone) mend it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/convert.py" <<'PY'
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnxconverter_common.float16 import convert_float_to_float16


def model(names):
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name=names[0]),
        helper.make_node("Resize", ["a", "", "scales"], ["b"], name=names[1], mode="nearest"),
        helper.make_node("Relu", ["b"], ["y"], name=names[2]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 4])
    graph = helper.make_graph(nodes, "resize", [x], [y], [scales])
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(made)
    return shape_inference.infer_shapes(made)


def verdict(names):
    converted = convert_float_to_float16(model(names), op_block_list=["Relu"])
    try:
        onnx.checker.check_model(converted)
    except onnx.checker.ValidationError as error:
        return f"refused, for two values of one name: {'SSA' in str(error)}"
    return "valid"


print("with names:", verdict(["first", "second", "third"]))
print("without:", verdict(["", "", ""]))
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    "onnxconverter-common==1.16.0" "onnx==1.19.1" "numpy==2.2.6" 2>/dev/null
seen=$("$work/env/bin/python" "$work/convert.py" 2>/dev/null)
echo "$seen"
[[ $seen == $'with names: valid\nwithout: refused, for two values of one name: True' ]]

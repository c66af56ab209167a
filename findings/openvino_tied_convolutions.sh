#!/usr/bin/env bash
# openvino 2026.4.1, onnxruntime 1.23.2, onnx 1.19.1, numpy 2.2.6
#
# One would guess: a Conv and a ConvTranspose that share an initializer, as a convolution and its
# gradient do, compute the same as with two equal initializers.
# Seen: on the CPU, where input and output channels are as many, the ConvTranspose is wrong by more than its own
# size. With a copy of the weights under another name it is right, and so it is with 8 and 16 channels.
# OpenVINO seems to pack the weights once for both, though one of the two needs them transposed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/tied.py" <<'PY'
import numpy as np
import onnxruntime as ort
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)


def verdict(names, wide):
    weights = rng.normal(size=(wide, 8, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", names[0]], ["seen"], pads=[1] * 4),
        helper.make_node("ConvTranspose", ["seen", names[1]], ["y"], pads=[1] * 4),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8, 8, 8]) for n in "xy")
    held = [numpy_helper.from_array(weights, name) for name in dict.fromkeys(names)]
    graph = helper.make_graph(nodes, "tied", [x], [y], held)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    image = rng.normal(size=(1, 8, 8, 8)).astype(np.float32)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": image})
    core = ov.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(model), "CPU", exact)(image)[0]
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    return "as onnxruntime" if difference < 1e-4 else f"wrong by half or more: {difference > 0.5}"


print("shared, 8 to 8:", verdict(("w", "w"), 8))
print("copied, 8 to 8:", verdict(("w", "copy"), 8))
print("shared, 8 to 16:", verdict(("w", "w"), 16))
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    "openvino==2026.4.1" "onnxruntime==1.23.2" "onnx==1.19.1" "numpy==2.2.6" 2>/dev/null
seen=$("$work/env/bin/python" "$work/tied.py" 2>/dev/null)
echo "$seen"
[[ $seen == $'shared, 8 to 8: wrong by half or more: True\ncopied, 8 to 8: as onnxruntime\nshared, 8 to 16: as onnxruntime' ]]

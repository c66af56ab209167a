#!/usr/bin/env bash
# onnx 1.23.2, onnxruntime 1.23.2 and 1.32.0
#
# One would guess: onnx and onnxruntime of the same version number go together, and a file of one
# Relu that onnx's helper makes loads anywhere.
# Seen: the two number their releases apart from each other. onnx 1.23.2 writes IR version 14 unless
# told otherwise, which onnxruntime 1.23.2 refuses, whatever the operators are; 1.32.0 takes it. A file
# for others needs helper.make_model(..., ir_version=...), and opset_imports of its own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/make.py" <<'PY'
import sys

from onnx import TensorProto, helper

value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", value[:1], value[1:])
opset = [helper.make_opsetid("", 17)]
for path, keys in ((sys.argv[1], {}), (sys.argv[2], {"ir_version": 8})):
    model = helper.make_model(graph, opset_imports=opset, **keys)
    print("IR", model.ir_version)
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
PY
cat >"$work/load.py" <<'PY'
import sys

import onnxruntime

for path in sys.argv[1:]:
    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        print("loads")
    except Exception as error:
        print("refused, IR named:", "IR version" in str(error))
PY
python3 -m venv "$work/onnx"
"$work/onnx/bin/pip" install --quiet --disable-pip-version-check "onnx==1.23.2" 2>/dev/null
"$work/onnx/bin/python" "$work/make.py" "$work/default.onnx" "$work/old.onnx"
loaded() { # VERSION
    python3 -m venv "$work/$1"
    "$work/$1/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==$1" 2>/dev/null
    "$work/$1/bin/python" "$work/load.py" "$work/default.onnx" "$work/old.onnx"
}
older=$(loaded 1.23.2)
newer=$(loaded 1.32.0)
echo "onnxruntime 1.23.2: ${older//$'\n'/; }"
echo "onnxruntime 1.32.0: ${newer//$'\n'/; }"
[[ $older == $'refused, IR named: True\nloads' ]]
[[ $newer == $'loads\nloads' ]]

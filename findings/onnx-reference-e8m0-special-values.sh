#!/usr/bin/env bash
# ONNX's reference evaluator breaks the E8M0 table of its own operator, and moves an exact power of two.
#
# Expected: ONNX operator Cast (opset 25), table for FLOAT8E8M0. saturate + up: Inf -> E8M0_MAX (byte 254),
#   x < E8M0_MIN -> E8M0_MIN (byte 0). non-saturate + nearest: 0 -> NaN, x < E8M0_MIN -> NaN. And no rounding
#   mode may change 2^-127, which is a value of the format (byte 0; OCP MX v1.0, E8M0).
# Happens:  the reference (onnx.reference, the same code as onnx.numpy_helper.to_float8e8m0) gives byte 255
#   for Inf, byte 1 for 2^-128 and, under "up" (the default mode), byte 1 for 2^-127: the value doubles.
#   Non-saturating it gives byte 0 for 0. helper.make_tensor with the value 2^-127 stores byte 1 as well.
#   ONNX Runtime follows the table in all of these places: the two disagree on valid models.
# Versions: onnx 1.23.2, onnxruntime 1.32.0. Seen 2026-11-28.
# Who minds: whoever checks an E8M0 encoder against the "reference", or writes MX scales as ONNX
#   initializers: an all-tiny block gets twice its scale.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from onnx.reference import ReferenceEvaluator

x = np.array([np.inf, 0, 2.0**-127, 2.0**-128, 2.0**-126, 1.0], np.float32)
def model(mode, sat):
    nodes = [h.make_node("Cast", ["x"], ["q"], to=T.FLOAT8E8M0, saturate=sat, round_mode=mode), h.make_node("Cast", ["q"], ["y"], to=T.FLOAT)]
    g = h.make_graph(nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, [6])], [h.make_tensor_value_info("y", T.FLOAT, [6])])
    m = h.make_model(g, opset_imports=[h.make_opsetid("", 25)], ir_version=11)
    onnx.checker.check_model(m)
    return m
def byte(v):
    return [255 if np.isnan(t) else int(np.log2(np.float64(t))) + 127 for t in v]
def both(mode, sat):
    m = model(mode, sat)
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    s = ort.InferenceSession(m.SerializeToString(), o, providers=["CPUExecutionProvider"])
    return byte(ReferenceEvaluator(m).run(None, {"x": x})[0]), byte(s.run(None, {"x": x})[0])

print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
print("  input                      inf, 0, 2^-127, 2^-128, 2^-126, 1")
up_ref, up_ort = both("up", 1)
print("  saturate, up       : table 254, 0, 0, 0, 1, 127")
print("                   reference", up_ref, " runtime", up_ort)
ne_ref, ne_ort = both("nearest", 0)
print("  no saturate, nearest: table 255, 255, 0, 255, 1, 127")
print("                   reference", ne_ref, " runtime", ne_ort)
t = nh.to_array(h.make_tensor("s", T.FLOAT8E8M0, [2], [2.0**-127, 1.0])).view(np.uint8).tolist()
print("  make_tensor([2^-127, 1]) stores", t)
assert up_ort == [254, 0, 0, 0, 1, 127] and ne_ort == [255, 255, 0, 255, 1, 127]
assert up_ref == [255, 0, 1, 1, 1, 127]
assert ne_ref == [255, 0, 0, 0, 1, 127]
assert t == [1, 127]
PY

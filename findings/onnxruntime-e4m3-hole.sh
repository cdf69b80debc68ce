#!/usr/bin/env bash
# ONNX Runtime's non-saturating cast to FP8 has a hole just above the largest value.
#
# Expected: ONNX operator Cast (opset 25), second table: with saturate=0 anything whose rounded value is
#   beyond FLT_MAX becomes NaN for FLOAT8E4M3FN and +-Inf for FLOAT8E5M2.
# Happens:  FLOAT8E4M3FN: 464 rounds to 448 (a tie, right), 465 to 479 give NaN (right), but 480 up to
#   just below 496 give 448 again; from 496 on NaN. So the cast is not even monotone: a larger input is
#   "in range" where a smaller one was not. FLOAT8E5M2: 61440 to just below 65536 give NaN, while
#   everything above gives Inf. ONNX's own reference evaluator has neither hole.
# Versions: onnxruntime 1.32.0 (CPU provider), onnx 1.23.2. Seen 2026-11-28.
# Who minds: somebody who uses the NaN of a non-saturating cast as overflow detector when making
#   MXFP8/FP8 weights: one sixteenth of a binade of overflows passes as the finite 448.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto as T, helper as h
from onnx.reference import ReferenceEvaluator

def model(to, n):
    nodes = [h.make_node("Cast", ["x"], ["q"], to=to, saturate=0), h.make_node("Cast", ["q"], ["y"], to=T.FLOAT)]
    g = h.make_graph(nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, [n])], [h.make_tensor_value_info("y", T.FLOAT, [n])])
    return h.make_model(g, opset_imports=[h.make_opsetid("", 25)], ir_version=11)

def both(to, values):
    x = np.array(values, np.float32)
    m = model(to, len(x))
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    s = ort.InferenceSession(m.SerializeToString(), o, providers=["CPUExecutionProvider"])
    return s.run(None, {"x": x})[0], ReferenceEvaluator(m).run(None, {"x": x})[0]

print("onnxruntime", ort.__version__, "onnx", onnx.__version__)
v4 = [464, 465, 479, 480, 488, 495, 496, 512, 1e9, -480]
a, r = both(T.FLOAT8E4M3FN, v4)
for x, p, q in zip(v4, a, r): print(f"  e4m3fn saturate=0  {x:>8} -> runtime {p}, reference {q}")
v5 = [61439, 61440, 65535, 65536, 1e9, -61440]
b, s = both(T.FLOAT8E5M2, v5)
for x, p, q in zip(v5, b, s): print(f"  e5m2   saturate=0  {x:>8} -> runtime {p}, reference {q}")
nan, inf = np.nan, np.inf
assert np.array_equal(r, [448] + [nan] * 9, equal_nan=True)
assert np.array_equal(a, [448, nan, nan, 448, 448, 448, nan, nan, nan, -448], equal_nan=True)
assert np.array_equal(s, [57344, inf, inf, inf, inf, -inf], equal_nan=True)
assert np.array_equal(b, [57344, nan, nan, inf, inf, nan], equal_nan=True)
PY

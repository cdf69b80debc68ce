#!/usr/bin/env bash
# OpenVINO reads the E8M0 byte 0 as 2^-127 in one place and as 0 in another.
#
# Expected: OCP MX v1.0, E8M0: byte 0 is 2^-127 and the format has no zero. (2^-127 is a float32 subnormal.)
# Happens:  Constant.get_data(dtype=float32) gives 2^-127 for byte 0. The same Constant through Convert in a model
#   compiled for CPU gives 0.0. The same float32 input through Convert(f8e8m0) and Convert(f32) gives 2^-127
#   when it comes as a Parameter and 0.0 when it is a Constant that the compiler may fold: whether a number is
#   zero depends on whether it was known early.
# Versions: openvino 2026.4.1 (CPU plugin). Seen 2026-11-28.
# Who minds: who compares an MX model's constants with its results. A block with scale byte 0 (an all-tiny or
#   an all-zero block) is exactly 0 after folding; dividing by that scale or taking its log2 gives Inf.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
"$tmp/v/bin/python" - <<'PY'
import numpy as np, openvino as ov
from openvino import opset13 as op

def run(node, params=(), feed=()):
    return ov.Core().compile_model(ov.Model([node], list(params)), "CPU")(list(feed))[0].tolist()
print("openvino", ov.__version__)
raw = np.array([0, 1, 127, 255], np.uint8)
c = op.constant(ov.Tensor(raw, ov.Shape([4]), ov.Type.f8e8m0))
direct = c.get_data(dtype=np.float32).tolist()
compiled = run(op.convert(c, "f32"))
print("  bytes 0, 1, 127, 255: get_data  ", direct)
print("                        compiled  ", compiled)
x = np.array([2.0**-127, 2.0**-126, 1.0], np.float32)
p = op.parameter([3], np.float32)
as_parameter = run(op.convert(op.convert(p, "f8e8m0"), "f32"), [p], [x])
as_constant = run(op.convert(op.convert(op.constant(x), "f8e8m0"), "f32"))
print("  2^-127, 2^-126, 1 through f8e8m0: as Parameter", as_parameter)
print("                                    as Constant ", as_constant)
assert direct[:3] == [2.0**-127, 2.0**-126, 1.0] and np.isnan(direct[3])
assert compiled[:3] == [0.0, 2.0**-126, 1.0] and np.isnan(compiled[3])
assert as_parameter == [2.0**-127, 2.0**-126, 1.0]
assert as_constant == [0.0, 2.0**-126, 1.0]
PY

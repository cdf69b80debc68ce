#!/usr/bin/env bash
# "Round to nearest" into E8M0: 3.0 is 2 in two libraries and 4 in two others.
#
# Expected: one answer. 3.0 lies midway between the neighbours 2 and 4. OCP MX v1.0 defines E8M0 and leaves
#   the conversion open; ONNX Cast (opset 25) says of "nearest": ties round up. IEEE style roundTiesToEven
#   on an encoding without mantissa bits has two readings: the implicit leading 1 is the odd bit (every tie
#   goes up), or the exponent field is the number (every second tie goes down).
# Happens:  1.5 gives byte 128 (2.0) everywhere. 3.0 gives byte 129 (4.0) in ml_dtypes and ONNX, byte 128
#   (2.0) in OpenVINO's Convert and in gfloat's TiesToEven. 0.75*2^-126, a tie too, is 2^-126 in ml_dtypes and
#   ONNX, 2^-127 in the others. So half of all ties differ by a factor of two.
# Versions: ml_dtypes 0.6.0, onnx 1.23.2, openvino 2026.4.1, gfloat 0.5.2. Seen 2026-11-28.
# Who minds: anybody who makes MX scales by casting a float (amax 18 gives amax/6 = 3):
#   the same weights get scale bytes that differ by one, and no file says which rule was used.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q gfloat==0.5.2 openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes, onnx, openvino as ov, gfloat
from openvino import opset13 as op
from importlib.metadata import version
from gfloat.formats import format_info_ocp_e8m0 as E8

x = np.array([1.5, 3.0, 6.0, 12.0, 0.75 * 2.0**-126], np.float32)
res = {}
res["ml_dtypes " + ml_dtypes.__version__] = x.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8).tolist()
res["onnx nearest " + onnx.__version__] = onnx.numpy_helper.to_float8e8m0(x, round_mode="nearest").view(np.uint8).tolist()
res["openvino " + version("openvino")] = op.constant(x, dtype=ov.Type.f8e8m0).get_data().tolist()
res["gfloat TiesToEven " + version("gfloat")] = [gfloat.encode_float(E8, gfloat.round_float(E8, float(v), gfloat.RoundMode.TiesToEven)) for v in x]
print("  input", x.tolist())
for k, v in res.items(): print(f"  {k:28} bytes {v}")
a, b, c, d = res.values()
assert a == b == [128, 129, 130, 131, 1]
assert c == d == [128, 128, 130, 130, 0]
# the same through a compiled graph, not only through the constant's constructor
p = op.parameter([5], np.float32)
m = ov.Core().compile_model(ov.Model([op.convert(op.convert(p, "f8e8m0"), "f32")], [p]), "CPU")
y = m(x)[0][:4].tolist()
print("  openvino compiled graph ", y)
assert y == [2.0, 2.0, 8.0, 8.0]
PY

#!/usr/bin/env bash
# What NaN becomes as E2M1: +6, -0, +0 or an error, and the answer changes when JAX compiles.
#
# Expected: OCP MX v1.0: E2M1 has no NaN, what a conversion makes of it is implementation defined. Still one
#   would expect one library to answer alike each time, and a NaN not to turn into the largest weight.
# Happens:  OpenVINO's Convert gives +6 for NaN and -6 for a NaN with the sign bit. ml_dtypes gives code 8 (-0) for
#   NaN and code 0 for a NaN with the sign bit (the sign is turned round). jax.jit gives code 8 for both, so
#   the bytes differ between x.astype in NumPy and inside jit although JAX's type is the one of ml_dtypes.
#   gfloat raises ValueError.
# Versions: openvino 2026.4.1, ml_dtypes 0.6.0, jax 0.10.2, gfloat 0.5.2. Seen 2026-11-28.
# Who minds: who quantises a checkpoint with one NaN in it: nothing later can tell, and in one library the
#   bad weight comes back as the largest one. A quantiser has to look for NaN before the cast.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q openvino==2026.4.1 gfloat==0.5.2 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes, openvino as ov, jax, gfloat, gfloat.formats
from importlib.metadata import version
from openvino import opset13 as op

x = np.array([0x7FC00000, 0xFFC00000], np.uint32).view(np.float32)   # NaN, NaN with sign bit
f4 = ml_dtypes.float4_e2m1fn
p = op.parameter([2], np.float32)
o = ov.Core().compile_model(ov.Model([op.convert(op.convert(p, "f4e2m1"), "f32")], [p]), "CPU")(x)[0].tolist()
n = x.astype(f4).view(np.uint8).tolist()
j = np.asarray(jax.jit(lambda v: v.astype(f4))(x)).view(np.uint8).tolist()
try:
    gfloat.round_float(gfloat.formats.format_info_ocp_e2m1, float("nan"), sat=True); g = "a value"
except ValueError as e:
    g = "ValueError"
print("  [NaN, NaN with sign] as E2M1")
print("  openvino ", version("openvino"), "values", o)
print("  ml_dtypes", version("ml_dtypes"), "codes", n)
print("  jax.jit  ", version("jax"), "codes", j)
print("  gfloat   ", version("gfloat"), g)
assert o == [6.0, -6.0] and n == [8, 0] and j == [8, 8] and g == "ValueError"
PY

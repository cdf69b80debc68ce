#!/usr/bin/env bash
# MLX dequantises an MXFP4 zero to NaN when float16 is asked for and the scale is 2^16 or more.
#
# Expected: OCP MX v1.0: value = scale * element; element 0 is 0 under every finite scale, and 0.5 * 2^16 = 32768
#   is a float16 number. What is too small or too large rounds once, at the end.
# Happens:  mx.dequantize(..., mode="mxfp4", dtype=float16) makes the scale a float16 first. From byte 143 (2^16) on
#   the scale is Inf: code 0 gives Inf*0 = NaN and code 1 gives Inf instead of 32768. At the other end byte 102
#   (2^-25) becomes 0: all 16 codes give 0, although 6 * 2^-25 is a float16 number (a subnormal).
#   With dtype=float32 and a later astype(float16) all of these are right.
# Versions: mlx 0.32.4 (CPU). Seen 2026-11-28.
# Who minds: who loads MXFP4 weights for float16 inference: a block that is mostly zeros and holds one large
#   weight becomes NaN in the zeros.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q 'mlx[cpu]==0.32.4' mlx-cpu==0.32.4 numpy==2.4.6
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, mlx.core as mx
from importlib.metadata import version

def dq(byte, dtype):
    w = mx.array(np.array([[0x76543210, 0, 0, 0]], np.uint32))           # codes 0..7, then zeros
    s = mx.array(np.array([[byte]], np.uint8))
    return np.array(mx.dequantize(w, s, mode="mxfp4", dtype=dtype).astype(mx.float16))[0, :8]
print("mlx", version("mlx"), " codes 0 to 7")
for b in (142, 143, 144, 103, 102):
    print(f"  byte {b}: float16 {dq(b, mx.float16).tolist()}")
    print(f"            float32, then float16 {dq(b, mx.float32).tolist()}")
assert (dq(142, mx.float16) == dq(142, mx.float32)).all()
assert np.isnan(dq(143, mx.float16)[0]) and np.isinf(dq(143, mx.float16)[1:]).all()
assert dq(143, mx.float32)[:2].tolist() == [0, 32768]
assert np.isnan(dq(144, mx.float16)[0]) and dq(144, mx.float32)[0] == 0
assert not dq(102, mx.float16).any() and dq(102, mx.float32)[7] == np.float16(6 * 2.0**-25) != 0
PY

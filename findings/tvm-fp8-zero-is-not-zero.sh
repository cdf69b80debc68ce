#!/usr/bin/env bash
# TVM reads the FP8 byte 0 as 0.0078125 and writes NaN as 1.5.
#
# Expected: OCP OFP8 v1.0: E4M3 and E5M2 have a zero (byte 0), subnormals and NaN; OCP MX v1.0: E8M0 byte 255 is NaN, byte 0 2^-127.
# Happens:  a compiled cast (target llvm) treats the types as if the exponent field 0 were an ordinary one: float8_e4m3fn byte 0 is
#   2^-7, bytes 1 to 7 lie just above it, byte 127 is 480 instead of NaN. In float8_e5m2 byte 0 is 2^-15, Inf is 65536 and the
#   NaNs are larger numbers. float8_e8m0fnu byte 255 is Inf, byte 0 is 0. The other way the usual NaN becomes 1.5 in
#   E4M3 and E5M2 and byte 0 in E8M0, 1e9 becomes 0.234 and Inf 1.0 in E4M3, and 2^-9 (a subnormal) becomes 0. Normal values (E4M3 1, 1.5, 448) are right both ways, so a test on such values
#   passes, and 0 written and read again is 2^-7. bfloat16 is right.
# Versions: apache-tvm 0.27.0.post1 (target llvm), ml_dtypes 0.6.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who runs FP8 weights or MXFP8 blocks through TVM: every zero weight is 0.0078 (times the scale).
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q apache-tvm==0.27.0.post1 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes, tvm
from tvm import te
from importlib.metadata import version

def cast(x, src, dst):
    a = te.placeholder((len(x),), dtype=src, name="a")
    b = te.compute((len(x),), lambda i: a[i].astype(dst), name="b")
    lib = tvm.compile(te.create_prim_func([a, b]), target="llvm")
    out = tvm.runtime.empty((len(x),), dst)
    lib(tvm.runtime.tensor(x), out)
    return out.numpy()
def read(name, *raw):
    return cast(np.array(raw, np.uint8).view(getattr(ml_dtypes, name)), name, "float32").tolist()
def write(name, *v):
    return cast(np.array(v, np.float32), "float32", name).view(np.uint8).tolist()
nan = float("nan")
print("apache-tvm", version("apache-tvm"))
e4, e5, e8 = read("float8_e4m3fn", 0, 1, 0x38, 0x7E, 0x7F), read("float8_e5m2", 0, 1, 0x3C, 0x7C, 0x7D), read("float8_e8m0fnu", 0, 127, 255)
print("  bytes 0, 1, 0x38, 0x7e, 0x7f as e4m3fn:", e4)
print("  bytes 0, 1, 0x3c, 0x7c, 0x7d as e5m2:  ", e5)
print("  bytes 0, 127, 255 as e8m0fnu:          ", e8)
w4, w5, w8 = write("float8_e4m3fn", 0, 1, 448, 2.0**-9, nan, 1e9, float("inf")), write("float8_e5m2", 0, 1, 2.0**-16, nan), write("float8_e8m0fnu", 1, nan)
print("  0, 1, 448, 2^-9, NaN, 1e9, Inf to e4m3fn:", w4, " 0, 1, 2^-16, NaN to e5m2:", w5, " 1, NaN to e8m0fnu:", w8)
assert e4 == [2.0**-7, 1.125 * 2.0**-7, 1, 448, 480]
assert e5 == [2.0**-15, 1.25 * 2.0**-15, 1, 65536, 81920]
assert e8 == [0, 1, float("inf")]
assert w4 == [0, 0x38, 0x7E, 0, 0x3C, 39, 0x38]
assert w5[:2] == [0, 0x3C] and w5[3] == 0x3E
assert w8 == [127, 0]
x = np.array([0, 1, 0.3, nan, np.inf], np.float32)
assert np.array_equal(cast(x, "float32", "bfloat16").astype(np.float32), x.astype(ml_dtypes.bfloat16).astype(np.float32), equal_nan=True)
PY

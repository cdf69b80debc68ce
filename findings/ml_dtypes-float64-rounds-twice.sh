#!/usr/bin/env bash
# ml_dtypes rounds a float64 twice on its way to E2M1, E8M0 and the FP8 types; jax.jit rounds once.
#
# Expected: roundTiesToEven of the input (OCP MX v1.0 for E2M1; numpy's casts round once). 0.25 + 2^-40 is above the
#   midpoint, so the nearest E2M1 value is 0.5.
# Happens:  ndarray.astype goes through float32 first. There 0.25 + 2^-40 becomes exactly 0.25, the tie then goes
#   to even: 0. All seven midpoints of E2M1 do so (wrong code on one side). 1.5 - 2^-40 as E8M0 is 2 instead of 1: a
#   factor of two. jax.jit with 64 bits enabled gives the right answer, so the same astype, of the same type, differs
#   between NumPy and JAX.
# Versions: ml_dtypes 0.6.0, jax 0.10.2. Seen 2026-11-28.
# Who minds: who makes golden vectors for an MXFP4 encoder with NumPy's default float64: values just beside a midpoint
#   come out as ties. Make the vectors in float32.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes, jax
jax.config.update("jax_enable_x64", True)

d = 2.0**-40
f4, e8, e4 = ml_dtypes.float4_e2m1fn, ml_dtypes.float8_e8m0fnu, ml_dtypes.float8_e4m3fn
def both(x, dt):
    x = np.array(x, np.float64)
    return x.astype(dt).astype(np.float32).tolist(), np.asarray(jax.jit(lambda v: v.astype(dt))(x)).astype(np.float32).tolist()
x4 = [0.25 + d, 0.75 - d, 1.25 + d, 1.75 - d, 2.5 + d, 3.5 - d, 5 + d]
n4, j4 = both(x4, f4)
n8, j8 = both([1.5 - d, 3 - d], e8)
nf, jf = both([1.0625 + d, 1.1875 - d], e4)
print("ml_dtypes", ml_dtypes.__version__, "jax", jax.__version__)
print("  seven midpoints of E2M1, 2^-40 beside: numpy", n4, " jit", j4)
print("  1.5-2^-40, 3-2^-40 as E8M0:            numpy", n8, " jit", j8)
print("  1.0625+2^-40, 1.1875-2^-40 as E4M3:    numpy", nf, " jit", jf)
assert n4 == [0, 1, 1, 2, 2, 4, 4] and j4 == [0.5, 0.5, 1.5, 1.5, 3, 3, 6]
assert n8 == [2, 4] and j8 == [1, 2]
assert nf == [1.0, 1.25] and jf == [1.125, 1.125]
PY

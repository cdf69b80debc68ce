#!/usr/bin/env bash
# For float4 arrays np.dot gives 6 and the @ operator gives 64; the mean of a hundred ones is 0.
#
# Expected: numpy.dot: for two 2-D arrays it is the matrix product, the same as matmul and @.
# Happens:  np.dot of float4_e2m1fn ones, 64 long, returns float4 and stops at 6, the largest value; @ returns float32
#   and 64. np.mean of a hundred float4 ones is 0: the sum stalls at 4 (4 + 1 is a tie, to even, 4) and 4 / 100 rounds
#   to 0. So a reduction that looks exact is off by the whole value, not by some ulps.
# Versions: ml_dtypes 0.6.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who checks decoded MXFP4 weights by a sum, a mean or a product in NumPy before widening them.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes

f4 = ml_dtypes.float4_e2m1fn
a, b = np.ones((2, 64), f4), np.ones((64, 2), f4)
d, m = np.dot(a, b), a @ b
mean, total = np.ones(100, f4).mean(), np.ones(100, f4).sum()
print("ml_dtypes", ml_dtypes.__version__, "numpy", np.__version__)
print("  np.dot ", d.dtype, d[0, 0], "   a @ b ", m.dtype, m[0, 0])
print("  of 100 ones: sum", total, "mean", mean)
assert d.dtype == f4 and float(d[0, 0]) == 6
assert m.dtype == np.float32 and m[0, 0] == 64
assert float(total) == 4 and float(mean) == 0
PY

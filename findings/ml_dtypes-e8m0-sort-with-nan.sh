#!/usr/bin/env bash
# np.sort leaves E8M0 scales unsorted as soon as one of them is NaN.
#
# Expected: numpy.sort: NaNs are sorted to the end, the numbers before them in order. jnp.sort of the same array does it.
# Happens:  np.sort of [4, NaN, 2] (bytes 129, 255, 128) returns it unchanged: 4, NaN, 2. np.unique of
#   [NaN, 1, NaN, 1] returns all four in that order, 1 twice. The comparison says "not
#   smaller" both ways for NaN, and the sort takes it for equal. float32 and float16 are right.
# Versions: ml_dtypes 0.6.0, numpy 2.4.6, jax 0.10.2. Seen 2026-11-28.
# Who minds: who takes the smallest or largest scale of a checkpoint from a sorted array: with one NaN byte
#   in it the ends are wrong without a warning. Sort the uint8 view, where 255 is last by itself.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes, jax, jax.numpy as jnp

e8 = ml_dtypes.float8_e8m0fnu
b = lambda a: np.asarray(a).view(np.uint8).tolist()
s = np.array([4, np.nan, 2]).astype(e8)
u = np.array([np.nan, 1, np.nan, 1]).astype(e8)
print("ml_dtypes", ml_dtypes.__version__, "numpy", np.__version__, "jax", jax.__version__)
print("  bytes", b(s), " np.sort", b(np.sort(s)), " jnp.sort", b(jnp.sort(jnp.array(s))))
print("  bytes", b(u), " np.unique", b(np.unique(u)))
assert b(np.sort(s)) == [129, 255, 128]
assert b(jnp.sort(jnp.array(s))) == [128, 129, 255]
assert b(np.unique(u)) == [255, 127, 255, 127]
assert np.sort(s.astype(np.float32))[:2].tolist() == [2, 4]
PY

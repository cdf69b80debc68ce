#!/usr/bin/env bash
# The largest of some MX scales is NaN in JAX, the position of the largest is always 0.
#
# Expected: jax.numpy.max / min / argmax: as numpy.max, numpy.min and numpy.argmax, which give 4, 1 and 1 for the E8M0
#   array [1, 4, 2] of the same type (ml_dtypes.float8_e8m0fnu).
# Happens:  jnp.max, jnp.min, lax.cummax and lax.reduce_window with max give NaN for every E8M0 array; jnp.argmax and
#   jnp.argmin give 0 wherever the extreme lies. The reduction starts from +-infinity, which this type cannot hold:
#   it turns into NaN and swallows all that follows. jnp.sort and lax.top_k are right. No other 8-bit float is
#   hit (float8_e4m3fn has no infinity either, and works).
# Versions: jax 0.10.2, jaxlib 0.10.2 (CPU). Seen 2026-11-28.
# Who minds: who looks at the range of a checkpoint's scales (is one of them NaN?), or picks the block with the
#   largest scale: it looks as if every tensor were damaged. Reduce over the uint8 view.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, jax, jax.numpy as jnp
from jax import lax

def all_of(dt):
    n, j = np.array([1, 4, 2]).astype(dt), jnp.array([1, 4, 2], dt)
    return {
        "numpy max/min/argmax": [float(n.max()), float(n.min()), int(n.argmax())],
        "jax max/min": [float(jnp.max(j)), float(jnp.min(j))],
        "jax argmax/argmin": [int(jnp.argmax(j)), int(jnp.argmin(j))],
        "jax cummax": np.asarray(lax.cummax(j)).astype(np.float32).tolist(),
        "jax top_k": float(lax.top_k(j, 1)[0][0]),
    }
print("jax", jax.__version__, " of [1, 4, 2]")
e8, e4 = all_of(jnp.float8_e8m0fnu), all_of(jnp.float8_e4m3fn)
for k in e8: print(f"  {k:22} e8m0 {e8[k]}   e4m3fn {e4[k]}")
assert e8["numpy max/min/argmax"] == [4, 1, 1]
assert np.isnan(e8["jax max/min"]).all()
assert e8["jax argmax/argmin"] == [0, 0]
assert np.isnan(e8["jax cummax"]).all()
assert e8["jax top_k"] == 4
assert e4["jax max/min"] == [4, 1] and e4["jax argmax/argmin"] == [1, 0] and e4["jax cummax"] == [1, 4, 4]
PY

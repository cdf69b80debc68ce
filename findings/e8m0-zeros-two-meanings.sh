#!/usr/bin/env bash
# zeros() of the E8M0 type: bytes 0 in NumPy, bytes 255 (NaN) in JAX, and neither is zero.
#
# Expected: jax.numpy.zeros is JAX's numpy.zeros: the same call gives the same array. OCP MX v1.0: E8M0 has no zero.
# Happens:  np.zeros(3, float8_e8m0fnu) holds byte 0, i.e. 2^-127, and is true in a boolean test; np.zeros(3).astype of
#   the same type holds byte 255, NaN. jnp.zeros, jnp.zeros_like and jnp.full(0) hold byte 255. np.pad and
#   jnp.pad append 255, so inside NumPy alone the pad of zeros and the array of zeros are different bytes.
# Versions: jax 0.10.2, jaxlib 0.10.2, ml_dtypes 0.6.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who allocates a scale buffer or pads scales to a tile (128x4): the pad bytes are neutral in one
#   library and poison the padded rows with NaN in the other. Make scales as uint8 and view them.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, jax, jax.numpy as jnp, ml_dtypes

e8 = ml_dtypes.float8_e8m0fnu
b = lambda a: np.asarray(a).view(np.uint8).tolist()
one_n, one_j = np.ones(2, e8), jnp.ones(2, e8)
got = {
    "np.zeros": b(np.zeros(2, e8)), "np.zeros_like": b(np.zeros_like(one_n)), "np.zeros().astype": b(np.zeros(2).astype(e8)),
    "np.pad": b(np.pad(one_n, (0, 2))), "jnp.zeros": b(jnp.zeros(2, e8)), "jnp.zeros_like": b(jnp.zeros_like(one_j)),
    "jnp.pad": b(jnp.pad(one_j, (0, 2))),
}
print("jax", jax.__version__, "ml_dtypes", ml_dtypes.__version__, "numpy", np.__version__)
for k, v in got.items(): print(f"  {k:18} bytes {v}")
assert got["np.zeros"] == got["np.zeros_like"] == [0, 0]
assert got["np.zeros().astype"] == [255, 255]
assert got["np.pad"] == [127, 127, 255, 255]
assert got["jnp.zeros"] == got["jnp.zeros_like"] == [255, 255]
assert got["jnp.pad"] == [127, 127, 255, 255]
assert bool(np.zeros(1, e8)[0]) is True
PY

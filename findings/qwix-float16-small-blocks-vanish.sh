#!/usr/bin/env bash
# qwix quantises float16 weights below 0.046875 to zero: its floor for the scale is 2^-7 of a unit there.
#
# Expected: OCP MX v1.0: scales go down to 2^-127. The same weights as bfloat16 or float32 give the scale 2^-7 and keep
#   their values to MXFP4's precision.
# Happens:  qwix.quantize(..., "mxfp4") replaces a scale below the square root of the type's smallest normal number by 1. In float16 that
#   root is 0.0078, so a block whose largest weight is less than 6 * 0.0078 = 0.0469 gets scale 1, and all that is at most
#   0.25 becomes code 0: the whole block. In float32 the same happens below 6.5e-19. No warning.
# Versions: qwix 0.1.8, jax 0.10.2 (CPU). Seen 2026-11-28.
# Who minds: who quantises a float16 model: weights of 0.02 are ordinary, and nearly all blocks become zero. Convert to
#   bfloat16 or float32 first.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q qwix==0.1.8 jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, jax.numpy as jnp, qwix
from importlib.metadata import version

rng = np.random.default_rng(1)
w = rng.normal(0, 0.01, (64, 256)).clip(-0.04, 0.04)
def trip(dtype):
    q = qwix.quantize(jnp.array(w, dtype), "mxfp4", channelwise_axes=(0,), tiled_axes={1: 32})
    back = np.asarray(qwix.dequantize(q)).astype(np.float32)
    return sorted(set(np.asarray(q.scale).astype(np.float32).ravel().tolist())), float((back == 0).mean())
print("qwix", version("qwix"), " 512 blocks of normal weights, sigma 0.01")
r = {n: trip(getattr(jnp, n)) for n in ("float16", "bfloat16", "float32")}
for n, (scales, zeros) in r.items(): print(f"  {n:9} scales {scales}, share of zeros {zeros:.3f}")
assert r["float16"] == ([1.0], 1.0)
for n in ("bfloat16", "float32"): assert r[n][1] < 0.3 and max(r[n][0]) <= 2.0**-7
PY

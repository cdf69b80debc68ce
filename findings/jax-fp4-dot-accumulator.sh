#!/usr/bin/env bash
# A float4 matrix product in JAX cannot accumulate in float32: the argument for it raises, without it 64 is 6.
#
# Expected: jax.numpy.dot: preferred_element_type is the type to accumulate in and to return. The same call works for
#   float8_e4m3fn and float8_e8m0fnu.
# Happens:  jnp.dot of two float4_e2m1fn matrices with preferred_element_type=float32 raises INVALID_ARGUMENT from XLA's
#   verifier on CPU (an element size of 4 bits is left on the widened operand). lax.top_k of a float4 array raises
#   the same. Without the argument the product of ones, 64 long, is 6: the result type is float4 and saturates.
#   Casting to float32 first gives 64.
# Versions: jax 0.10.2, jaxlib 0.10.2 (CPU). Seen 2026-11-28.
# Who minds: who tests an MXFP4 kernel against JAX: the one spelling that would be the reference fails and the short one
#   is wrong in silence.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, jax, jax.numpy as jnp

def dot(dt, **k):
    try: return float(jnp.dot(jnp.ones((2, 64), dt), jnp.ones((64, 2), dt), **k)[0, 0])
    except Exception as e: return type(e).__name__ + ": " + str(e).split(":")[0]
f4 = jnp.float4_e2m1fn
r = {
    "float4, preferred float32": dot(f4, preferred_element_type=jnp.float32),
    "float8_e4m3fn, preferred float32": dot(jnp.float8_e4m3fn, preferred_element_type=jnp.float32),
    "float8_e8m0fnu, preferred float32": dot(jnp.float8_e8m0fnu, preferred_element_type=jnp.float32),
    "float4, plain": dot(f4),
}
try: jax.lax.top_k(jnp.array([1, 4, 2], f4), 1); r["float4, top_k"] = "a value"
except Exception as e: r["float4, top_k"] = type(e).__name__
print("jax", jax.__version__)
for k, v in r.items(): print(f"  {k:34} {v}")
assert r["float4, preferred float32"] == "JaxRuntimeError: INVALID_ARGUMENT"
assert r["float8_e4m3fn, preferred float32"] == r["float8_e8m0fnu, preferred float32"] == 64
assert r["float4, plain"] == 6 and r["float4, top_k"] == "JaxRuntimeError"
assert float(jnp.dot(jnp.ones((2, 64), f4).astype(jnp.float32), jnp.ones((64, 2), f4).astype(jnp.float32))[0, 0]) == 64
PY

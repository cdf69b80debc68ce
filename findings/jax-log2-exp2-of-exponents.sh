#!/usr/bin/env bash
# jnp.log2(8192) is 12.999999 and jnp.exp2 is inexact for most whole numbers: MX scales come out wrong both ways.
#
# Expected: log2 of a power of two is its exponent, exp2 of a whole number a power of two. JAX documents log2 as the implementation
#   of numpy.log2, which is exact there, and shows whole numbers. OCP MX v1.0 takes floor(log2(amax)).
# Happens:  float32 log2 in JAX is log(x)/log(2), rounded twice. For 46 of the 254 powers of two it is not the exponent: 2^13, 2^15,
#   2^26 ... come out just below it (floor is one too small), 2^-13, 2^-15, 2^-26 just above (ceil one too large). qwix uses
#   ceil: a block whose largest weight is 6 * 2^-13 gets scale 2^-12 instead of 2^-13, at 6 * 2^-12 it gets the
#   same 2^-12. exp2 is exp(x*log(2)): more than 200 of the 254 normal exponents give no power of two (2^-126 becomes 0).
# Versions: jax 0.10.2, jaxlib 0.10.2 (CPU), qwix 0.1.8. Seen 2026-11-28.
# Who minds: who writes an MX scale in JAX by the formula: some binades lose one bit of every weight, or clip. Take
#   the exponent bits (jnp.frexp or a bitcast), and jnp.ldexp or the E8M0 type to decode.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q qwix==0.1.8 jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, jax, jax.numpy as jnp, qwix
from importlib.metadata import version

k = np.arange(-126, 128)
x = (2.0 ** k.astype(np.float64)).astype(np.float32)
l = np.asarray(jnp.log2(jnp.array(x)))
low, high = k[np.floor(l) != k].tolist(), k[np.ceil(l) != k].tolist()
def scale(amax):
    a = jnp.zeros((1, 32), jnp.float32).at[0, 0].set(amax)
    return float(qwix.quantize(a, "mxfp4", channelwise_axes=(0,), tiled_axes={1: 32}).scale[0, 0])
print("jax", jax.__version__, "qwix", version("qwix"))
print("  floor(log2) wrong for 2^k, k =", low)
print("  ceil(log2)  wrong for 2^k, k =", high)
print("  log2(8192) =", float(jnp.log2(jnp.float32(8192))), " numpy exact everywhere:", bool((np.log2(x) == k).all()))
for e in (-14, -13, -12): print(f"  qwix, largest weight 6 * 2^{e}: scale 2^{int(np.log2(scale(6 * 2.0**e)))}")
p = np.asarray(jnp.exp2(jnp.array(k.astype(np.float32))))
off = (p != x).sum()
print("  exp2(k) is not 2^k for", off, "of 254 k; largest relative error of the normal ones", float(np.abs(p[1:] / x[1:] - 1).max()))
assert off > 200 and p[0] == 0
assert (np.asarray(jnp.ldexp(jnp.ones(254, jnp.float32), jnp.array(k))) == x).all()
m, e = jnp.frexp(jnp.array(x))
assert (np.asarray(e) - 1 == k).all() and (np.log2(x) == k).all()
assert 13 in low and 15 in low and -13 in high and -15 in high and len(low) + len(high) > 20
assert scale(6 * 2.0**-14) == 2.0**-14 and scale(6 * 2.0**-12) == 2.0**-12
assert scale(6 * 2.0**-13) == 2.0**-12
PY

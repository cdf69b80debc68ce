#!/usr/bin/env bash
# A block of tiny weights gets a scale byte near 255: MLX gives it back as 8.5e37 or Inf.
#
# Expected: OCP MX v1.0: the smallest E8M0 scale is 2^-127 (byte 0); a block too small for its rule must be clamped
#   there and its weights become 0 or the few smallest codes. Nothing may grow.
# Happens:  the exponent goes below -127 and the cast to a byte wraps round. MLX mode="mxfp4": a block whose largest
#   weight is 2^-130 (7.3e-40) gets byte 251 and code 6, and dequantises to 8.5e37; mode="mxfp8" does the same
#   (byte 245), and gives Inf for 2^-124, a normal float32. 2^-126, the smallest NORMAL float32, gets byte 255 in mxfp4: Inf after MLX, NaN by OCP.
#   gguf writes byte 255 too (with zero codes): gguf itself reads zeros, but the same bytes taken over as
#   E8M0 are a NaN block.
# Versions: mlx 0.32.4 (CPU), gguf 0.19.0 (Python). Seen 2026-11-28.
# Who minds: who converts float32 checkpoints: a row that training has decayed to such values, or a tensor
#   initialised to them, makes every output Inf or NaN.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q gguf==0.19.0 'mlx[cpu]==0.32.4' mlx-cpu==0.32.4 numpy==2.4.6
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, mlx.core as mx
from importlib.metadata import version
from gguf import quants, GGMLQuantizationType as Q

def row(v): return np.array([v] + [0] * 31, np.float32)
def mlx(v, mode):
    w, s = mx.quantize(mx.array(row(v)[None]), mode=mode)
    return int(np.array(s)[0, 0]), float(np.array(mx.dequantize(w, s, mode=mode, dtype=mx.float32))[0, 0])
def gg(v):
    b = quants.quantize(row(v), Q.MXFP4)
    return int(b[0]), float(quants.dequantize(b, Q.MXFP4)[0])
print("mlx", version("mlx"), "gguf", version("gguf"), "   weight -> (scale byte, weight that comes back)")
for e in (-124, -126, -130):
    print(f"  2^{e}: mlx mxfp4 {mlx(2.0**e, 'mxfp4')}, mlx mxfp8 {mlx(2.0**e, 'mxfp8')}, gguf {gg(2.0**e)}")
assert mlx(2.0**-124, "mxfp4") == (1, 2.0**-124)
assert mlx(2.0**-126, "mxfp4") == (255, np.inf)
assert mlx(2.0**-130, "mxfp4") == (251, 2.0**126)
assert mlx(2.0**-130, "mxfp8") == (245, 2.0**126)
assert mlx(2.0**-124, "mxfp8") == (251, np.inf)
assert gg(2.0**-124) == (1, 2.0**-124)
assert gg(2.0**-126) == (255, 0.0)
assert gg(2.0**-130) == (251, 0.0)
PY

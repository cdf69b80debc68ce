#!/usr/bin/env bash
# One NaN among 32 weights makes gguf and MLX write zeros for the other 31, or finite values for the NaN.
#
# Expected: OCP MX v1.0: a block with a bad value has a mark, scale byte 255 (NaN); or the quantiser raises.
#   A NaN should not change weights beside it without a trace.
# Happens:  gguf: quantize(..., MXFP4) of [1, NaN, 3, 0...] is 17 zero bytes, a plain zero block. An Inf does the
#   same. MLX mode="mxfp4": scale byte 128 and all codes 0. MLX mode="mxfp8": scale byte 128 and finite numbers
#   in every place (the exact zeros of the block included). No error, no NaN in what comes back; the block before
#   and the block after are right.
# Versions: gguf 0.19.0 (Python), mlx 0.32.4 (CPU). Seen 2026-11-28.
# Who minds: who converts a damaged checkpoint: the damage is spread to the whole block and its mark is
#   lost, so that no later check for NaN finds it.
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

nan, inf = np.nan, np.inf
def row(*v): return np.array(list(v) + [0] * (32 - len(v)), np.float32)
x = np.concatenate([row(1, 2, 3), row(1, nan, 3), row(1, inf, 3), row(1, 2, 3)])
b = quants.quantize(x, Q.MXFP4).reshape(4, 17)
y = quants.dequantize(b, Q.MXFP4).reshape(4, 32)
print("gguf", version("gguf"))
for r, name in enumerate(["clean", "NaN", "Inf", "clean"]): print(f"  {name:6} bytes {b[r, :4].tolist()}..., back {y[r, :3].tolist()}")
assert not b[1].any() and not b[2].any() and b[0].any() and (b[0] == b[3]).all()
print("mlx", version("mlx"))
g = mx.array(x.reshape(4, 32))
for mode in ("mxfp4", "mxfp8"):
    w, s = mx.quantize(g, mode=mode)
    d = np.array(mx.dequantize(w, s, mode=mode, dtype=mx.float32))
    s = np.array(s).ravel().tolist()
    for r, name in enumerate(["clean", "NaN", "Inf", "clean"]): print(f"  {mode} {name:6} scale {s[r]}, back {d[r, :5].tolist()}")
    assert s[1] == s[2] == 128 and s[0] == s[3]
    assert np.isfinite(d).all() and d[0, :3].tolist() == [1, 2, 3]
    if mode == "mxfp4": assert not d[1].any() and not d[2].any()
    else: assert np.abs(d[1]).min() > 0
PY

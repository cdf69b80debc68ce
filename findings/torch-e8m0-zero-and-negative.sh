#!/usr/bin/env bash
# torch casts 0 to 2^-127 and -1 to +1 as E8M0; ml_dtypes gives NaN for both. torch.full refuses the 0 that zeros() takes.
#
# Expected: OCP MX v1.0: E8M0 has no zero and no sign. A number that it cannot hold should become NaN (as in ml_dtypes,
#   JAX) or raise; and torch.full(n, 0) should be torch.zeros(n).
# Happens:  torch.tensor([0., -1., -3.]).to(float8_e8m0fnu) is bytes 0, 127, 129: the sign is dropped and 0 is the
#   smallest scale. ml_dtypes gives 255, 255, 255. On all positive finite float32 values tried the two agree.
#   torch.zeros, fill_(0) and x[0] = 0 give byte 0; torch.full(.., 0.0) raises "cannot be converted ... without
#   overflow", and so does torch.nn.functional.pad with its default value, so scales cannot be padded by it.
# Versions: torch 2.15.0 (CPU), ml_dtypes 0.6.0. Seen 2026-11-28.
# Who minds: who computes a scale by a cast: a sign error (min instead of amax) passes in torch in silence, and the
#   all-zero block has the byte 0 there and NaN in JAX.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q torch==2.15.0 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, torch, ml_dtypes

e8, u8 = torch.float8_e8m0fnu, torch.uint8
b = lambda t: t.view(u8).tolist()
x = torch.tensor([0.0, -1.0, -3.0])
t, m = b(x.to(e8)), x.numpy().astype(ml_dtypes.float8_e8m0fnu).view(np.uint8).tolist()
v = torch.arange(1, 0x7F800000, 4099, dtype=torch.int32).view(torch.float32)
same = (v.to(e8).view(u8).numpy() == v.numpy().astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)).all()
def attempt(f):
    try: return b(f())
    except RuntimeError as e: return "RuntimeError"
r = {"zeros": attempt(lambda: torch.zeros(2, dtype=e8)), "ones.fill_(0)": attempt(lambda: torch.ones(2, dtype=e8).fill_(0)),
     "full(0.0)": attempt(lambda: torch.full((2,), 0.0, dtype=e8)), "pad": attempt(lambda: torch.nn.functional.pad(torch.ones(2, dtype=e8), (0, 2)))}
print("torch", torch.__version__, "ml_dtypes", ml_dtypes.__version__)
print("  0, -1, -3: torch", t, " ml_dtypes", m, "; positive values agree:", bool(same))
print(" ", r)
assert t == [0, 127, 129] and m == [255, 255, 255] and same
assert r == {"zeros": [0, 0], "ones.fill_(0)": [0, 0], "full(0.0)": "RuntimeError", "pad": "RuntimeError"}
PY

#!/usr/bin/env bash
# torchao writes a block of tiny MXFP4 weights that its own reader gives back as half, or as zeros. (torch)
#
# Expected: OCP MX v1.0: scale byte 0 is 2^-127; to_mx and to_dtype of one library agree on it. A block with an infinity
#   has a mark, or is refused.
# Happens:  to_mx in the modes FLOOR, EVEN and CEIL writes byte 0 but divides by 2^-126: 2^-126 comes back from to_dtype
#   as 2^-127. RCEIL divides by more still: the block is all zeros. Infinity gets the ordinary byte 253 (254 in RCEIL),
#   and so do 1.75 * 2^127 and more in EVEN, which earlier and later sources turn into NaN.
# Versions: torchao 0.18.0 (prototype.mx_formats, eager), torch 2.15.0 (CPU). Seen 2026-11-28.
# Who minds: who tests the round trip near the smallest float32 numbers, or looks for scale byte 255 to find overflow.
#   Guard: look for infinities before; flush weights below 2^-124 to zero.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q torchao==0.18.0 torch==2.15.0 numpy==2.4.6
"$tmp/v/bin/python" - <<'PY'
import warnings, logging; warnings.simplefilter("ignore"); logging.disable(logging.WARNING)
import torch, torchao
from torchao.prototype.mx_formats.config import ScaleCalculationMode as Mode
from torchao.prototype.mx_formats.mx_tensor import to_dtype, to_mx

fp4 = torch.float4_e2m1fn_x2
def there_and_back(v, mode):
    w = torch.zeros(1, 32); w[0, 0] = v
    scale, data = to_mx(w, fp4, 32, mode)
    return scale.view(torch.uint8).item(), to_dtype(data, scale, fp4, 32, torch.float32)[0, 0].item()
print("torchao", torchao.__version__, "torch", torch.__version__)
got = {m.name: (there_and_back(2.0**-126, m), there_and_back(float("inf"), m)[0], there_and_back(1.75 * 2.0**127, m)[0]) for m in Mode}
for name, (tiny, inf, top) in got.items():
    print(f"  {name}: 2^-126 is (byte, value) {tiny}; byte of Inf {inf}, of 1.75 * 2^127 {top}")
for name in ("FLOOR", "EVEN", "CEIL"): assert got[name][:2] == ((0, 2.0**-127), 253), name
assert got["RCEIL"][:2] == ((0, 0.0), 254)
assert got["EVEN"][2] == 253 and got["FLOOR"][2] == 252
PY

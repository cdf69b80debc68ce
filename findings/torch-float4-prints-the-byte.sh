#!/usr/bin/env bash
# torch prints a pair of float4 numbers as one float, 33, that the type cannot hold, and finds +0 and -0 different.
#
# Expected: a tensor of dtype float4_e2m1fn_x2 with the byte 0x21 holds the E2M1 codes 1 and 2 (OCP MX v1.0): 0.5 and 1.0.
#   Comparing floats compares numbers: +0 == -0.
# Happens:  the tensor prints as tensor([33.], dtype=torch.float4_e2m1fn_x2), the packed byte with a point behind it.
#   .to(float32) is not implemented, so nothing shows the real numbers; == compares bytes: the pairs (+0, +0) and
#   (-0, -0) are unequal. torch.equal, torch.ones and cat are not alike either: equal and ones raise, cat works.
#   Printing torch.finfo raises TypeError, although is_floating_point is true.
# Versions: torch 2.15.0 (CPU). Seen 2026-11-28.
# Who minds: who looks into an FP4 checkpoint by printing a tensor, or compares two of them after a conversion.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q torch==2.15.0 numpy==2.4.6
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import torch

f4, u8 = torch.float4_e2m1fn_x2, torch.uint8
make = lambda *b: torch.tensor(b, dtype=u8).view(f4)
def kind(f):
    try: f(); return "works"
    except Exception as e: return type(e).__name__
x = make(0x21)
text = repr(x)
zero = (make(0x00) == make(0x88)).tolist()
r = {"to(float32)": kind(lambda: x.to(torch.float32)), "equal": kind(lambda: torch.equal(x, x)), "ones": kind(lambda: torch.ones(1, dtype=f4)),
     "cat": kind(lambda: torch.cat([x, x])), "repr of finfo": kind(lambda: repr(torch.finfo(f4)))}
print("torch", torch.__version__)
print("  byte 0x21 prints", text, "; (+0, +0) == (-0, -0):", zero)
print(" ", r)
assert text == "tensor([33.], dtype=torch.float4_e2m1fn_x2)" and zero == [False] and x.dtype.is_floating_point
assert r == {"to(float32)": "NotImplementedError", "equal": "NotImplementedError", "ones": "NotImplementedError", "cat": "works", "repr of finfo": "TypeError"}
PY

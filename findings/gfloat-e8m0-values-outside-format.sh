#!/usr/bin/env bash
# gfloat's round_float to E8M0 returns 0 and negative numbers, which the format has not; encoding them gives NaN.
#
# Expected: gfloat documents the result of round_float as one of the values of the format, and sat=True as keeping
#   what is out of range at the limit. OCP MX v1.0: E8M0 is unsigned, its smallest value is 2^-127, it has no zero.
# Happens:  round_float(e8m0, 0.0) is 0.0, round_float(e8m0, -1.0) is -1.0 and round_float(e8m0, 2^-129) is 2^-129,
#   also with sat=True. encode_float then gives byte 255 (so for all that rounds to 2^-128 or less): a scale below the range becomes
#   NaN even when saturation was asked for, while one above the range saturates to byte 254.
# Versions: gfloat 0.5.2. Seen 2026-11-28.
# Who minds: who takes this package, written as a reference of number formats, as the oracle for an MX encoder: an all-zero
#   block (amax 0) comes out as a NaN block.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q gfloat==0.5.2 numpy==2.4.6
"$tmp/v/bin/python" - <<'PY'
import gfloat
from gfloat.formats import format_info_ocp_e8m0 as E8
from importlib.metadata import version

def rnd(v, mode=gfloat.RoundMode.TiesToEven): return gfloat.round_float(E8, v, mode, sat=True)
values = {gfloat.decode_float(E8, b).fval for b in range(255)}
print("gfloat", version("gfloat"), " round_float(sat=True) and the byte of it")
res = {}
for name, v in (("0", 0.0), ("-1", -1.0), ("2^-129", 2.0**-129), ("2^200", 2.0**200), ("1", 1.0)):
    r = rnd(v)
    b = gfloat.encode_float(E8, r) if r >= 0 else None
    res[name] = (r, r in values, b)
    print(f"  {name:7} -> {r!r:24} a value of the format: {r in values}, byte {b}")
assert res["0"] == (0.0, False, 255)
assert res["-1"][:2] == (-1.0, False)
assert res["2^-129"] == (2.0**-129, False, 255)
assert res["2^200"] == (2.0**127, True, 254)
assert res["1"] == (1.0, True, 127)
assert 0.0 not in values and min(values) == 2.0**-127
PY

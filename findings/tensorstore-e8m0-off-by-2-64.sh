#!/usr/bin/env bash
# TensorStore converts E8M0 with the wrong bias: 1.0 becomes 2^-64, and bytes from 128 on read as negative numbers.
#
# Expected: OCP MX v1.0: byte b is 2^(b-127), unsigned. TensorStore takes the type from ml_dtypes (float8_e8m0fnu), where 1.0 is
#   byte 127.
# Happens:  bytes that are written and read as E8M0 come back unchanged. But ts.cast of 1, 2, 4 to float8_e8m0fnu gives bytes
#   63, 64, 65 and ts.cast of byte 127 to float32 gives 2^64: the exponent is off by 64. Byte 128 reads as -2^65, as
#   if the type had a sign bit, byte 0 as 0. In TensorStore's own round trip the two errors cancel. A zarr3 array
#   with fill_value 1.0 is filled with byte 63. The other 8-bit and 4-bit floats tried (float8_e4m3fn, float8_e5m2,
#   float4_e2m1fn) convert as in ml_dtypes.
# Versions: tensorstore 0.1.86, ml_dtypes 0.6.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who keeps MX scales in a zarr store (as JAX checkpoints are) and lets the store convert them, or leaves chunks
#   unwritten: weights are off by 2^64. Read the stored type and convert in ml_dtypes, or store uint8.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q tensorstore==0.1.86 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes, tensorstore as ts
from importlib.metadata import version

e8 = ml_dtypes.float8_e8m0fnu
def cast(a, t): return ts.cast(ts.array(a), t).read().result()
b = lambda a: a.view(np.uint8).tolist()
x = np.array([1, 2, 4], np.float32)
to = b(cast(x, ts.float8_e8m0fnu))
read = cast(np.array([126, 127, 128, 0], np.uint8).view(e8), ts.float32).tolist()
own = cast(cast(x, ts.float8_e8m0fnu), ts.float32).tolist()
def store(**k):
    schema = {"domain": {"shape": [2]}, **k}
    return ts.open({"driver": "zarr3", "kvstore": {"driver": "memory"}, "schema": schema, "dtype": "float8_e8m0fnu"}, create=True).result()
filled = b(store(fill_value=1.0).read().result())
s = store(); s.write(np.array([127, 200], np.uint8).view(e8)).result()
kept = b(s.read().result())
print("tensorstore", version("tensorstore"), "ml_dtypes", ml_dtypes.__version__)
print("  1, 2, 4 to E8M0: bytes", to, " ml_dtypes", b(x.astype(e8)))
print("  bytes 126, 127, 128, 0 to float32:", read)
print("  there and back:", own, " fill_value 1.0:", filled, " stored bytes kept:", kept)
assert to == [63, 64, 65] and b(x.astype(e8)) == [127, 128, 129]
assert read == [2.0**63, 2.0**64, -(2.0**65), 0.0]
assert own == [1, 2, 4] and filled == [63, 63] and kept == [127, 200]
y = np.array([0.25, 0.3, 1, 3, 5, 7, -1], np.float32)
for n in ("float4_e2m1fn", "float8_e4m3fn", "float8_e5m2"):
    assert b(cast(y, getattr(ts, n))) == b(y.astype(getattr(ml_dtypes, n)))
PY

#!/usr/bin/env bash
# h5py refuses float8_e5m2, and stores float8_e4m3fn, E8M0 and float4 as nameless bytes.
#
# Expected: numpy arrays of the ml_dtypes floats either keep their type in the file or are refused, all alike. h5py maps
#   standard float16/32/64 to HDF5 floats.
# Happens:  float8_e5m2 raises TypeError (unsupported float type). float8_e4m3fn, float8_e8m0fnu, float4_e2m1fn and
#   bfloat16 are written without a word as HDF5 opaque of 1 or 2 bytes: the reader gets dtype V1, the four kinds of
#   bytes cannot be told from one another, and reading as float32 raises OSError.
# Versions: h5py 3.16.0, ml_dtypes 0.6.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who parks MX codes and scales in HDF5: nothing in the file says which is E8M0 and which E4M3. View as uint8
#   and write the format's name as an attribute.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q h5py==3.16.0 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - "$tmp" <<'PY'
import os, sys, warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes, h5py

path = os.path.join(sys.argv[1], "x.h5")
def put(name):
    try:
        with h5py.File(path, "w") as f:
            f["a"] = np.array([1, 2]).astype(getattr(ml_dtypes, name))
        with h5py.File(path) as f: return str(f["a"].dtype), f["a"].id.get_type().get_class() == h5py.h5t.OPAQUE
    except TypeError as e: return "TypeError", str(e)
print("h5py", h5py.__version__, "ml_dtypes", ml_dtypes.__version__)
r = {n: put(n) for n in ("float8_e5m2", "float8_e4m3fn", "float8_e8m0fnu", "float4_e2m1fn", "bfloat16")}
for k, v in r.items(): print(f"  {k:16} {v}")
assert r["float8_e5m2"][0] == "TypeError"
assert r["float8_e4m3fn"] == r["float8_e8m0fnu"] == r["float4_e2m1fn"] == ("|V1", True)
assert r["bfloat16"] == ("|V2", True)
PY

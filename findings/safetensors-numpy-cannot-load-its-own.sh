#!/usr/bin/env bash
# safetensors.numpy writes E8M0, FP8 and bfloat16 arrays that safetensors.numpy cannot read back.
#
# Expected: load(save(x)) == x. safetensors README lists F8_E8M0, F8_E4M3 and BF16 as dtypes of the format.
# Happens:  save() takes the ml_dtypes arrays and writes correct files (dtype F8_E8M0, bytes 127, 128). load() of those bytes
#   raises KeyError 'F8_E8M0'. safe_open(framework="numpy") raises AttributeError, for numpy has no such attribute.
#   float4_e2m1fn is refused when writing: the name that the writer knows is float4_e2m1fn_x2, torch's. F4 files can
#   therefore be neither made nor read from NumPy, except by safetensors.deserialize, which hands out raw bytes.
# Versions: safetensors 0.8.0, ml_dtypes 0.6.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who stores typed MX scales from NumPy and finds in the other process that the reader has no such type. Plain U8
#   scales (as compressed-tensors writes them) load everywhere.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - "$tmp" <<'PY'
import os, sys, tempfile
import numpy as np, ml_dtypes, safetensors
from safetensors import safe_open, deserialize
from safetensors.numpy import save, load, save_file

def attempt(f):
    try: return f()
    except Exception as e: return type(e).__name__ + " " + str(e)[:50]
print("safetensors", safetensors.__version__, "ml_dtypes", ml_dtypes.__version__)
path = os.path.join(sys.argv[1], "x.safetensors")
def opened():
    with safe_open(path, "numpy") as f: return f.get_tensor("s")
for name, tag in (("float8_e8m0fnu", "F8_E8M0"), ("float8_e4m3fn", "F8_E4M3"), ("bfloat16", "BF16")):
    x = np.array([1, 2]).astype(getattr(ml_dtypes, name))
    blob = save({"s": x})
    (key, raw), = deserialize(blob)
    l = attempt(lambda: load(blob))
    save_file({"s": x}, path)
    o = attempt(opened)
    print(f"  {name}: file says {raw['dtype']}, {list(raw['data'])}; load: {l}; safe_open: {o if isinstance(o, str) else 'ok'}")
    assert raw["dtype"] == tag and bytes(raw["data"]) == x.tobytes()
    assert l == f"KeyError '{tag}'"
    if name == "float8_e8m0fnu": assert o.startswith("AttributeError")
f4 = attempt(lambda: save({"s": np.ones(2, ml_dtypes.float4_e2m1fn)}))
print("  float4_e2m1fn save:", f4)
assert f4.startswith("SafetensorError")
PY

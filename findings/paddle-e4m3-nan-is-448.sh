#!/usr/bin/env bash
# Paddle's cast to E4M3 makes 448 of NaN and of Inf, and NaN of some finite numbers just above 448.
#
# Expected: OCP OFP8 v1.0: a conversion of NaN gives NaN; what is too large becomes 448 (saturating) or NaN (not
#   saturating), one of the two throughout.
# Happens:  on CPU, astype("float8_e4m3fn") gives 448 for NaN, for Inf and for everything from 480 on, and NaN for the finite values
#   between 464 and 480: 470 is NaN, 480 is 448. float8_e5m2 keeps NaN. Reading the bytes back is right for all 256 of
#   both types.
# Versions: paddlepaddle 3.3.1 (CPU), ml_dtypes 0.6.0 for comparison. Seen 2026-11-28.
# Who minds: who casts FP8 or MXFP8 weights there: a damaged weight becomes the largest finite one, and a
#   slightly too large one becomes NaN. Clip to 448 and look for NaN before the cast.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q paddlepaddle==3.3.1 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes, paddle

def cast(x, name): return paddle.to_tensor(np.array(x, np.float32)).astype(name).astype("float32").numpy()
x = [448, 464, 465, 470, 479, 480, 1e9, np.inf, -np.inf, np.nan]
e4, e5 = cast(x, "float8_e4m3fn").tolist(), cast([np.nan, 1.0], "float8_e5m2").tolist()
print("paddle", paddle.__version__)
print("  input ", x)
print("  e4m3fn", e4)
print("  NaN as e5m2:", e5[0])
nan = np.nan
assert np.array_equal(e4, [448, 448, nan, nan, nan, 448, 448, 448, -448, 448], equal_nan=True)
assert np.isnan(e5[0]) and e5[1] == 1
raw = np.arange(256, dtype=np.uint8)
back = paddle.to_tensor(raw).view("float8_e4m3fn").astype("float32").numpy()
assert np.array_equal(back, raw.view(ml_dtypes.float8_e4m3fn).astype(np.float32), equal_nan=True)
v = np.linspace(-448, 448, 4001).astype(np.float32)
assert np.array_equal(cast(v, "float8_e4m3fn"), v.astype(ml_dtypes.float8_e4m3fn).astype(np.float32))
PY

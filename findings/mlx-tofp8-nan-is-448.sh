#!/usr/bin/env bash
# mx.to_fp8 turns NaN into 448, although E4M3 has a NaN and mx.from_fp8 knows it.
#
# Expected: OCP OFP8 v1.0 (E4M3): codes 0x7F and 0xFF are NaN, and converting a NaN gives NaN. The function's own
#   text calls it the conversion to fp8 (e4m3).
# Happens:  to_fp8(NaN) is 0x7E, which from_fp8 reads as 448; with the sign bit set 0xFE, -448. Inf and what is too large
#   saturate to the same two codes. On every other bfloat16 value the
#   function agrees with ml_dtypes (saturating), so NaN is the only class that differs.
# Versions: mlx 0.32.4 (CPU). Seen 2026-11-28.
# Who minds: who stores a FP8 KV cache or FP8 weights through MLX and looks for NaN afterwards: there are none,
#   a NaN has become the largest weight.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q 'mlx[cpu]==0.32.4' mlx-cpu==0.32.4 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, mlx.core as mx, ml_dtypes
from importlib.metadata import version

x = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)        # every bfloat16 value
got = np.array(mx.to_fp8(mx.array(x)))
want = np.where(np.isnan(x), x, np.clip(x, -448, 448)).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
nan = np.isnan(x)
back = np.array(mx.from_fp8(mx.array(np.array([0x7F, 0xFF, 0x7E], np.uint8)), dtype=mx.float32))
print("mlx", version("mlx"), "ml_dtypes", version("ml_dtypes"))
print("  to_fp8 of all NaNs:", sorted({hex(v) for v in got[nan].tolist()}), " ml_dtypes:", sorted({hex(v) for v in want[nan].tolist()}))
print("  other bfloat16 values that differ:", int((got != want)[~nan].sum()), "of", int((~nan).sum()))
print("  from_fp8(0x7f, 0xff, 0x7e):", back.tolist())
assert set(got[nan].tolist()) == {0x7E, 0xFE} and set(want[nan].tolist()) == {0x7F, 0xFF}
assert not (got != want)[~nan].any()
assert np.isnan(back[:2]).all() and back[2] == 448
PY

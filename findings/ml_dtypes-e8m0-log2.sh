#!/usr/bin/env bash
# np.log2 of an E8M0 scale is not its exponent: 1 gives NaN, 8 gives 4.
#
# Expected: an E8M0 value is a power of two (OCP MX v1.0), so log2 is a small integer: 0 for 1, 3 for 8, -1 for 0.5.
# Happens:  the result is an E8M0 value again. 0 does not exist there, so log2(1) is NaN; negative numbers do not exist, so
#   log2(0.5) is NaN; 3 is a tie and becomes 4, 5 becomes 4, 6 becomes 8. np.frexp returns a true integer
#   exponent (one more, as its mantissa is 0.5) and is right; so is the byte minus 127.
# Versions: ml_dtypes 0.6.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who turns scale bytes into exponents to re-bias or to merge them: for half of all scales (those up to 1) the
#   answer is NaN, for most others a wrong integer that looks plausible.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes

s = np.array([0.5, 1, 2, 8, 32, 64]).astype(ml_dtypes.float8_e8m0fnu)
log = np.log2(s).astype(np.float32).tolist()
fr = (np.frexp(s)[1] - 1).tolist()
byte = (s.view(np.uint8).astype(int) - 127).tolist()
print("ml_dtypes", ml_dtypes.__version__, "numpy", np.__version__, " scales", s.astype(np.float32).tolist())
print("  np.log2", log, " frexp-1", fr, " byte-127", byte)
assert np.log2(s).dtype == ml_dtypes.float8_e8m0fnu
assert np.isnan(log[:2]).all() and log[2:] == [1, 4, 4, 8]
assert fr == byte == [-1, 0, 1, 3, 5, 6]
PY

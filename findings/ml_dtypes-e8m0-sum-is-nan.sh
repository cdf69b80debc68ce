#!/usr/bin/env bash
# The sum and the mean of E8M0 scales are NaN for every array, but adding them one by one works.
#
# Expected: numpy.sum starts from 0 and adds the elements: 1 + 1 + 2 = 4, a value of the type.
# Happens:  E8M0 has no zero (OCP MX v1.0), so the start value of the sum becomes NaN and so does the result, whatever the
#   array holds; mean likewise. functools.reduce with the + of the same arrays gives 4, np.prod (start value 1) and
#   np.max are right. The NaN looks like a NaN scale (byte 255) in the data.
# Versions: ml_dtypes 0.6.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who looks for a damaged scale tensor by np.isnan(s.sum()), a quick check: every healthy one is
#   reported. Look at (bytes == 255).any().
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import functools, operator
import numpy as np, ml_dtypes

s = np.array([1, 1, 2]).astype(ml_dtypes.float8_e8m0fnu)
one_by_one = functools.reduce(operator.add, [s[i : i + 1] for i in range(3)])
print("ml_dtypes", ml_dtypes.__version__, "numpy", np.__version__, " of the scales", s.view(np.uint8).tolist(), "(bytes)")
print("  sum", s.sum(), " mean", s.mean(), " prod", s.prod(), " max", s.max(), " one by one", one_by_one[0])
assert np.isnan(np.float32(s.sum())) and np.isnan(np.float32(s.mean()))
assert float(s.prod()) == 2 and float(s.max()) == 2 and float(one_by_one[0]) == 4
e4 = np.array([1, 1, 2]).astype(ml_dtypes.float8_e4m3fn)
assert float(e4.sum()) == 4
PY

#!/usr/bin/env bash
# safetensors 0.8 writes a transposed NumPy array with its elements in the wrong places; 0.7 wrote it right.
#
# Expected: safetensors README: tensors are stored in C order. safetensors.numpy asks for contiguous and dense tensors, and
#   the torch side of the same package refuses others with an error; 0.7.0 stored them in the right order.
# Happens:  0.8.0 takes the address of the data and the number of bytes and does not look at the strides. save({"w": a.T})
#   gives the transposed SHAPE over the untransposed BYTES, a[::2] gives the first half of a. No error, no
#   warning, and the file is well formed. np.ascontiguousarray before the call is right in both versions.
# Versions: safetensors 0.8.0 against 0.7.0, numpy 2.4.6. Seen 2026-11-28.
# Who minds: who transposes weights or scales while converting between layouts ([K, N] to [N, K]): after the upgrade the
#   shapes still fit, all weights are at wrong places, and the model only gets stupid.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat > "$tmp/check.py" <<'PY'
import numpy as np, safetensors, sys
from safetensors.numpy import save, load
a = np.arange(6, dtype=np.uint8).reshape(2, 3)
every_second = np.arange(8, dtype=np.uint8)[::2]
r = [load(save({"w": w}))["w"].tolist() for w in (a.T, every_second, np.ascontiguousarray(a.T))]
print("safetensors", safetensors.__version__)
print("  saved a.T      =", a.T.tolist(), "-> loaded", r[0])
print("  saved a[::2]   =", every_second.tolist(), "-> loaded", r[1])
print("  ascontiguousarray(a.T) -> loaded", r[2])
good = [a.T.tolist(), every_second.tolist()]
assert r[2] == good[0]
if sys.argv[1] == "0.7.0": assert r[:2] == good
else: assert r[:2] == [[[0, 1], [2, 3], [4, 5]], [0, 1, 2, 3]]
PY
for version in 0.7.0 0.8.0; do
  python3 -m venv "$tmp/$version"
  "$tmp/$version/bin/pip" install -q safetensors==$version numpy==2.4.6
  "$tmp/$version/bin/python" "$tmp/check.py" $version
done

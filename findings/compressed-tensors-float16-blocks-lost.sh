#!/usr/bin/env bash
# compressed-tensors loses whole blocks of a float16 model: a largest weight of 57344, or one below 2^-14, gives zeros.
#
# Expected: OCP MX v1.0 covers float16 completely: its largest finite value 65504 and its smallest 2^-24 lie far inside
#   2^-127 to 6*2^127. The library itself gives 65536 and 2^-15 for these weights when they come as bfloat16 or float32.
# Happens:  the scale is found in the weight's own type. With amax 57344 (1.75 * 2^15) the round-up to the next power of two
#   overflows float16 to Inf: byte 127 and 32 zero codes. With amax 2^-15 (a float16 subnormal) the scale is
#   replaced by 1: byte 127 and zeros again. Just beside (57312, 2^-14) the block is right. No error.
# Versions: compressed-tensors 0.20.1, torch 2.15.0 (CPU). Seen 2026-11-28.
# Who minds: who quantises a float16 checkpoint: blocks of small weights (all below 6.1e-5) turn into zeros without a
#   word. Convert to float32 first.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q compressed-tensors==0.20.1 torch==2.15.0 numpy==2.4.6
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import torch, compressed_tensors
from compressed_tensors.compressors.mxfp4 import MXFP4PackedCompressor as C
from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme
from compressed_tensors.quantization.utils import calculate_qparams

scheme = preset_name_to_scheme("MXFP4A16", ["Linear"])
def trip(v, dtype):
    w = torch.zeros(1, 32, dtype=dtype); w[0, 0], w[0, 1] = v, -v / 2
    g = w.reshape(1, 1, 32)
    s, _ = calculate_qparams(g.amin(-1), g.amax(-1), scheme.weights)
    c = C.compress({"weight": w, "weight_scale": s}, scheme)
    return c["weight_scale"].item(), C.decompress(dict(c), scheme)["weight"][0, :2].float().tolist()
print("compressed-tensors", compressed_tensors.__version__, "torch", torch.__version__, "  (scale byte, [v, -v/2] back)")
for name, v in (("57344", 57344.0), ("57312", 57312.0), ("2^-14", 2.0**-14), ("2^-15", 2.0**-15)):
    print(f"  v = {name:6} float16 {trip(v, torch.float16)}   float32 {trip(v, torch.float32)}")
assert trip(57344.0, torch.float16) == (127, [0, 0]) and trip(57344.0, torch.float32) == (141, [65536, -32768])
assert trip(57312.0, torch.float16)[0] == 140
assert trip(2.0**-14, torch.float16) == (111, [2.0**-14, -(2.0**-15)])
assert trip(2.0**-15, torch.float16) == (127, [0, 0]) and trip(2.0**-15, torch.float32) == (110, [2.0**-15, -(2.0**-16)])
PY

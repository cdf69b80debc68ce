#!/usr/bin/env bash
# nncf writes other MXFP4 scales for the same weights in a small tensor than in a large one.
#
# Expected: OCP MX v1.0: a block's scale comes from its 32 weights; E8M0 goes down to 2^-127. The other blocks of a
#   tensor, and how many there are, do not matter.
# Happens:  compress_weights(mode=MXFP4) has a least scale, and it depends on the size of the tensor. A block of zeros,
#   or of weights of 2^-40, has scale byte 104 in a tensor below 10000 weights and 102 in a larger one; under both
#   every weight of 2^-40 becomes 0. A block whose largest weight is 2^-24 is 2 * 2^-25 in the one and 0.5 * 2^-23 in
#   the other, so its smaller weights have two bits less. The small path clamps amax / 6 to 2^-23 and the compiled one
#   clamps amax.
# Versions: nncf 3.4.0, openvino 2026.4.1 (CPU). Seen 2026-11-28.
# Who minds: who compares checkpoints or tests a reader with a tensor of one block: the bytes are not those of the model.
#   Guard: test with tensors of the model's size; look for scale bytes 102 and 104.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q nncf==3.4.0 openvino==2026.4.1 numpy==2.4.6
"$tmp/v/bin/python" - > "$tmp/out" 2> /dev/null <<'PY'
import numpy as np, openvino as ov, nncf
from openvino import opset13 as op

def first_block(x, rows):
    w = np.zeros((rows, 32), np.float32)
    w[:] = x
    p = op.parameter([1, 32], np.float32)
    m = ov.Model([op.result(op.matmul(p, op.constant(w), False, True))], [p])
    m = nncf.compress_weights(m, mode=nncf.CompressWeightsMode.MXFP4, all_layers=True, group_size=32)
    of = {str(o.get_element_type()): np.array(o.data).view(np.uint8) for o in m.get_ops() if o.get_type_name() == "Constant"}
    return int(of["<Type: 'f8e8m0'>"].ravel()[0]), (of["<Type: 'f4e2m1'>"].ravel()[:2] & 15).tolist()
def pair(v, second=0.0):
    x = np.zeros(32, np.float32); x[0], x[2] = v, second
    return first_block(x, 64), first_block(x, 512)
print("nncf", nncf.__version__, "openvino", ov.__version__)
zero, tiny, small, one = pair(0.0), pair(2.0**-40), pair(2.0**-24, 2.0**-26), pair(1.0, 0.5)
for name, (a, b) in {"zeros": zero, "2^-40": tiny, "2^-24, 2^-26": small, "1, 0.5": one}.items():
    print(f"  {name}: (scale byte, codes) with 2048 weights {a}, with 16384 {b}")
assert zero == ((104, [0, 0]), (102, [0, 0])) and tiny == zero
assert small == ((104, [1, 0]), (102, [4, 1]))
assert one[0] == one[1] == (125, [6, 4])
PY
grep '^nncf\|^  [z21]' "$tmp/out"

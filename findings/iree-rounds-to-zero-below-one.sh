#!/usr/bin/env bash
# IREE casts 0.75 to 0 as E2M1, and so everything from there to just below 1; the FP8 types have the same gap.
#
# Expected: OCP MX v1.0, E2M1 with roundTiesToEven: 0.75 is midway between 0.5 and 1.0 and goes to 1.0 (even), what
#   is above goes to 1.0. Under no rounding mode is it 0, for the neighbours are 0.5 and 1.0.
# Happens:  arith.truncf from f32 to f4E2M1FN gives code 0 for 0.75 <= |x| < 1 (the sign is kept). Below and above all is right. It is
#   the place where a subnormal rounds up to the smallest normal number and the carry gets lost: f8E4M3FN has
#   it from 0.0146484375 to just below 2^-6, f8E5M2 just below 2^-14: there, too, the result is 0.
# Versions: iree-base-compiler and iree-base-runtime 3.13.0, llvm-cpu (target cpu generic). Seen 2026-11-28.
# Who minds: who quantises to MXFP4 in a compiled graph: after scaling, weights of 0.75 to 1 scale units occur in nearly
#   every block, and all of them vanish.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q iree-base-compiler==3.13.0 iree-base-runtime==3.13.0 numpy==2.4.6 ml_dtypes==0.6.0
"$tmp/v/bin/python" - <<'PY'
import warnings; warnings.simplefilter("ignore")
import numpy as np, ml_dtypes
from importlib.metadata import version
from iree import compiler, runtime

def build(body, n, src, dst):
    text = f"""
    func.func @f(%a: tensor<{n}x{src}>) -> tensor<{n}x{dst}> {{
      %e = tensor.empty() : tensor<{n}x{dst}>
      %r = linalg.generic {{indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}}
          ins(%a : tensor<{n}x{src}>) outs(%e : tensor<{n}x{dst}>) {{
      ^bb0(%x: {src}, %o: {dst}):
        {body}
        linalg.yield %y : {dst}
      }} -> tensor<{n}x{dst}>
      return %r : tensor<{n}x{dst}>
    }}"""
    vm = compiler.compile_str(text, target_backends=["llvm-cpu"], extra_args=["--iree-llvmcpu-target-cpu=generic"])
    ctx = runtime.SystemContext(config=runtime.Config("local-task"))
    ctx.add_vm_module(runtime.VmModule.copy_buffer(ctx.instance, vm))
    return ctx.modules.module.f

x = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
x = x[np.abs(x) <= 4]                                    # every bfloat16 value up to 4
def differ(t, bits, dtype):
    wide = "" if bits == 8 else "%y = arith.extui %b : i4 to i8"
    f = build(f"%t = arith.truncf %x : f32 to {t}\n%{'y' if bits == 8 else 'b'} = arith.bitcast %t : {t} to i{bits}\n{wide}", len(x), "f32", "i8")
    got, want = f(x).to_host().view(np.uint8), x.astype(dtype).view(np.uint8)
    bad = got != want
    return np.abs(x[bad]), {int(v) for v in got[bad]}
def show(t, bits, dtype):
    v, codes = differ(t, bits, dtype)
    print(f"  {t}: {len(v)} of {len(x)} bfloat16 values differ from ml_dtypes: |x| from {v.min()} to {v.max()}, codes {sorted(codes)}")
    return len(v), float(v.min()), float(v.max()), codes
print("iree", version("iree-base-compiler"), "ml_dtypes", ml_dtypes.__version__)
assert show("f4E2M1FN", 4, ml_dtypes.float4_e2m1fn) == (128, 0.75, 0.99609375, {0, 8})
n, low, high, codes = show("f8E4M3FN", 8, ml_dtypes.float8_e4m3fn)
assert n == 32 and low == 0.0146484375 and high < 2.0**-6 and codes == {0, 128}
n, low, high, codes = show("f8E5M2", 8, ml_dtypes.float8_e5m2)
assert n == 64 and low == 0.875 * 2.0**-14 and high < 2.0**-14 and codes == {0, 128}
PY

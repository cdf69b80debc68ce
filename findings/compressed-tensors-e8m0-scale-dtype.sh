#!/usr/bin/env bash
# compressed-tensors accepts scale_dtype float8_e8m0fnu for MXFP4 and then takes the logarithm twice.
#
# Expected: safetensors has F8_E8M0 and torch has float8_e8m0fnu for exactly this byte; QuantizationArgs accepts the type as
#   scale_dtype. OCP MX v1.0: scale 0.5 is byte 126. A round trip keeps weights that are exact in MXFP4.
# Happens:  the compressor computes the exponent 126 as a number and casts that NUMBER to E8M0: 126 is near 128, byte 134.
#   decompress of the same dict reads 128 as the biased exponent: [1, 2] comes back as [4, 8]. A checkpoint whose
#   scales are stored as F8_E8M0 (DeepSeek's way) with scale 2.0, byte 128, decompresses as if the byte were 2:
#   about 2^-125. The same bytes typed uint8 are right. No error anywhere.
# Versions: compressed-tensors 0.20.1, torch 2.15.0 (CPU). Seen 2026-11-28.
# Who minds: who joins a checkpoint with typed scales to this library, or asks for typed scales in config.json: all weights
#   are off by powers of two. View the scales as uint8 first.
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

e8, u8 = torch.float8_e8m0fnu, torch.uint8
scheme = preset_name_to_scheme("MXFP4A16", ["Linear"])
args = type(scheme.weights)(**{**scheme.weights.model_dump(), "scale_dtype": "torch.float8_e8m0fnu"})
typed = scheme.model_copy(update={"weights": args})
w = torch.zeros(1, 32); w[0, 0], w[0, 1] = 1.0, 2.0
def trip(s):
    c = C.compress({"weight": w, "weight_scale": torch.tensor([[0.5]])}, s)
    return c["weight_scale"].view(u8).item(), C.decompress(c, s)["weight"][0, :2].float().tolist()
def read(scale):
    return C.decompress({"weight_packed": torch.full((1, 16), 0x22, dtype=u8), "weight_scale": scale}, scheme)["weight"][0, 0].item()
byte = torch.tensor([[128]], dtype=u8)
print("compressed-tensors", compressed_tensors.__version__, "torch", torch.__version__)
print("  scale_dtype accepted:", args.scale_dtype)
print("  [1, 2] with scale 0.5: uint8", trip(scheme), " float8_e8m0fnu", trip(typed), " (byte, weights back)")
print("  code 1.0 under byte 128: uint8", read(byte), " float8_e8m0fnu", read(byte.view(e8)))
assert args.scale_dtype == e8
assert trip(scheme) == (126, [1.0, 2.0])
assert trip(typed) == (134, [4.0, 8.0])
assert read(byte) == 2.0 and read(byte.view(e8)) == 2.0**-125
PY

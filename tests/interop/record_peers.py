#!/usr/bin/env python3
# tests/interop/record_peers.py -- runs pinned releases of other programs and records what they write and read.
# SPDX-License-Identifier: Apache-2.0
"""record_peers.py [--check] VECTORS [PEER ...]

Makes an environment for each peer in a temporary folder (run.py), runs the peer in it, and writes into VECTORS/selected
the blocks that it encodes and into VECTORS/exhaustive the weights that it reads. With --check nothing is written: exit
code 1 where a peer gives other bytes than the recorded ones. 77 where an environment cannot be made.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve()
SKIPPED = 77
NUMPY = "numpy==2.4.6"
TORCH = [NUMPY, "torch==2.15.0"]


# ---- inputs ---------------------------------------------------------------------------------------------------------

def selected(vectors):
    """The first 22 blocks of each category of dev: numbers of the blocks, ascending."""
    import numpy as np
    category = np.fromfile(vectors / "dev/category.u8", np.uint8)
    return np.sort(np.concatenate([np.flatnonzero(category == c)[:22] for c in range(12)])).astype(np.uint16)


def inputs(vectors, dtype):
    """The selected blocks, [n, 32]: float32, or the patterns of bf16 and f16 as uint16."""
    import numpy as np
    all_blocks = np.fromfile(vectors / f"dev/inputs.{dtype}", np.float32 if dtype == "f32" else np.uint16)
    return all_blocks.reshape(-1, 32)[selected(vectors)]


def save_blocks(out, name, scale, packed):
    import numpy as np
    scale, packed = np.ascontiguousarray(scale, np.uint8).ravel(), np.ascontiguousarray(packed, np.uint8)
    assert packed.size == 16 * scale.size, (name, scale.shape, packed.shape)
    folder = out / "selected"
    folder.mkdir(parents=True, exist_ok=True)
    scale.tofile(folder / f"{name}.scale.u8")
    packed.tofile(folder / f"{name}.packed.u8")


def save_weights(out, name, values):
    """[256, 16], bf16 patterns: no reader has a weight that bf16 does not hold."""
    import numpy as np
    words = np.ascontiguousarray(values, np.float32).view(np.uint32).reshape(256, 16)
    assert not np.any(words & 0xFFFF), name
    folder = out / "exhaustive"
    folder.mkdir(parents=True, exist_ok=True)
    (words >> 16).astype(np.uint16).tofile(folder / f"decode_{name}.bf16")


def every_code():
    """One block for each scale byte: codes 0 to 15 twice, [256, 16] packed, low nibble first."""
    import numpy as np
    codes = np.arange(16, dtype=np.uint8)
    return np.tile(codes[0::2] | codes[1::2] << 4, (256, 2))


# ---- MLX ------------------------------------------------------------------------------------------------------------

def mlx_blocks(vectors, out, name, dtype):
    import mlx.core as mx
    import numpy as np
    x = mx.array(inputs(vectors, dtype))
    x = {"f32": x, "bf16": mx.view(x, mx.bfloat16), "f16": mx.view(x, mx.float16)}[dtype]
    words, scale = mx.quantize(x, mode="mxfp4")
    save_blocks(out, f"{name}_{dtype}", np.array(scale), np.array(words).view(np.uint8))


def mlx(vectors, out):
    """mx.quantize on the CPU, and what mx.dequantize makes of every code under every byte."""
    import mlx.core as mx
    import numpy as np
    for dtype in ("f32", "bf16", "f16"):
        mlx_blocks(vectors, out, "mlx", dtype)
    words = mx.array(every_code().view(np.uint32))
    weights = mx.dequantize(words, mx.array(np.arange(256, dtype=np.uint8)[:, None]), mode="mxfp4", dtype=mx.float32)
    save_weights(out, "mlx", np.array(weights)[:, :16])


def mlx_0_32_1(vectors, out):
    """The older rule, and for each exponent field from 4 to 254 the least float whose scale goes up."""
    import mlx.core as mx
    import numpy as np
    mlx_blocks(vectors, out, "mlx_0_32_1", "f32")

    def scales(amax):
        x = np.zeros((amax.size, 32), np.float32)
        x[:, 0] = amax
        return np.array(mx.quantize(mx.array(x), mode="mxfp4")[1]).ravel().astype(int)
    thresholds = []
    for exponent in range(4, 255):
        bits = np.arange(0x07C300, 0x07C480, dtype=np.uint32) | np.uint32(exponent << 23)
        up = scales(bits.view(np.float32)) - (exponent - 3)
        assert up[0] == 0 and up[-1] == 1 and np.all(np.diff(up) >= 0), exponent
        thresholds.append(bits[np.argmax(up)])
    np.array(thresholds, np.uint32).tofile(out / "exhaustive/mlx_0_32_1_threshold_bits.u32")


METAL = r"""
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#define thread
#define constant
typedef _Float16 half;
typedef _Float16 float16_t;
#define ushort std::uint16_t
struct bfloat16_t { std::uint16_t bits; bfloat16_t() = default; bfloat16_t(_Float16) : bits(0) {} };
namespace metal {
using std::abs; using std::isfinite; using std::isnan; using std::log2; using std::round; using std::signbit;
}
template <class To, class From>
To as_type(From x) {
  To y;
  static_assert(sizeof y == sizeof x);
  std::memcpy(&y, &x, sizeof y);
  return y;
}
#include "fp8.h"
#include "fp4.h"
int main() {  // fp_quantize for one group of 32: the maximum of a SIMD group ignores NaN
  float x[32];
  while (std::fread(x, 4, 32, stdin) == 32) {
    float largest = NAN;
    for (float v : x) largest = std::fmax(largest, std::fabs(v));
    fp8_e8m0 s(mx_scale_round_up(largest / F4E2M1_MAX));
    const float scale = float(s), inverse = scale == 0 ? 0.0f : 1.0f / scale;
    std::uint8_t block[17] = {s.bits};
    for (int i = 0; i < 32; ++i) block[1 + i / 2] |= std::uint8_t(fp4_e2m1(x[i] * inverse).bits << (i % 2 * 4));
    std::fwrite(block, 1, 17, stdout);
  }
}
"""


def mlx_metal(vectors, out):
    """The conversions of the Metal kernels, whose headers the package carries, compiled for the CPU; the loop restated."""
    import mlx.core
    import numpy as np
    headers = pathlib.Path(mlx.core.__file__).parent / "include/mlx/backend/metal/kernels"
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder) / "metal.cpp", pathlib.Path(folder) / "metal"
        source.write_text(METAL)
        subprocess.run(["g++", "-std=c++17", "-O1", "-w", f"-I{headers}", source, "-o", program], check=True)
        x = inputs(vectors, "f32").tobytes()
        blocks = subprocess.run([program], input=x, capture_output=True, check=True).stdout
    blocks = np.frombuffer(blocks, np.uint8).reshape(-1, 17)
    save_blocks(out, "mlx_metal_f32", blocks[:, 0], blocks[:, 1:])


# ---- OpenVINO and nncf ----------------------------------------------------------------------------------------------

def nncf(vectors, out):
    """compress_weights of a MatMul, as it takes tensors of 10000 numbers and more, and as it takes smaller ones."""
    import nncf as library
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op

    def compressed(x):
        p = op.parameter([1, x.shape[1]], np.float32)
        model = ov.Model([op.result(op.matmul(p, op.constant(x), False, True))], [p])
        model = library.compress_weights(model, mode=library.CompressWeightsMode.MXFP4, all_layers=True, group_size=32)
        constants = {str(o.get_element_type()): o.data for o in model.get_ops() if o.get_type_name() == "Constant"}
        of = {kind: np.array(constants[f"<Type: '{kind}'>"]).view(np.uint8) for kind in ("f8e8m0", "f4e2m1")}
        return of["f8e8m0"].ravel(), of["f4e2m1"].reshape(-1, 16)
    x = inputs(vectors, "f32")
    rows = -(-10000 // x.size)
    scale, packed = compressed(np.tile(x, (rows, 1)))
    save_blocks(out, "nncf_f32", scale[:len(x)], packed[:len(x)])
    small = [compressed(part) for part in np.split(x, range(64, len(x), 64))]
    save_blocks(out, "nncf_small_f32", np.concatenate([s for s, _ in small]), np.concatenate([p for _, p in small]))


def openvino(vectors, out):
    """Every code under every byte: as weights of a MatMul, by one-hot inputs, and with scales that a Parameter becomes.
    A MatMul adds up zeros, so that it shows no -0."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op
    codes, scales = every_code(), np.arange(256, dtype=np.uint8)     # a Constant does not own its bytes
    values = op.convert(op.constant(ov.Tensor(codes, ov.Shape([256, 32]), ov.Type.f4e2m1)), "f32")

    def run(result, parameter, feed):
        core = ov.Core()
        model = ov.Model([op.result(result)], [parameter])
        model = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return [np.array(model([x])[0]) for x in feed]
    factors = op.convert(op.constant(ov.Tensor(scales, ov.Shape([256, 1]), ov.Type.f8e8m0)), "f32")
    p = op.parameter([1, 32], np.float32)
    rows = run(op.matmul(p, op.multiply(values, factors), False, True), p, np.eye(32, dtype=np.float32)[:16, None])
    save_weights(out, "openvino_matmul", np.stack([row[0] for row in rows], axis=1))
    p = op.parameter([256, 1], np.float32)
    powers = np.append(np.ldexp(1.0, np.arange(255) - 127), np.nan).astype(np.float32)[:, None]
    product = op.multiply(values, op.convert(op.convert(p, "f8e8m0"), "f32"))
    save_weights(out, "openvino_parameter", run(product, p, [powers])[0][:, :16])


# ---- torch ----------------------------------------------------------------------------------------------------------

def torch_inputs(vectors, dtype):
    import numpy as np
    import torch
    x = inputs(vectors, dtype)
    if dtype == "f32":
        return torch.from_numpy(x)
    return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16 if dtype == "bf16" else torch.float16)


def torchao(vectors, out):
    """to_mx, eager, in its four modes; and what MXTensor.dequantize makes of every code under every byte."""
    import numpy as np
    import torch
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import to_dtype, to_mx
    for mode in ScaleCalculationMode:
        scale, packed = to_mx(torch_inputs(vectors, "f32"), torch.float4_e2m1fn_x2, 32, mode)
        save_blocks(out, f"torchao_0_18_0_{mode.name.lower()}_f32", scale.view(torch.uint8).numpy(),
                    packed.view(torch.uint8).numpy())
    scale = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(torch.float8_e8m0fnu)[:, None]
    weights = to_dtype(torch.from_numpy(every_code()), scale, torch.float4_e2m1fn_x2, 32, torch.float32)
    save_weights(out, "torchao_0_18_0", np.ascontiguousarray(weights.numpy()[:, :16]))


def transformers(vectors, out):
    """convert_moe_packed_tensors: how transformers loads gpt_oss without a kernel for MXFP4."""
    import numpy as np
    import torch
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    blocks = torch.from_numpy(every_code()).reshape(1, 256, 1, 16)
    scales = torch.arange(256, dtype=torch.int32).to(torch.uint8).reshape(1, 256, 1)
    weights = convert_moe_packed_tensors(blocks, scales)      # [1, 32, 256]
    save_weights(out, "transformers_gpt_oss", weights[0].T.float().numpy()[:, :16])


def compressed_tensors(vectors, out):
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import preset_name_to_scheme
    compressor = BaseCompressor.get_value_from_registry("mxfp4-pack-quantized")
    scale = torch.arange(256, dtype=torch.int32).to(torch.uint8)[:, None]
    state = {"weight_packed": torch.from_numpy(every_code()), "weight_scale": scale}
    weights = compressor.decompress(state, preset_name_to_scheme("MXFP4A16", ["Linear"]))["weight"]
    save_weights(out, "compressed_tensors_0_20_1", weights.float().numpy()[:, :16])


def quark(vectors, out):
    """A Linear under OCP_MXFP4Spec: quantised, frozen, and packed as the export does."""
    import torch
    from quark.torch import ModelQuantizer
    from quark.torch.export.nn.modules.qparamslinear import QParamsLinear
    from quark.torch.quantization.config.config import OCP_MXFP4Spec, QConfig, QLayerConfig
    layer = QLayerConfig(weight=OCP_MXFP4Spec(ch_axis=-1, is_dynamic=False).to_quantization_spec())
    for dtype in ("f32", "bf16", "f16"):
        x = torch_inputs(vectors, dtype)
        model = torch.nn.Sequential(torch.nn.Linear(32, len(x), bias=False, dtype=x.dtype))
        model[0].weight.data = x.clone()
        quantizer = ModelQuantizer(QConfig(global_quant_config=layer))
        model = quantizer.freeze(quantizer.quantize_model(model, None))
        state = QParamsLinear.from_module(model[0], custom_mode="quark", pack_method="order").state_dict()
        save_blocks(out, f"quark_{dtype}", state["weight_quantizer.scale"].numpy(), state["weight"].numpy())


def auto_round(vectors, out):
    """quant_mx, which rounds to nearest, and the packing of its export."""
    import torch
    from auto_round.data_type.mxfp import quant_mx
    from auto_round.export.export_to_autoround.qlinear_fp import QuantLinear
    for dtype in ("f32", "bf16", "f16"):
        x = torch_inputs(vectors, dtype)
        weight, exponent, _ = quant_mx(x.clone(), bits=4, group_size=32, data_type="mx_fp")
        linear = torch.nn.Linear(32, len(x), bias=False, dtype=x.dtype)
        linear.weight.data = weight.reshape(x.shape)
        packed = QuantLinear(4, 32, 32, len(x), False, data_type="mx_fp")
        packed.pack(linear, exponent.reshape(-1, 1))
        save_blocks(out, f"auto_round_{dtype}", packed.weight_scale.numpy(), packed.weight_packed.numpy())


PEERS = {
    "mlx": (["mlx[cpu]==0.32.2", "mlx-cpu==0.32.2", NUMPY], mlx),
    "mlx_0_32_1": (["mlx[cpu]==0.32.1", "mlx-cpu==0.32.1", NUMPY], mlx_0_32_1),
    "mlx_metal": (["mlx[cpu]==0.32.2", "mlx-cpu==0.32.2", NUMPY], mlx_metal),
    "nncf": (["nncf==3.4.0", "openvino==2026.4.1", NUMPY], nncf),
    "openvino": (["openvino==2026.4.1", NUMPY], openvino),
    "torchao": (TORCH + ["torchao==0.18.0"], torchao),
    "transformers": (TORCH + ["transformers==5.24.0"], transformers),
    "quark": (TORCH + ["amd-quark==0.13", "transformers==5.24.0", "accelerate==1.15.0"], quark),
    "auto_round": (TORCH + ["auto-round==0.16.1", "transformers==5.24.0"], auto_round),
    "compressed_tensors": (TORCH + ["compressed-tensors==0.20.1"], compressed_tensors),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--here", metavar="OUT", type=pathlib.Path, help="run the peers in this very environment")
    parser.add_argument("vectors", type=pathlib.Path)
    parser.add_argument("peer", nargs="*", choices=[[], *PEERS])
    options = parser.parse_args()
    names = options.peer or list(PEERS)
    if options.here:
        for name in names:
            PEERS[name][1](options.vectors, options.here)
        return 0
    different = 0
    with tempfile.TemporaryDirectory(prefix="mxfp4-record-") as folder:
        out = pathlib.Path(folder) if options.check else options.vectors
        for name in names:
            code = subprocess.run([sys.executable, HERE.with_name("run.py"), "--packages", *PEERS[name][0], "--", HERE,
                                   "--here", out, options.vectors, name]).returncode
            if code != 0:
                return code
        for made in sorted(out.glob("*/*")) if options.check else []:
            recorded = options.vectors / made.relative_to(out)
            if not recorded.exists() or made.read_bytes() != recorded.read_bytes():
                print(f"{made.relative_to(out)}: not the recorded bytes")
                different += 1
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# tests/interop/record_narrow.py -- what other programs make of their own weights of few bits, as vectors.
# SPDX-License-Identifier: Apache-2.0
"""record_narrow.py VECTORS

Writes VECTORS/narrow/<case>.safetensors: the tensors as the program stores them (or as its compressor has written them),
and "expected" BF16, what its own code reads them as. Versions are in the metadata. Run in an environment with

    torch==2.15.0 compressed-tensors==0.20.1 nvidia-modelopt==0.47.0 amd-quark==0.13 auto-round==0.16.1
    transformers==5.24.0 accelerate==1.15.0 safetensors numpy

No package writes DeepSeek-V4's form: its codes and scales are random, and transformers reads them.
"""
import importlib.metadata
import pathlib
import sys

import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file

ROWS, COLS = 48, 192  # neither a multiple of 128


def weights(dtype=torch.bfloat16):
    return (torch.randn(ROWS, COLS) * torch.exp2(torch.randint(-6, 3, (ROWS, 1)))).to(dtype)


def save(folder, case, package, tensors, expected):
    version = importlib.metadata.version(package)
    tensors = {f"a.{name}": t.contiguous() for name, t in tensors.items()}
    tensors["expected"] = expected.to(torch.bfloat16).contiguous()
    save_file(tensors, folder / f"{case}.safetensors", {"format": "pt", package: version})
    print(f"{case}: {package} {version}")


def compressed_tensors(folder, case, format, scale, dtype=torch.bfloat16, extra=None, **args):
    """Its compressor writes the tensors, and reads them again."""
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(symmetric=True, **args))
    compressor = BaseCompressor.get_value_from_registry(format)
    state = {"weight": weights(dtype), "weight_scale": scale, **(extra or {})}
    stored = compressor.compress(state, scheme)
    read = compressor.decompress(dict(stored), scheme)["weight"]
    save(folder, case, "compressed-tensors", stored, read)


def int_quantized(folder):
    """A byte for a code. With a seed of its own: it may be recorded alone."""
    torch.manual_seed(20261130)
    random = torch.Generator().manual_seed(20261130)
    rand = lambda *shape: torch.rand(shape, generator=random) * 0.003 + 0.0006
    int8 = dict(num_bits=8, type="int")
    compressed_tensors(folder, "int8_bytes_channel", "int-quantized", rand(ROWS, 1).to(torch.bfloat16),
                       strategy="channel", **int8)
    compressed_tensors(folder, "int8_bytes_channel_f32", "int-quantized", rand(ROWS, 1), torch.float32,
                       strategy="channel", **int8)
    compressed_tensors(folder, "int8_bytes_channel_f16", "int-quantized", rand(ROWS, 1).to(torch.float16),
                       torch.float16, strategy="channel", **int8)
    compressed_tensors(folder, "int8_bytes_tensor", "int-quantized", rand(1).to(torch.bfloat16), strategy="tensor",
                       **int8)
    compressed_tensors(folder, "int8_bytes_group", "int-quantized", rand(ROWS, COLS // 64).to(torch.bfloat16),
                       strategy="group", group_size=64, **int8)


def modelopt_nvfp4(folder):
    from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor
    quantized, scale, scale_2 = NVFP4QTensor.quantize(weights(), 16)
    read = quantized.dequantize(scale=scale, double_scale=scale_2, block_sizes={-1: 16}, dtype=torch.bfloat16)
    save(folder, "nvfp4_modelopt", "nvidia-modelopt",
         {"weight": quantized._quantized_data, "weight_scale": scale, "weight_scale_2": scale_2}, read)


def modelopt_mxfp4(folder):
    from modelopt.torch.quantization.qtensor.mxfp4_tensor import MXFP4QTensor
    quantized, scale = MXFP4QTensor.quantize(weights(), 32)
    read = quantized.dequantize(scale=scale, block_sizes={-1: 32}, dtype=torch.bfloat16)
    save(folder, "mxfp4_modelopt", "nvidia-modelopt",
         {"weight": quantized._quantized_data, "weight_scale": scale.reshape(ROWS, COLS // 32)}, read)


def quark_mxfp4(folder):
    """A Linear as its export packs it; expected is what the frozen layer multiplies with."""
    from quark.torch import ModelQuantizer
    from quark.torch.export.nn.modules.qparamslinear import QParamsLinear
    from quark.torch.quantization.config.config import OCP_MXFP4Spec, QConfig, QLayerConfig
    layer = QLayerConfig(weight=OCP_MXFP4Spec(ch_axis=-1, is_dynamic=False).to_quantization_spec())
    model = torch.nn.Sequential(torch.nn.Linear(COLS, ROWS, bias=False, dtype=torch.bfloat16))
    model[0].weight.data = weights()
    quantizer = ModelQuantizer(QConfig(global_quant_config=layer))
    model = quantizer.freeze(quantizer.quantize_model(model, None))
    read = model(torch.eye(COLS, dtype=torch.bfloat16)).T
    state = QParamsLinear.from_module(model[0], custom_mode="quark", pack_method="order").state_dict()
    save(folder, "mxfp4_quark", "amd-quark",
         {"weight": state["weight"], "weight_scale": state["weight_quantizer.scale"].reshape(ROWS, COLS // 32)}, read)


def auto_round_mxfp4(folder):
    """quant_mx gives the weights, and its QuantLinear packs them."""
    from auto_round.data_type.mxfp import quant_mx
    from auto_round.export.export_to_autoround.qlinear_fp import QuantLinear
    read, exponent, _ = quant_mx(weights(), bits=4, group_size=32, data_type="mx_fp")
    linear = torch.nn.Linear(COLS, ROWS, bias=False, dtype=torch.bfloat16)
    linear.weight.data = read.reshape(ROWS, COLS)
    packed = QuantLinear(4, 32, COLS, ROWS, False, data_type="mx_fp")
    packed.pack(linear, exponent.reshape(ROWS, COLS // 32))
    save(folder, "mxfp4_auto_round", "auto-round",
         {"weight_packed": packed.weight_packed, "weight_scale": packed.weight_scale}, linear.weight.data)


def transformers_deepseek_v4(folder):
    """I8 and F8_E8M0, as the published checkpoint has its experts; what is asked for with dequantize=True."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize
    random = torch.Generator().manual_seed(20261129)
    codes = torch.randint(-128, 128, (ROWS, COLS // 2), dtype=torch.int8, generator=random)
    scales = torch.randint(1, 253, (ROWS, COLS // 32), dtype=torch.uint8, generator=random).view(torch.float8_e8m0fnu)
    read = Fp8Dequantize(None).convert({"weight": codes, "weight_scale_inv": scales})["weight"]
    save(folder, "mxfp4_deepseek_v4", "transformers", {"weight": codes, "scale": scales}, read)


def main(vectors):
    folder = pathlib.Path(vectors) / "narrow"
    folder.mkdir(exist_ok=True)
    torch.manual_seed(20261129)
    rand = lambda *shape: torch.rand(shape) * 0.05 + 0.01
    for name, dtype in dict(bf16=torch.bfloat16, f16=torch.float16, f32=torch.float32).items():
        compressed_tensors(folder, f"int4_{name}", "pack-quantized", rand(ROWS, COLS // 32).to(dtype), dtype,
                           num_bits=4, type="int", strategy="group", group_size=32)
    compressed_tensors(folder, "int4_channel", "pack-quantized", rand(ROWS, 1).to(torch.bfloat16),
                       num_bits=4, type="int", strategy="channel")
    compressed_tensors(folder, "int8_group", "pack-quantized", rand(ROWS, COLS // 64).to(torch.bfloat16) / 16,
                       num_bits=8, type="int", strategy="group", group_size=64)
    float8 = dict(num_bits=8, type="float")
    compressed_tensors(folder, "fp8_tensor", "float-quantized", rand(1) / 16, torch.float32, strategy="tensor", **float8)
    compressed_tensors(folder, "fp8_tensor_bf16", "float-quantized", (rand(1) / 16).to(torch.bfloat16),
                       strategy="tensor", **float8)
    compressed_tensors(folder, "fp8_channel", "float-quantized", rand(ROWS, 1).to(torch.bfloat16) / 16,
                       strategy="channel", **float8)
    compressed_tensors(folder, "fp8_block", "float-quantized", rand(1, 2) / 16, torch.float32,
                       strategy="block", block_structure=[128, 128], **float8)
    compressed_tensors(folder, "fp8_block_bf16", "float-quantized", (rand(1, 2) / 16).to(torch.bfloat16),
                       strategy="block", block_structure=[128, 128], **float8)
    compressed_tensors(folder, "mxfp8", "mxfp8-quantized", torch.exp2(torch.randint(-8, -4, (ROWS, COLS // 32))),
                       strategy="group", group_size=32, scale_dtype=torch.uint8, **float8)
    compressed_tensors(folder, "nvfp4", "nvfp4-pack-quantized", rand(ROWS, COLS // 16) * 900, torch.bfloat16,
                       {"weight_global_scale": torch.tensor([1234.5])},
                       num_bits=4, type="float", strategy="tensor_group", group_size=16)
    compressed_tensors(folder, "mxfp4", "mxfp4-pack-quantized", torch.exp2(torch.randint(-8, 0, (ROWS, COLS // 32))),
                       num_bits=4, type="float", strategy="group", group_size=32, scale_dtype=torch.uint8)
    modelopt_nvfp4(folder)
    modelopt_mxfp4(folder)
    quark_mxfp4(folder)
    auto_round_mxfp4(folder)
    transformers_deepseek_v4(folder)
    int_quantized(folder)


if __name__ == "__main__":
    main(sys.argv[1])

# tests/interop/check_torch.py -- compressed-tensors and transformers on what we write; their answers as vectors.
# SPDX-License-Identifier: Apache-2.0
"""check_torch.py MXFP4 MXFP4_GENERATE [RECORD]

A small MiniMax-M2 in FP8 through our quantize and dequantize. compressed-tensors makes the same bytes of the same weights,
and the same BF16 of the bytes; transformers loads the checkpoint and has those weights. With RECORD, a folder: weights of
every size in three types, with what compressed-tensors makes of them, and hashes of the two checkpoints are written there.
"""
import json
import pathlib
import sys
import tempfile

import ml_dtypes
import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file

from common import load, print_versions, require, run

SCHEME = preset_name_to_scheme("MXFP4A16", ["Linear"])
COMPRESSOR = BaseCompressor.get_value_from_registry("mxfp4-pack-quantized")


def compress(weight):
    """Scales as an observer finds them, then the compressor: {weight_packed, weight_scale}."""
    groups = weight.reshape(weight.shape[0], -1, 32)
    scale, _ = calculate_qparams(groups.amin(-1), groups.amax(-1), SCHEME.weights)
    return COMPRESSOR.compress({"weight": weight, "weight_scale": scale}, SCHEME)


def decompress(packed, scale):
    return COMPRESSOR.decompress({"weight_packed": packed, "weight_scale": scale}, SCHEME)["weight"]


def tensor(array):
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def widen(fp8, scales):
    """bf16(w * scale), as every reader of FP8 blocks does it."""
    scales = np.repeat(np.repeat(scales, 128, axis=0), 128, axis=1)[: fp8.shape[0], : fp8.shape[1]]
    return (fp8.astype(np.float32) * scales).astype(ml_dtypes.bfloat16)


def digest(tensors):
    """FNV-1a, 64 bits, over names and bytes in the order of the names: what interop.golden.test.cpp computes."""
    value = 0xCBF29CE484222325
    for name in sorted(tensors):
        for byte in name.encode() + tensors[name].tobytes():
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def check_library(source, checkpoint, dequantized):
    found = 0
    for name in checkpoint:
        if not name.endswith("_packed"):
            continue
        base = name[: -len("_packed")]
        theirs = compress(tensor(widen(source[base], source[base + "_scale_inv"])))
        require(theirs["weight_packed"].numpy().tobytes() == checkpoint[name].tobytes(), f"{name}: other codes")
        require(theirs["weight_scale"].numpy().tobytes() == checkpoint[base + "_scale"].tobytes(), f"{base}: other scales")
        weight = decompress(tensor(checkpoint[name]), tensor(checkpoint[base + "_scale"]))
        require(weight.dtype == torch.bfloat16, f"{base}: decompressed to {weight.dtype}")
        require(weight.view(torch.int16).numpy().tobytes() == dequantized[base].tobytes(), f"{base}: other BF16")
        found += 1
    require(found > 0, "nothing was quantised")
    return found


def check_transformers(folder, dequantized):
    """The model loads, and its experts hold our BF16."""
    from transformers import AutoConfig, AutoModelForCausalLM, CompressedTensorsConfig

    config = AutoConfig.from_pretrained(folder)
    parsed = CompressedTensorsConfig.from_dict(dict(config.quantization_config))
    require(parsed.quantization_config.format == "mxfp4-pack-quantized", "quantization_config was not understood")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=CompressedTensorsConfig(dequantize=True))
    state, found = model.state_dict(), 0
    for name, theirs in state.items():
        if not name.endswith("experts.gate_up_proj"):
            continue
        layer = name.split(".")[2]
        prefix = f"model.layers.{layer}.block_sparse_moe.experts"
        for e in range(theirs.shape[0]):
            ours = np.concatenate([dequantized[f"{prefix}.{e}.{part}.weight"] for part in ("w1", "w3")])
            require(theirs[e].view(torch.int16).numpy().tobytes() == ours.tobytes(), f"{name}[{e}]: other weights")
            down = state[name.replace("gate_up_proj", "down_proj")][e]
            require(down.view(torch.int16).numpy().tobytes() == dequantized[f"{prefix}.{e}.w2.weight"].tobytes(),
                    f"{name}[{e}]: other down_proj")
            found += 1
    require(found > 0, "the model has no experts under the names expected: " + ", ".join(list(state)[:20]))
    logits = model(torch.arange(8).reshape(1, 8)).logits
    require(bool(torch.isfinite(logits).all()), "the model's logits are not finite")
    return found


def record(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20261123)
    shape = (24, 256)
    values = rng.standard_normal(shape) * np.exp2(rng.integers(-12, 8, (shape[0], shape[1] // 32)).repeat(32, axis=1))
    values[rng.random(shape) < 0.05] = 0.0
    values[rng.random(shape) < 0.05] = -0.0
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0]) * 0.125
    values[:4] = rng.choice(ties, (4, shape[1])) * rng.choice([-1.0, 1.0], (4, shape[1]))
    values[4, :32], values[4, 32:64] = 0.0, -0.0  # whole blocks
    inputs, outputs = {}, {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16), ("f16", torch.float16)):
        weight = torch.from_numpy(values).to(dtype)
        answer = compress(weight)
        inputs[f"{name}.weight"] = weight
        for part in ("weight_packed", "weight_scale"):
            outputs[f"{name}.{part}"] = answer[part].contiguous()
        outputs[f"{name}.weight"] = decompress(answer["weight_packed"], answer["weight_scale"]).contiguous()
    save_file(inputs, folder / "weights.safetensors")
    save_file(outputs, folder / "compressed_tensors.safetensors")


def main():
    mxfp4, generate = sys.argv[1:3]
    print_versions("torch", "compressed-tensors", "transformers", "safetensors", "ml_dtypes", "numpy")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run(generate, "--checkpoint", folder / "source")
        run(mxfp4, "quantize", folder / "source", folder / "mxfp4")
        run(mxfp4, "dequantize", folder / "mxfp4", folder / "bf16")
        source, checkpoint, dequantized = (load(folder / n) for n in ("source", "mxfp4", "bf16"))
        print(f"compressed-tensors: {check_library(source, checkpoint, dequantized)} weights, both ways")
        print(f"transformers: {check_transformers(folder / 'mxfp4', dequantized)} experts")
        config = json.loads((folder / "mxfp4" / "config.json").read_text())
    answer = {"mxfp4": digest(checkpoint), "bf16": digest(dequantized)}
    print(answer)
    if len(sys.argv) > 3:
        recorded = pathlib.Path(sys.argv[3])
        record(recorded)
        answer["quantization_config"] = config["quantization_config"]
        (recorded / "checkpoint.json").write_text(json.dumps(answer, indent=1) + "\n")


main()

# tests/interop/check_files.py -- every output opened by safetensors, ml_dtypes and gguf, and their numbers compared.
# SPDX-License-Identifier: Apache-2.0
"""check_files.py MXFP4 MXFP4_GENERATE [RECORD]

A small MiniMax-M2 through quantize, dequantize and every form of convert, and a file of gguf's own writer through ours.
With RECORD, a folder: that file and its numbers are written there.
"""
import pathlib
import shutil
import sys
import tempfile

import gguf
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from common import decode, load, print_versions, require, run, same_bits


def pairs(tensors):
    for name in tensors:
        if name.endswith("_packed"):
            base = name[: -len("_packed")]
            yield base, decode(tensors[name], tensors[base + "_scale"])


def check_bf16(checkpoint, dequantized):
    found = 0
    for name, values in pairs(checkpoint):
        ours = dequantized[name]
        require(ours.dtype == ml_dtypes.bfloat16 and same_bits(ours, values), f"{name}: other numbers than ml_dtypes")
        found += 1
    others = [name for name in checkpoint if not name.endswith(("_packed", "_scale"))]
    for name in others:
        require(checkpoint[name].tobytes() == dequantized[name].tobytes(), f"{name}: was not copied")
    require(found > 0 and len(dequantized) == found + len(others), "tensors are missing")
    return found


def check_fp8(dequantized, fp8):
    found = 0
    for name, tensor in fp8.items():
        if tensor.dtype != ml_dtypes.float8_e4m3fn:
            continue
        scales = np.repeat(np.repeat(fp8[name + "_scale_inv"], 128, axis=0), 128, axis=1)
        values = tensor.astype(np.float32) * scales[: tensor.shape[0], : tensor.shape[1]]
        require(same_bits(values, dequantized[name]), f"{name}: FP8 has other numbers")
        found += 1
    return found


def check_gguf(path, dequantized):
    found = 0
    for tensor in gguf.GGUFReader(path).tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        if tensor.tensor_type != gguf.GGMLQuantizationType.MXFP4:
            ours = dequantized[tensor.name]
            require(tensor.data.tobytes() == ours.tobytes(), f"{tensor.name}: was not copied")
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        prefix, part = tensor.name.rsplit(".", 2)[0], tensor.name.rsplit(".", 2)[1]
        stack = np.stack([dequantized[f"{prefix}.{e}.{part}.weight"] for e in range(shape[0])]).astype(np.float32)
        # ggml has no -0, and its reader in Python computes in float32 as ours does: equal as numbers.
        require(values.shape == stack.shape and bool(np.all(values == stack)), f"{tensor.name}: other numbers")
        found += 1
    return found


def check_theirs(mxfp4, folder, recorded):
    """A file that gguf's own writer made, read by ours."""
    rng = np.random.default_rng(1)
    weights = (rng.standard_normal((3, 16, 96)) * 0.02).astype(np.float32)
    norm = rng.standard_normal(96).astype(np.float32)
    writer = gguf.GGUFWriter(folder / "theirs.gguf", "toy")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", ""])
    writer.add_float32("some.number", 1.5)
    writer.add_bool("some.flag", True)
    blocks = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.MXFP4)
    writer.add_tensor("blk.0.ffn_gate_exps.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.MXFP4)
    writer.add_tensor("norm.weight", norm)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    run(mxfp4, "convert", "--to", "compressed-tensors", folder / "theirs.gguf", folder / "theirs.safetensors")
    ours = load(folder / "theirs.safetensors")
    values = dict(pairs(ours))["blk.0.ffn_gate_exps.weight"]
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.MXFP4).reshape(weights.shape)
    require(bool(np.all(values == expected)), "gguf's own file has other numbers")
    require(ours["norm.weight"].tobytes() == norm.tobytes(), "gguf's own file: norm.weight")
    if recorded is not None:
        shutil.copy(folder / "theirs.gguf", recorded / "gguf.gguf")
        save_file({"blk.0.ffn_gate_exps.weight": expected, "norm.weight": norm}, recorded / "gguf.safetensors")


def main():
    mxfp4, generate = sys.argv[1:3]
    print_versions("safetensors", "ml_dtypes", "gguf", "numpy")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run(generate, "--checkpoint", folder / "source")
        run(mxfp4, "quantize", folder / "source", folder / "mxfp4")
        run(mxfp4, "dequantize", folder / "mxfp4", folder / "bf16", "--max-shard-size", "500KB")
        checkpoint, dequantized = load(folder / "mxfp4"), load(folder / "bf16")
        print(f"quantize, dequantize: {check_bf16(checkpoint, dequantized)} weights")
        for form in ("stacked", "gpt-oss"):
            run(mxfp4, "convert", "--to", form, folder / "mxfp4", folder / form)
            load(folder / form)
            run(mxfp4, "convert", "--to", "compressed-tensors", folder / form, folder / (form + "-back"))
            back = load(folder / (form + "-back"))
            require({n: t.tobytes() for n, t in back.items()} == {n: t.tobytes() for n, t in checkpoint.items()},
                    f"{form}: other bytes after the way back")
        run(mxfp4, "convert", "--to", "block-fp8", folder / "mxfp4", folder / "fp8")
        print(f"block-fp8: {check_fp8(dequantized, load(folder / 'fp8'))} weights")
        run(mxfp4, "convert", "--to", "gguf", folder / "mxfp4", folder / "x.gguf")
        print(f"gguf: {check_gguf(folder / 'x.gguf', dequantized)} stacks")
        check_theirs(mxfp4, folder, pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None)


main()

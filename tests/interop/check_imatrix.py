# tests/interop/check_imatrix.py -- an importance matrix that gguf writes, under the names that gguf gives to weights.
# SPDX-License-Identifier: Apache-2.0
"""check_imatrix.py MXFP4 MODEL

MODEL is examples/minimax/model. Names come from gguf's TensorNameMap, the GGUF file from its GGUFWriter, the .dat file
from struct. For both, the error of some matrices, weighted, must be the least over all scales: numpy tries them.
"""
import pathlib
import struct
import sys
import tempfile

import gguf
import ml_dtypes
import numpy as np

from common import load, print_versions, require, run

LAYERS, EXPERTS, PARTS = 4, 16, {"w1": 192, "w2": 128, "w3": 192}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def importance_of(names, rng):
    """{llama.cpp's name: (sums of squares [experts, cols], tokens [experts])}"""
    found = {}
    for layer in range(LAYERS):
        for part, cols in PARTS.items():
            name = names.get_name(f"model.layers.{layer}.block_sparse_moe.experts.{part}")
            require(name is not None, f"gguf has no name for {part}")
            counts = rng.integers(1, 1000, EXPERTS)
            squares = np.exp(rng.normal(0, 2, (EXPERTS, cols)))
            found[name + ".weight"] = ((squares * counts[:, None]).astype(np.float32), counts)
    return found


def write_gguf(path, entries):
    writer = gguf.GGUFWriter(path, arch="", use_temp_file=False)
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["a text"])
    writer.add_uint32("imatrix.chunk_count", 10)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, (sums, counts) in entries.items():
        writer.add_tensor(name + ".in_sum2", sums)
        writer.add_tensor(name + ".counts", counts.astype(np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_dat(path, entries):
    calls = 10
    data = struct.pack("<i", len(entries))
    for name, (sums, counts) in entries.items():
        values = (sums / counts[:, None].astype(np.float32) * np.float32(calls)).astype("<f4")
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, values.size) + values.tobytes()
    path.write_bytes(data + struct.pack("<ii", calls, 6) + b"a text")


def error_of(w, q, weight):
    return (weight * (w - q) ** 2).reshape(w.shape[0], -1, 32).sum(-1)


def least_error(w, weight):
    """Of each block, over all scales."""
    least = np.full((w.shape[0], w.shape[1] // 32), np.inf)
    for exponent in range(-30, 10):
        scaled = np.abs(w) / 2.0**exponent
        nearest = E2M1[np.abs(scaled[..., None] - E2M1).argmin(-1)] * 2.0**exponent * np.sign(w)
        least = np.minimum(least, error_of(w, nearest, weight))
    return least


def decode(packed, scale):
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(packed.shape[0], -1)
    values = np.where(codes & 8, -1.0, 1.0) * E2M1[codes & 7]
    return values * np.repeat(2.0 ** (scale.astype(np.float64) - 127), 32, axis=1)


def original(tensors, name):
    w, scale = tensors[name].astype(np.float64), tensors[name + "_scale_inv"].astype(np.float64)
    wide = np.repeat(np.repeat(scale, 128, 0), 128, 1)[: w.shape[0], : w.shape[1]]
    return (w * wide).astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def main():
    program, model = sys.argv[1], pathlib.Path(sys.argv[2])
    print_versions("gguf", "numpy")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MINIMAXM2, LAYERS)
    rng = np.random.default_rng(1)
    entries = importance_of(names, rng)
    source = load(model)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_gguf(folder / "imatrix.gguf", entries)
        write_dat(folder / "imatrix.dat", entries)
        for form in ("gguf", "dat"):
            run(program, "quantize", model, folder / form, "--imatrix", folder / f"imatrix.{form}")
            run(program, "verify", folder / form, "--against", model)
            result = load(folder / form)
            for layer, expert, part in [(0, 0, "w1"), (1, 3, "w2"), (3, 15, "w3"), (2, 7, "w1")]:
                name = f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{part}.weight"
                sums, counts = entries[names.get_name(f"model.layers.{layer}.block_sparse_moe.experts.{part}") + ".weight"]
                squares = sums[expert].astype(np.float64) / counts[expert]
                weight = squares / squares.mean() + 0.01
                w = original(source, name)
                found = error_of(w, decode(result[name + "_packed"], result[name + "_scale"]), weight)
                require(np.all(found <= least_error(w, weight) * (1 + 1e-5)), f"{form}: {name} is not the least")
    print("an importance matrix of gguf's, and one in the older form: scales with the least weighted error")


if __name__ == "__main__":
    main()

# examples/minimax/checkpoint.py -- a trained model as a checkpoint in MiniMax-M2's own form.
# SPDX-License-Identifier: Apache-2.0
#
#   linears of attention and experts   F8_E4M3 [out, in], weight_scale_inv F32 [ceil(out/128), ceil(in/128)]: factors
#   embeddings, head, norms            BF16
#   router weight and bias             F32
#
# A shard a layer, and one for what is outside the layers; an index; config.json.
import json
import os
import struct

import numpy as np

BLOCK = 128
E4M3_MAX = 448.0
QUANTIZED = ("q_proj", "k_proj", "v_proj", "o_proj", "w1", "w2", "w3")
# The finite magnitudes of e4m3 in the order of their codes: 0, 2^-9, ..., 448.
E4M3 = np.array([np.ldexp(c & 7, -9) if c < 8 else np.ldexp(8 + (c & 7), (c >> 3) - 10) for c in range(127)])


def encode_e4m3(x):
    """Nearest, ties to the even code; saturates."""
    size = np.minimum(np.abs(x.astype(np.float64)), E4M3_MAX)
    above = np.clip(np.searchsorted(E4M3, size), 1, len(E4M3) - 1)
    down, up = size - E4M3[above - 1], E4M3[above] - size
    code = np.where((down < up) | ((down == up) & (above % 2 == 1)), above - 1, above)
    return (code | np.where(np.signbit(x), 128, 0)).astype(np.uint8)


def encode_bf16(x):
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def encode_fp8(w):
    """(codes, scales) of a matrix: each block of 128 x 128 is divided by its largest magnitude over 448."""
    rows, cols = w.shape
    scales = np.empty((-(-rows // BLOCK), -(-cols // BLOCK)), np.float32)
    codes = np.empty(w.shape, np.uint8)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            part = np.s_[i * BLOCK:(i + 1) * BLOCK, j * BLOCK:(j + 1) * BLOCK]
            scales[i, j] = np.abs(w[part]).max() / E4M3_MAX or 1.0
            codes[part] = encode_e4m3(w[part] / scales[i, j])
    return codes, scales


def tensors_of(model):
    """(name, dtype name, array) of everything the checkpoint holds."""
    for name, tensor in model.state_dict().items():
        x = tensor.numpy()
        if name.split(".")[-2] in QUANTIZED:
            codes, scales = encode_fp8(x)
            yield name, "F8_E4M3", codes
            yield name + "_scale_inv", "F32", scales
        elif "block_sparse_moe" in name:
            yield name, "F32", x.astype(np.float32)
        else:
            yield name, "BF16", encode_bf16(x)


def write_safetensors(path, tensors):
    tensors = sorted(tensors, key=lambda t: (-t[2].itemsize, t[0]))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, x in tensors:
        header[name] = dict(dtype=dtype, shape=list(x.shape), data_offsets=[offset, offset + x.nbytes])
        offset += x.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, x in tensors:
            file.write(np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<")).tobytes())


def export(model, config, folder):
    os.makedirs(folder, exist_ok=True)
    shards = {}
    for tensor in tensors_of(model):
        parts = tensor[0].split(".")
        shards.setdefault(int(parts[2]) + 1 if parts[1] == "layers" else 0, []).append(tensor)
    weight_map, total = {}, 0
    for number, tensors in sorted(shards.items()):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(os.path.join(folder, name), tensors)
        weight_map.update({tensor[0]: name for tensor in tensors})
        total += sum(tensor[2].nbytes for tensor in tensors)
    fp8 = dict(quant_method="fp8", fmt="float8_e4m3fn", activation_scheme="dynamic", weight_block_size=[BLOCK, BLOCK],
               modules_to_not_convert=["gate", "e_score_correction_bias", "lm_head"])
    for name, value in (("config.json", dict(config, quantization_config=fp8)),
                        ("model.safetensors.index.json",
                         dict(metadata=dict(total_size=total), weight_map=dict(sorted(weight_map.items()))))):
        with open(os.path.join(folder, name), "w") as file:
            json.dump(value, file, indent=2)
            file.write("\n")

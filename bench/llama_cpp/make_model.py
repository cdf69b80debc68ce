#!/usr/bin/env python3
# bench/llama_cpp/make_model.py -- four layers of gpt-oss-20b's shape with random weights: a GGUF and its twin.
# SPDX-License-Identifier: Apache-2.0
"""make_model.py FOLDER [--layers 4] [--vocabulary 201088] [--hidden 2880] [--experts 32] [--oracle TOKENS]

FOLDER/model.gguf is what llama.cpp runs, written by the gguf package; FOLDER/twin what `mxfp4 run` reads: the same
numbers in compressed-tensors form, experts' codes and scales byte for byte the same in another order. All else is BF16
in both. With --oracle FOLDER/oracle.npz has the first tokens of FOLDER/ids.json and what a forward pass in double, of
numpy alone, makes of the last of them: logits.
"""
import argparse
import json
import pathlib
import struct

import gguf
import numpy as np

BLOCK = 32
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
HEAD_DIM, HEADS, KV_HEADS, TOP_K, WINDOW = 64, 64, 8, 4, 128
THETA, FACTOR, ORIGINAL, BETA_FAST, BETA_SLOW, EPS, ALPHA, LIMIT = 150000.0, 32.0, 4096, 32.0, 1.0, 1e-5, 1.702, 7.0


def bf16(x):
    """Rounded to nearest even, as 16 bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widened(x):
    return (x.astype(np.uint32) << 16).view(np.float32)


class Weights:
    """Every tensor of the model by its published name: made when it is asked for, the same each time."""

    def __init__(self, options):
        self.o, self.made = options, (None, None)
        h, q, kv, e = options.hidden, HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, options.experts
        self.dense = {"model.embed_tokens.weight": ((options.vocabulary, h), 1.0), "model.norm.weight": ((h,), None),
                      "lm_head.weight": ((options.vocabulary, h), h**-0.5)}
        self.experts = {}
        for layer in range(options.layers):
            p = f"model.layers.{layer}."
            for name, shape, size in (("input_layernorm.weight", (h,), None), ("post_attention_layernorm.weight", (h,), None),
                                      ("self_attn.q_proj.weight", (q, h), 2 * h**-0.5), ("self_attn.q_proj.bias", (q,), 0.5),
                                      ("self_attn.k_proj.weight", (kv, h), 2 * h**-0.5), ("self_attn.k_proj.bias", (kv,), 0.5),
                                      ("self_attn.v_proj.weight", (kv, h), h**-0.5), ("self_attn.v_proj.bias", (kv,), 0.1),
                                      ("self_attn.o_proj.weight", (h, q), q**-0.5), ("self_attn.o_proj.bias", (h,), 0.1),
                                      ("self_attn.sinks", (HEADS,), 1.0), ("mlp.router.weight", (e, h), 2 * h**-0.5),
                                      ("mlp.router.bias", (e,), 0.3), ("mlp.experts.gate_up_proj_bias", (e, 2 * h), 0.1),
                                      ("mlp.experts.down_proj_bias", (e, h), 0.1)):
                self.dense[p + name] = (shape, size)
            self.experts[p + "mlp.experts.gate_up_proj"] = (e, 2 * h, h)
            self.experts[p + "mlp.experts.down_proj"] = (e, h, h)

    @staticmethod
    def rng(name, part):
        return np.random.default_rng([*name.encode(), part])

    def rows(self, name, at_once=8192):
        """A dense tensor's rows as BF16, some at a time."""
        shape, size = self.dense[name]
        for part, first in enumerate(range(0, shape[0], at_once)):
            some = (min(at_once, shape[0] - first), *shape[1:])
            if size is None:
                yield bf16(1 + 0.1 * self.rng(name, part).standard_normal(some, np.float32))
            else:
                yield bf16(size * self.rng(name, part).standard_normal(some, np.float32))

    def whole(self, name):
        return np.concatenate(list(self.rows(name)))

    def expert(self, name, index):
        """Codes [rows, cols], one a byte, and scale bytes [rows, cols / 32] of an expert's matrix."""
        if self.made[0] != (name, index):
            _, rows, cols = self.experts[name]
            rng = self.rng(name, index)
            codes = rng.integers(0, 16, (rows, cols), np.uint8)
            scales = rng.integers(118, 121, (rows, cols // BLOCK), np.uint8)  # weights of about cols^-0.5
            self.made = (name, index), (codes, scales)
        return self.made[1]


def write_twin(folder, weights):
    folder.mkdir(exist_ok=True)
    o, header, at, pieces = weights.o, {}, 0, []

    def place(name, dtype, shape, size):
        nonlocal at
        bytes = int(np.prod(shape)) * size
        header[name] = dict(dtype=dtype, shape=list(shape), data_offsets=[at, at + bytes])
        at += bytes

    for name, (shape, _) in weights.dense.items():
        if ".experts." not in name:
            place(name, "BF16", shape, 2)
            pieces.append(lambda name=name: weights.rows(name))
    # Rows of gate and up take turns where gpt-oss is published.
    for name, (e, rows, cols) in weights.experts.items():
        block, stack = name.rsplit(".", 1)
        parts = ("gate_proj", "up_proj") if stack == "gate_up_proj" else (stack,)
        step = len(parts)
        biases = weights.whole(name + "_bias")
        for i in range(e):
            for part, layer in enumerate(parts):
                theirs = f"{block}.{i}.{layer}."
                place(theirs + "weight_packed", "U8", (rows // step, cols // 2), 1)
                place(theirs + "weight_scale", "U8", (rows // step, cols // BLOCK), 1)
                place(theirs + "bias", "BF16", (rows // step,), 2)

                def of_part(name=name, i=i, part=part, step=step, bias=biases[i, part::step]):
                    codes, scales = weights.expert(name, i)
                    codes = codes[part::step]
                    yield codes[:, 0::2] | codes[:, 1::2] << 4
                    yield scales[part::step]
                    yield bias

                pieces.append(of_part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for piece in pieces:
            for part in piece():
                file.write(part.tobytes())  # of a slice too: its elements, in order
    (folder / "config.json").write_text(json.dumps(dict(
        model_type="gpt_oss", architectures=["GptOssForCausalLM"], hidden_size=o.hidden, intermediate_size=o.hidden,
        num_hidden_layers=o.layers, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM,
        num_local_experts=o.experts, num_experts_per_tok=TOP_K, vocab_size=o.vocabulary, rms_norm_eps=EPS, hidden_act="silu",
        max_position_embeddings=131072, sliding_window=WINDOW, attention_bias=True, tie_word_embeddings=False,
        swiglu_limit=LIMIT, initial_context_length=ORIGINAL, rope_theta=THETA,
        layer_types=[("sliding_attention", "full_attention")[i % 2] for i in range(o.layers)],
        # As llama.cpp computes it: bounds rounded to whole pairs.
        rope_scaling=dict(rope_type="yarn", factor=FACTOR, beta_fast=BETA_FAST, beta_slow=BETA_SLOW, truncate=True,
                          original_max_position_embeddings=ORIGINAL),
        quantization_config=dict(
            quant_method="compressed-tensors", format="mxfp4-pack-quantized", quantization_status="compressed",
            config_groups=dict(group_0=dict(
                format="mxfp4-pack-quantized", targets=["re:.*\\.mlp\\.experts\\.[0-9]+\\.(gate|up|down)_proj"],
                weights=dict(num_bits=4, type="float", strategy="group", group_size=BLOCK, symmetric=True, dynamic=False,
                             scale_dtype="torch.uint8"))),
            ignore=["lm_head"]))))


THEIR_NAMES = {"input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "post_attention_norm.weight",
               "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
               "self_attn.o_proj": "attn_output", "self_attn.sinks": "attn_sinks.weight", "mlp.router": "ffn_gate_inp"}


def ggml_rows(codes, scales):
    """ggml's blocks: the scale, then 16 bytes, element i in the low and i + 16 in the high half of byte i."""
    blocks = codes.reshape(codes.shape[0], -1, BLOCK)
    bytes = blocks[..., :16] | blocks[..., 16:] << 4
    return np.concatenate([scales[..., None], bytes], axis=-1).reshape(codes.shape[0], -1)


def write_gguf(file, weights):
    o = weights.o
    writer = gguf.GGUFWriter(file, "gpt-oss")
    writer.add_context_length(131072)
    writer.add_embedding_length(o.hidden)
    writer.add_block_count(o.layers)
    writer.add_feed_forward_length(o.hidden)
    writer.add_expert_feed_forward_length(o.hidden)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_expert_count(o.experts)
    writer.add_expert_used_count(TOP_K)
    writer.add_sliding_window(WINDOW)
    writer.add_rope_freq_base(THETA)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(FACTOR)
    writer.add_rope_scaling_orig_ctx_len(ORIGINAL)
    writer.add_vocab_size(o.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    pieces = []

    def dense(theirs, name, wide):
        shape = weights.dense[name][0]
        kind = np.float32 if wide else np.uint16
        writer.add_tensor_info(theirs, shape, np.dtype(kind), int(np.prod(shape)) * np.dtype(kind).itemsize,
                               None if wide else gguf.GGMLQuantizationType.BF16)
        pieces.append(lambda: widened(weights.whole(name)) if wide else weights.whole(name))

    def experts(theirs, name, part, step):
        e, rows, cols = weights.experts[name]
        rows //= step
        row_bytes = cols // BLOCK * 17
        writer.add_tensor_info(theirs + ".weight", (e, rows, row_bytes), np.dtype(np.uint8), e * rows * row_bytes,
                               gguf.GGMLQuantizationType.MXFP4)
        pieces.append(lambda: np.stack([ggml_rows(c[part::step], s[part::step])
                                        for c, s in (weights.expert(name, i) for i in range(e))]))
        bias = name + "_bias"
        writer.add_tensor_info(theirs + ".bias", (e, rows), np.dtype(np.float32), e * rows * 4)
        pieces.append(lambda: np.ascontiguousarray(widened(weights.whole(bias))[:, part::step]))

    dense("token_embd.weight", "model.embed_tokens.weight", False)
    dense("output_norm.weight", "model.norm.weight", True)
    dense("output.weight", "lm_head.weight", False)
    for layer in range(o.layers):
        p, b = f"model.layers.{layer}.", f"blk.{layer}."
        for name in [n for n in weights.dense if n.startswith(p) and ".experts." not in n]:
            ours = next(n for n in THEIR_NAMES if name.startswith(p + n))
            theirs = b + THEIR_NAMES[ours] + name[len(p + ours):]
            dense(theirs, name, "proj.weight" not in name)
        experts(b + "ffn_gate_exps", p + "mlp.experts.gate_up_proj", 0, 2)
        experts(b + "ffn_up_exps", p + "mlp.experts.gate_up_proj", 1, 2)
        experts(b + "ffn_down_exps", p + "mlp.experts.down_proj", 0, 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for piece in pieces:
        writer.write_tensor_data(piece())
    writer.close()


# ---- the forward pass in double -------------------------------------------------------------------------------------

def frequencies():
    """YaRN, as transformers 5.24 modeling_rope_utils.py has it with truncate: the frequencies and the attention factor."""
    half = HEAD_DIM // 2
    plain = THETA ** (-np.arange(half) / half)

    def pair_of(rotations):
        return HEAD_DIM * np.log(ORIGINAL / (rotations * 2 * np.pi)) / (2 * np.log(THETA))

    low, high = max(np.floor(pair_of(BETA_FAST)), 0), min(np.ceil(pair_of(BETA_SLOW)), HEAD_DIM - 1)
    ramp = np.clip((np.arange(half) - low) / max(high - low, 0.001), 0, 1)
    return plain / FACTOR * ramp + plain * (1 - ramp), 0.1 * np.log(FACTOR) + 1


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def oracle(weights, ids):
    o = weights.o

    def double(name):
        return widened(weights.whole(name)).astype(np.float64)

    def matrix(name, index):
        codes, scales = weights.expert(name, index)
        return FP4[codes] * np.repeat(2.0 ** (scales.astype(np.float64) - 127), BLOCK, axis=1)

    x = np.zeros((len(ids), o.hidden))
    for part, rows in enumerate(weights.rows("model.embed_tokens.weight")):
        for t, token in enumerate(ids):
            if token // 8192 == part:
                x[t] = widened(rows[token % 8192])
    turn, magnitude = frequencies()
    angle = np.arange(len(ids))[:, None] * turn
    cosine, sine = np.cos(angle)[:, None] * magnitude, np.sin(angle)[:, None] * magnitude

    def turned(v):
        first, second = v[..., :HEAD_DIM // 2], v[..., HEAD_DIM // 2:]
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)

    for layer in range(o.layers):
        p = f"model.layers.{layer}."
        h = norm(x, double(p + "input_layernorm.weight"))
        q, k, v = ((h @ double(f"{p}self_attn.{n}_proj.weight").T + double(f"{p}self_attn.{n}_proj.bias"))
                   .reshape(len(ids), -1, HEAD_DIM) for n in "qkv")
        q, k = turned(q), turned(k)
        sinks, mixed = double(p + "self_attn.sinks"), np.zeros_like(q)
        distance = np.arange(len(ids))[:, None] - np.arange(len(ids))
        seen = (distance >= 0) & ((distance < WINDOW) | (layer % 2 == 1))
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            scores = np.where(seen, q[:, head] @ k[:, kv].T / np.sqrt(HEAD_DIM), -np.inf)
            scores = np.concatenate([scores, np.full((len(ids), 1), sinks[head])], 1)
            mixed[:, head] = softmax(scores)[:, :-1] @ v[:, kv]
        x = x + mixed.reshape(len(ids), -1) @ double(p + "self_attn.o_proj.weight").T + double(p + "self_attn.o_proj.bias")
        h = norm(x, double(p + "post_attention_layernorm.weight"))
        logits = h @ double(p + "mlp.router.weight").T + double(p + "mlp.router.bias")
        chosen = np.argsort(-logits, axis=1)[:, :TOP_K]
        shares = softmax(np.take_along_axis(logits, chosen, 1))
        up_bias, down_bias = double(p + "mlp.experts.gate_up_proj_bias"), double(p + "mlp.experts.down_proj_bias")
        for expert in np.unique(chosen):
            tokens, slots = np.nonzero(chosen == expert)
            both = h[tokens] @ matrix(p + "mlp.experts.gate_up_proj", expert).T + up_bias[expert]
            gate, up = np.minimum(both[:, 0::2], LIMIT), np.clip(both[:, 1::2], -LIMIT, LIMIT)
            inner = (up + 1) * gate / (1 + np.exp(-ALPHA * gate))
            out = inner @ matrix(p + "mlp.experts.down_proj", expert).T + down_bias[expert]
            np.add.at(x, tokens, shares[tokens, slots][:, None] * out)
    last = norm(x[-1], double("model.norm.weight"))
    return np.concatenate([widened(rows).astype(np.float64) @ last for rows in weights.rows("lm_head.weight")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=201088)
    parser.add_argument("--hidden", type=int, default=2880)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--oracle", type=int, default=0, metavar="TOKENS")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    weights = Weights(options)
    ids = np.random.default_rng(1).integers(0, options.vocabulary, 16384).tolist()
    (options.folder / "ids.json").write_text(json.dumps(ids))
    if not (options.folder / "twin" / "model.safetensors").exists():
        write_twin(options.folder / "twin", weights)
    if not (options.folder / "model.gguf").exists():
        write_gguf(str(options.folder / "model.gguf"), weights)
    if options.oracle > 0:
        logits = oracle(weights, ids[:options.oracle])
        np.savez(options.folder / "oracle.npz", ids=ids[:options.oracle], logits=logits)


if __name__ == "__main__":
    main()

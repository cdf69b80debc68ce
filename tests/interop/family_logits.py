# tests/interop/family_logits.py -- what transformers makes of a tiny model of each family that `mxfp4 run` knows.
# SPDX-License-Identifier: Apache-2.0
"""family_logits.py GOLDEN [--record] [--only NAME ...]

A model is a config and a rule for its weights, which tests/model.families.test.cpp follows too: no weights are stored.
GOLDEN/<name>.json has the config, the tensors that save_pretrained writes and how each is filled, a text of tokens, the
tokens that greedy generation adds, and how near its decisions were; GOLDEN/<name>.f32 the logits [tokens][vocabulary] of
the text, in float32 with eager attention on a CPU. They must agree with the recording within 1e-5 of the largest, and
the generated tokens exactly. With --record it is made anew, from the first text on which no router and no choice of a
token is decided by less than MARGIN.
"""
import argparse
import json
import pathlib
import tempfile

import ml_dtypes
import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModelForCausalLM, Mxfp4Config

from common import package_versions, require

TOKENS, ADDED, MARGIN = 24, 12, 2e-3
PACKAGES = ("torch", "transformers")
SMALL = dict(vocab_size=64, hidden_size=64, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=64, tie_word_embeddings=False,
             num_experts_per_tok=2, pad_token_id=None, bos_token_id=None, eos_token_id=None)
YARN = dict(rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, original_max_position_embeddings=16,
            rope_theta=1000.0)
GPT_OSS = dict(num_local_experts=4, sliding_window=5, swiglu_limit=1.5, rope_parameters={**YARN, "truncate": False})

FAMILIES = {
    "deepseek_v3": ("deepseek_v3", dict(n_routed_experts=8, num_local_experts=8, n_group=4, topk_group=2, q_lora_rank=32,
                                        kv_lora_rank=32, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=12,
                                        head_dim=8, num_key_value_heads=4, moe_intermediate_size=32, intermediate_size=96,
                                        first_k_dense_replace=1, n_shared_experts=2, attention_bias=True,
                                        rope_parameters={**YARN, "mscale": 1.0, "mscale_all_dim": 0.7})),
    "gpt_oss": ("gpt_oss", GPT_OSS),
    "gpt_oss_native": ("gpt_oss", GPT_OSS),
    "llama": ("llama", dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="llama3", rope_theta=1000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32))),
    "minimax_m2": ("minimax_m2", dict(num_local_experts=4, rotary_dim=8, scoring_func="sigmoid", use_routing_bias=True,
                                      rope_parameters=dict(rope_type="default", rope_theta=1000.0,
                                                           partial_rotary_factor=0.5))),
    "mixtral": ("mixtral", dict(num_local_experts=4, sliding_window=7)),
    "olmoe": ("olmoe", dict(num_experts=4, num_local_experts=4, norm_topk_prob=False)),
    "qwen3": ("qwen3", dict(attention_bias=True, use_sliding_window=True, sliding_window=6, rope_parameters=YARN,
                            layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "qwen3_moe": ("qwen3_moe", dict(num_experts=4, num_local_experts=4, moe_intermediate_size=32, intermediate_size=96,
                                    mlp_only_layers=[1], norm_topk_prob=False, attention_bias=True,
                                    use_sliding_window=True, sliding_window=6)),
}


def uniform(name, count):
    """Numbers in [-1, 1): splitmix64 of the number, from the FNV-1a hash of the name on."""
    with np.errstate(over="ignore"):
        seed = np.uint64(0xCBF29CE484222325)
        for byte in name.encode():
            seed = (seed ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        z = seed + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def fill(name, rule):
    """A tensor by its rule: centre + spread * uniform, in float32, rounded to its type."""
    x = rule["centre"] + rule["spread"] * uniform(name, int(np.prod(rule["shape"])))
    x = np.floor(x).astype(np.uint8) if rule["dtype"] == "U8" else x.astype(np.float32)
    return x.astype({"U8": np.uint8, "F32": np.float32, "BF16": ml_dtypes.bfloat16}[rule["dtype"]]).reshape(rule["shape"])


def rule_of(name, shape, tied):
    if "norm" in name:
        return dict(dtype="BF16", shape=shape, centre=1.0, spread=0.5)
    if len(shape) == 1 or name.endswith("_bias"):  # of experts: [experts, rows]
        return dict(dtype="F32" if "e_score" in name else "BF16", shape=shape, centre=0.0,
                    spread=2.0 if name.endswith("sinks") else 0.3 if "e_score" in name else 0.5)
    cols = shape[1]  # also of stacks [experts, in, out]
    if name.endswith("embed_tokens.weight"):
        return dict(dtype="BF16", shape=shape, centre=0.0, spread=0.5 if tied else 1.7)
    # Products with inputs of size 1 have the size `gain`.
    gain = 2.0 if any(part in name for part in ("q_proj", "k_proj", "lm_head", "gate_up_proj", "gate.weight", "router")) else 1.2
    return dict(dtype="BF16", shape=shape, centre=0.0, spread=round(gain * (3.0 / cols)**0.5, 4))


def native(tensors):
    """The stacks of experts as gpt-oss has them: codes and scales."""
    out = {}
    for name, rule in tensors.items():
        if len(rule["shape"]) != 3:
            out[name] = rule
            continue
        experts, cols, rows = rule["shape"]
        out[name + "_blocks"] = dict(dtype="U8", shape=[experts, rows, cols // 32, 16], centre=128.0, spread=128.0)
        out[name + "_scales"] = dict(dtype="U8", shape=[experts, rows, cols // 32], centre=124.0, spread=2.0)  # 122..125
    return out


def describe(name):
    """config.json and the rules, from transformers' own classes."""
    kind, changes = FAMILIES[name]
    config = AutoConfig.for_model(kind, **{**SMALL, **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config_json = json.loads((pathlib.Path(folder) / "config.json").read_text())
        with safe_open(pathlib.Path(folder) / "model.safetensors", "np") as file:
            shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}
    config_json["dtype"] = "bfloat16"
    config_json.pop("transformers_version")
    tensors = {key: rule_of(key, shape, config.tie_word_embeddings) for key, shape in shapes.items()}
    if name.endswith("_native"):
        tensors = native(tensors)
        config_json["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=[
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"])
    return config_json, tensors


def reference(config, tensors):
    """The model as transformers loads it from files, so that names and shapes are checked by its own loader."""
    options = dict(quantization_config=Mxfp4Config(dequantize=True)) if "quantization_config" in config else {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file({name: fill(name, rule) for name, rule in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config))
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **options)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        require(not info[kind], f"{config['model_type']}: {kind}: {info[kind]}")
    return model.float().eval()


class Margins:
    """The least distance, over all tokens and layers, between the last expert taken and the first one left out."""

    def __init__(self, model):
        self.least = np.inf
        for layer in model.model.layers:
            router = getattr(layer.mlp, "router", None) or getattr(layer.mlp, "gate", None)
            if hasattr(router, "top_k"):
                router.register_forward_hook(self.hook)

    def hook(self, router, inputs, outputs):
        scores = outputs[0].double()
        bias = inputs[1] if len(inputs) > 1 else getattr(router, "e_score_correction_bias", None)
        if bias is not None:  # for the choice; of closed groups the margin is that of the others
            scores = torch.sigmoid(scores) + bias.double()
        if hasattr(router, "num_group"):
            groups = scores.reshape(-1, router.num_group, router.num_experts // router.num_group)
            best = groups.topk(2, -1).values.sum(-1)
            order = best.sort(-1, descending=True).values
            self.least = min(self.least, (order[:, router.topk_group - 1] - order[:, router.topk_group]).min().item())
            opened = torch.zeros_like(best).scatter_(1, best.topk(router.topk_group, -1).indices, 1).bool()
            scores = groups.masked_fill(~opened.unsqueeze(-1), -np.inf).reshape(scores.shape)
        scores = scores.reshape(-1, scores.shape[-1]).sort(-1, descending=True).values
        self.least = min(self.least, (scores[:, router.top_k - 1] - scores[:, router.top_k]).min().item())


@torch.no_grad()
def go_on(model, ids):
    """Logits of the text, the tokens that follow one by one, and the least part by which one of these was the likeliest."""
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    added, margin, row = [], np.inf, logits[-1]
    while len(added) < ADDED:
        best = row.topk(2).values
        margin = min(margin, ((best[0] - best[1]) / row.abs().max()).item())
        added.append(int(row.argmax()))
        row = model(torch.tensor([ids + added]), use_cache=False).logits[0, -1]
    prompt = torch.tensor([ids])  # with a mask, or a token that is pad_token_id is taken for padding
    generated = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=ADDED, do_sample=False,
                               pad_token_id=0)[0, len(ids):]
    require(generated.tolist() == added, "generate() adds other tokens than the likeliest ones")
    return logits.numpy(), added, margin


def record(name, folder):
    config, tensors = describe(name)
    model = reference(config, tensors)
    margins = Margins(model)
    for text in range(1000):
        ids = ((uniform(f"{name} {text}", TOKENS) + 1) * config["vocab_size"] / 2).astype(int).tolist()
        margins.least = np.inf
        logits, added, margin = go_on(model, ids)
        if margins.least > MARGIN and margin > MARGIN and len(set(added)) > 3:
            break
    else:
        require(False, f"{name}: no text keeps the margins")
    logits.astype("<f4").tofile(folder / f"{name}.f32")
    golden = dict(versions=package_versions(*PACKAGES), config=config, tensors=tensors, ids=ids, added=added,
                  router_margin=None if margins.least == np.inf else margins.least, token_margin=margin)
    (folder / f"{name}.json").write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")


def check(name, folder):
    golden = json.loads((folder / f"{name}.json").read_text())
    logits, added, _ = go_on(reference(golden["config"], golden["tensors"]), golden["ids"])
    expected = np.fromfile(folder / f"{name}.f32", "<f4").reshape(logits.shape)
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    print(f"{name}: {error:.1e} of the largest logit, {np.abs(expected).max():.2f}")
    require(error <= 1e-5, f"{name}: other logits than those recorded")
    require(added == golden["added"], f"{name}: other tokens than those recorded")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=pathlib.Path)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--only", nargs="+", default=list(FAMILIES))
    options = parser.parse_args()
    torch.manual_seed(0)
    options.golden.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        if options.record:
            record(name, options.golden)
        check(name, options.golden)
    print(package_versions(*PACKAGES))


if __name__ == "__main__":
    main()

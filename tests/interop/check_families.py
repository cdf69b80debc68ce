# tests/interop/check_families.py -- every family of src/checkpoint/family.cpp that transformers builds, and back again.
# SPDX-License-Identifier: Apache-2.0
"""check_families.py MXFP4 [--record FOLDER] [--only TYPE ...]

For each family a tiny model with random weights is made from transformers' own config class and saved. `mxfp4 quantize`,
`verify` and `dequantize` run over it. Then transformers loads the result by both of its routes, and the dequantised
directory: no key may be missing, unexpected or of another shape, and the logits must be equal. With --record, what the
tests without Python compare with is written there: names, shapes, the modules of class Linear, and what was quantised.
"""
import argparse
import json
import pathlib
import re
import subprocess
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, CompressedTensorsConfig, Mxfp4Config

from common import print_versions, require

SMALL = dict(vocab_size=128, hidden_size=64, intermediate_size=96, moe_intermediate_size=96, num_hidden_layers=2,
             num_attention_heads=2, num_key_value_heads=2, head_dim=32, num_experts=4, num_local_experts=4,
             n_routed_experts=4, num_experts_per_tok=2, max_position_embeddings=128, tie_word_embeddings=False,
             pad_token_id=0, bos_token_id=1, eos_token_id=2)

# What each needs beside or instead of SMALL; "linears": True for a dense model.
FAMILIES = {
    "minimax_m2": {}, "mixtral": {}, "qwen2_moe": dict(shared_expert_intermediate_size=64), "qwen3_moe": {}, "olmoe": {},
    "phimoe": {}, "jamba": dict(attn_layer_period=2, attn_layer_offset=1, expert_layer_period=1, expert_layer_offset=0, mamba_d_state=8, mamba_expand=1, mamba_dt_rank=8),
    "glm4_moe": dict(first_k_dense_replace=1, n_group=1, topk_group=1),
    "deepseek_v3": dict(first_k_dense_replace=1, n_group=1, topk_group=1, q_lora_rank=32, kv_lora_rank=32,
                        qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=32, head_dim=16),
    "ernie4_5_moe": dict(moe_num_experts=4, moe_k=2, moe_layer_start_index=1),
    "lfm2_moe": dict(num_dense_layers=1, layer_types=["conv", "full_attention"]),
    "hunyuan_v1_moe": dict(moe_topk=[2, 2], num_shared_expert=[1, 1]),
    "qwen3_next": dict(shared_expert_intermediate_size=64, layer_types=["linear_attention", "full_attention"],
                       linear_num_value_heads=2, linear_num_key_heads=2, linear_key_head_dim=32,
                       linear_value_head_dim=32),
    "qwen3_5_moe_text": dict(shared_expert_intermediate_size=64, layer_types=["linear_attention", "full_attention"],
                             linear_num_value_heads=2, linear_num_key_heads=2, linear_key_head_dim=32,
                             linear_value_head_dim=32),
    "gpt_oss": dict(layer_types=["sliding_attention", "full_attention"]),
    "llama4_text": dict(intermediate_size_mlp=96, interleave_moe_layer_step=2, moe_layers=[1],
                        attn_temperature_tuning=False),
    "nemotron_h": dict(layers_block_type=["moe", "attention"], n_group=1, topk_group=1, mamba_num_heads=2,
                       mamba_head_dim=32, moe_shared_expert_intermediate_size=64, moe_latent_size=None),
    "mimo_v2_flash": dict(n_group=1, topk_group=1, v_head_dim=32, moe_layer_freq=[0, 1],
                          layer_types=["full_attention", "full_attention"]),
    "deepseek_v4": {},
    "llama": dict(linears=True), "qwen3": dict(linears=True, tie_word_embeddings=True),
    "bert": dict(linears=True, hidden_act="gelu", model=AutoModel),
}


def run(*arguments):
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    require(result.returncode == 0, " ".join(map(str, arguments)) + "\n" + result.stdout + result.stderr)
    return result.stdout


def make(folder, kind, extra, model_class):
    torch.manual_seed(7)
    config = AutoConfig.for_model(kind, **{**SMALL, **extra})
    model = model_class.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.05)
    model.save_pretrained(folder, max_shard_size="200KB")
    return config


def load(folder, model_class, **options):
    model, info = model_class.from_pretrained(folder, dtype=torch.bfloat16, output_loading_info=True, **options)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        require(not info[key], f"{folder}: {key}: {sorted(info[key])[:5]}")
    return model.eval()


def answer(model):
    with torch.no_grad():
        out = model(torch.arange(1, 17).reshape(1, 16))
    return out.logits if hasattr(out, "logits") else out.last_hidden_state


def restack(folder, turns):
    """P.<e>.gate_proj.weight and its like to P.gate_up_proj [experts, in, out], which is what these families load in BF16."""
    tensors, parts = {}, {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, value in load_file(file).items():
            found = re.fullmatch(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.(weight|bias)", name)
            if found:
                suffix = "_bias" if found[4] == "bias" else ""
                parts.setdefault((found[1], suffix), {})[int(found[2]), found[3]] = value.T if value.dim() == 2 else value
            else:
                tensors[name] = value
        file.unlink()

    def joined(gate, up):
        return torch.stack([gate, up], -1).flatten(-2) if turns else torch.cat([gate, up], -1)

    for (prefix, suffix), of in parts.items():
        experts = range(1 + max(e for e, _ in of))
        tensors[f"{prefix}.gate_up_proj{suffix}"] = torch.stack([joined(of[e, "gate"], of[e, "up"]) for e in experts])
        tensors[f"{prefix}.down_proj{suffix}"] = torch.stack([of[e, "down"] for e in experts])
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def describe(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        raw = file.read_bytes()
        header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
        header.pop("__metadata__", None)
        tensors.update({name: f"{t['dtype']} {t['shape']}" for name, t in header.items()})
    return dict(sorted(tensors.items()))


def check(kind, extra, mxfp4, root, record):
    extra = dict(extra)
    linears, model_class = extra.pop("linears", False), extra.pop("model", AutoModelForCausalLM)
    source, result, back = root / "source", root / "mxfp4", root / "bf16"
    make(source, kind, extra, model_class)
    run(mxfp4, "quantize", source, result, *(["--linears"] if linears else []))
    run(mxfp4, "verify", result, "--against", source)
    routes = {"default": {}, "dequantize": dict(quantization_config=CompressedTensorsConfig(dequantize=True))}
    if kind == "gpt_oss":
        run(mxfp4, "convert", result, root / "apart", "--to", "compressed-tensors")
        run(mxfp4, "dequantize", root / "apart", back)
        routes = {"dequantize": dict(quantization_config=Mxfp4Config(dequantize=True))}
    else:
        run(mxfp4, "dequantize", result, back)
    if kind in ("gpt_oss", "llama4_text"):
        restack(back, turns=kind == "gpt_oss")
    expected = answer(load(back, model_class))
    for route, options in routes.items():
        model = load(result, model_class, **options)
        found = answer(model)
        require(bool(torch.isfinite(found).all()), f"{route}: not finite")
        require(torch.equal(found, expected), f"{route}: other logits, by {(found - expected).abs().max()}")
    if record:
        config = json.loads((source / "config.json").read_text())
        with torch.device("meta"):
            built = model_class.from_config(AutoConfig.from_pretrained(source))
        modules = [n for n, m in built.named_modules() if isinstance(m, torch.nn.Linear)]
        packed = [n for n in describe(result) if n.endswith(("_packed", "_blocks"))]
        fixture = dict(made_by=f"transformers {transformers.__version__}", config=config, linears=linears,
                       tensors=describe(source), modules=modules, quantized=packed)
        (record / f"{kind}.json").write_text(json.dumps(fixture, indent=1) + "\n")
    return ", ".join(routes)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mxfp4", type=pathlib.Path)
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    print_versions("torch", "transformers", "compressed-tensors", "safetensors")
    failed = []
    for kind, extra in FAMILIES.items():
        if options.only and kind not in options.only:
            continue
        with tempfile.TemporaryDirectory() as name:
            try:
                print(f"{kind}: right by {check(kind, extra, options.mxfp4, pathlib.Path(name), options.record)}", flush=True)
            except (Exception, SystemExit) as error:  # the next family is asked all the same
                failed.append(kind)
                print(f"{kind}: {str(error)[-1500:]}", flush=True)
    require(not failed, "not right: " + ", ".join(failed))


if __name__ == "__main__":
    main()

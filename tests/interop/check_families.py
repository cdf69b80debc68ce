# tests/interop/check_families.py -- every family of src/checkpoint/family.cpp that transformers builds, and back again.
# SPDX-License-Identifier: Apache-2.0
"""check_families.py MXFP4 [--results FILE] [--record FOLDER] [--only NAME ...]

For each family a tiny model with random weights is made from transformers' own config class and saved in several
shards. `mxfp4 plan`, `quantize`, `verify`, `dequantize` and `convert --to gguf` run over it; what they wrote is decoded
by ml_dtypes and gguf. Then transformers loads the result by both of its routes, and the dequantised directory: no key may
be missing, unexpected or of another shape, weights and logits must be equal. A refusal must give the reason.

--results FILE   what was seen goes into this JSON, beside what other checks put there: docs/families.md shows it
--record FOLDER  what the tests without Python compare with: names, shapes, modules of class Linear, what was quantised
"""
import argparse
import dataclasses
import json
import pathlib
import re
import subprocess
import tempfile

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText,
                          AutoModelForMaskedLM, CompressedTensorsConfig, Mxfp4Config)

from common import add_results, decode, load as load_tensors, package_versions, print_versions, require, same_bits

SMALL = dict(vocab_size=128, hidden_size=64, intermediate_size=96, moe_intermediate_size=96, num_hidden_layers=2,
             num_attention_heads=2, num_key_value_heads=2, head_dim=32, num_experts=4, num_local_experts=4,
             n_routed_experts=4, num_experts_per_tok=2, max_position_embeddings=128, tie_word_embeddings=False,
             pad_token_id=0, bos_token_id=1, eos_token_id=2)
ROUTES = {"default": {}, "dequantize": dict(quantization_config=CompressedTensorsConfig(dequantize=True))}


@dataclasses.dataclass
class Family:
    """A tiny model of one family and how it goes through the program."""
    kind: str
    config: dict  # beside or instead of SMALL
    linears: bool = False
    model: type = AutoModelForCausalLM
    refused: str = ""  # what `quantize` says instead; no reader takes any result
    not_loaded: str = ""  # what `quantize` warns of: transformers does not load the result
    no_gguf: str = ""  # what `convert --to gguf` says instead


def family(kind, *, linears=False, model=AutoModelForCausalLM, refused="", not_loaded="", no_gguf="", **config):
    return Family(kind, config, linears, model, refused, not_loaded, no_gguf)


HYBRID = dict(shared_expert_intermediate_size=64, layer_types=["linear_attention", "full_attention"],
              linear_num_value_heads=2, linear_num_key_heads=2, linear_key_head_dim=128,
              linear_value_head_dim=128)
LLAMA_CPP = ("qwen3_moe", "minimax_m2")  # what check_llama.py has llama.cpp run
GPT2 = dict(linears=True, not_loaded="at random", activation_function="gelu", n_embd=64, n_layer=2, n_head=2, n_positions=128)

FAMILIES = {
    "minimax_m2": family("minimax_m2", scoring_func="sigmoid", use_routing_bias=True, rotary_dim=16),
    "mixtral": family("mixtral"),
    "qwen2_moe": family("qwen2_moe", shared_expert_intermediate_size=64),
    "qwen3_moe": family("qwen3_moe"),
    "olmoe": family("olmoe"),
    "phimoe": family("phimoe"),
    "jamba": family("jamba", attn_layer_period=2, attn_layer_offset=1, expert_layer_period=1, expert_layer_offset=0,
                    mamba_d_state=8, mamba_expand=1, mamba_dt_rank=8),
    "glm4_moe": family("glm4_moe", first_k_dense_replace=1, n_group=1, topk_group=1),
    "deepseek_v3": family("deepseek_v3", first_k_dense_replace=1, n_group=1, topk_group=1, topk_method="noaux_tc",
                          q_lora_rank=32, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128,
                          head_dim=64),  # the head sizes are those that vLLM has attention for
    "deepseek_v4": family("deepseek_v4", head_dim=512, qk_rope_head_dim=64, o_groups=2),
    "ernie4_5_moe": family("ernie4_5_moe", moe_num_experts=4, moe_k=2, moe_layer_start_index=1),
    "lfm2_moe": family("lfm2_moe", num_dense_layers=1, layer_types=["conv", "full_attention"]),
    "hunyuan_v1_moe": family("hunyuan_v1_moe", moe_topk=[2, 2], num_shared_expert=[1, 1]),
    "qwen3_next": family("qwen3_next", **HYBRID),
    "qwen3_5_moe_text": family("qwen3_5_moe_text", **HYBRID),
    "gpt_oss": family("gpt_oss", layer_types=["sliding_attention", "full_attention"]),
    "llama4_text": family("llama4_text", num_experts_per_tok=1, intermediate_size_mlp=96, interleave_moe_layer_step=2,
                          moe_layers=[1], attn_temperature_tuning=False),
    "nemotron_h": family("nemotron_h", layers_block_type=["moe", "attention"], n_group=1, topk_group=1,
                         mamba_num_heads=2, mamba_head_dim=32, moe_shared_expert_intermediate_size=64,
                         moe_latent_size=None),
    "mimo_v2_flash": family("mimo_v2_flash", n_group=1, topk_group=1, v_head_dim=32, moe_layer_freq=[0, 1],
                            layernorm_epsilon=1e-5, hybrid_layer_pattern=[0, 0],
                            layer_types=["full_attention", "full_attention"]),
    "qwen3_vl_moe": family("qwen3_vl_moe", model=AutoModelForImageTextToText, not_loaded="at random",
                           no_gguf="5 dimensions",
                           text_config={**SMALL, "norm_topk_prob": True, "model_type": "qwen3_vl_moe_text"},
                           vision_config=dict(depth=1, hidden_size=64, intermediate_size=96, num_heads=2,
                                              out_hidden_size=64, deepstack_visual_indexes=[0])),
    "gemma4_text": family("gemma4_text", not_loaded="at random", enable_moe_block=True, top_k_experts=2, global_head_dim=32,
                          hidden_size_per_layer_input=32, vocab_size_per_layer_input=128, tie_word_embeddings=True,
                          layer_types=["sliding_attention", "full_attention"]),
    "granitemoe": family("granitemoe", not_loaded="at random"),
    "granitemoeshared": family("granitemoeshared", not_loaded="at random", shared_intermediate_size=64),
    "granitemoehybrid": family("granitemoehybrid", not_loaded="at random", shared_intermediate_size=64,
                               layer_types=["attention", "attention"], mamba_n_heads=2, mamba_d_head=64,
                               position_embedding_type="rope"),
    "dbrx": family("dbrx", refused="matrices", d_model=64, n_heads=2, n_layers=2, max_seq_len=128,
                   attn_config=dict(kv_n_heads=2, clip_qkv=8, rope_theta=10000.0),
                   ffn_config=dict(ffn_hidden_size=96, moe_num_experts=4,
                                                                              moe_top_k=2, hidden_size=64)),
    "llama": family("llama", linears=True), "llama_tied": family("llama", linears=True, tie_word_embeddings=True),
    "qwen3": family("qwen3", linears=True), "qwen3_tied": family("qwen3", linears=True, tie_word_embeddings=True),
    "phi3": family("phi3", linears=True), "phi3_tied": family("phi3", linears=True, tie_word_embeddings=True),
    "gemma3_text": family("gemma3_text", linears=True),
    "gemma3_text_tied": family("gemma3_text", linears=True, tie_word_embeddings=True),
    "bert": family("bert", linears=True, hidden_act="gelu", model=AutoModel),
    "bert_tied": family("bert", linears=True, hidden_act="gelu", model=AutoModelForMaskedLM, tie_word_embeddings=True),
    "gpt2": family("gpt2", **GPT2), "gpt2_tied": family("gpt2", tie_word_embeddings=True, **GPT2),
}


def run(*arguments):
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    require(result.returncode == 0, " ".join(map(str, arguments)) + "\n" + result.stdout + result.stderr)
    return result.stdout + result.stderr


def refusal(*arguments, expected):
    """"refused: ..." as a command says it, without the path."""
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    refused = result.returncode == 1 and expected in result.stderr
    require(refused, f"{arguments[1]}: expected {expected}: {result.stderr}")
    return "refused: " + result.stderr.strip().split(": ", 2)[-1]


def make(folder, family):
    torch.manual_seed(7)
    config = AutoConfig.for_model(family.kind, **{**SMALL, **family.config})
    model = family.model.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.05)
    model.save_pretrained(folder, max_shard_size="60KB")
    require(len(list(folder.glob("*.safetensors"))) > 1, f"{folder}: one shard, expected several")


def load(folder, model_class, **options):
    model, info = model_class.from_pretrained(folder, dtype=torch.bfloat16, output_loading_info=True, **options)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        require(not info[key], f"{folder}: {key}: {sorted(info[key])[:5]}")
    return model.eval()


def answer(model):
    with torch.no_grad():
        out = model(torch.arange(1, 17).reshape(1, 16))
    return out.logits if hasattr(out, "logits") else out.last_hidden_state


def restack(folder):
    """P.<e>.gate_proj.weight and its like to P.gate_up_proj [experts, in, out], which llama4 loads in BF16."""
    tensors, parts = {}, {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, value in load_file(file).items():
            found = re.fullmatch(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", name)
            if found:
                parts.setdefault(found[1], {})[int(found[2]), found[3]] = value.T
            else:
                tensors[name] = value
        file.unlink()

    for prefix, of in parts.items():
        experts = range(1 + max(e for e, _ in of))
        tensors[f"{prefix}.gate_up_proj"] = torch.stack([torch.cat([of[e, "gate"], of[e, "up"]], -1) for e in experts])
        tensors[f"{prefix}.down_proj"] = torch.stack([of[e, "down"] for e in experts])
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def describe(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        raw = file.read_bytes()
        header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
        header.pop("__metadata__", None)
        tensors.update({name: f"{t['dtype']} {t['shape']}" for name, t in header.items()})
    return dict(sorted(tensors.items()))


def check_back(checkpoint, back, source=None, turned=False):
    """Every weight of `dequantize` is what ml_dtypes makes of codes and scale bytes, and near what the source, if given,
    has under its name; the rest is as it was. turned: the codes are those of the transposed weight."""
    ours, values = load_tensors(checkpoint), load_tensors(back)
    original = load_tensors(source) if source else {}
    packed = [name for name in ours if name.endswith("_packed")]
    for name in packed:
        expected = decode(ours[name], ours[name.removesuffix("_packed") + "_scale"])
        found = values[name.removesuffix("_packed")]
        require(same_bits(found, expected.T if turned else expected), f"{name}: other numbers than ml_dtypes")
        if name.removesuffix("_packed") in original:
            exact = original[name.removesuffix("_packed")].astype(np.float32)
            error = np.linalg.norm(found.astype(np.float32) - exact) / np.linalg.norm(exact)
            require(error < 0.15, f"{name}: a relative error of {error}")
    for name in ours.keys() - {n for p in packed for n in (p, p.removesuffix("_packed") + "_scale")}:
        require(ours[name].tobytes() == values[name].tobytes(), f"{name}: was not kept")
    require(packed and len(values) == len(ours) - len(packed), f"{back}: tensors are missing")
    return np.concatenate([values[name.removesuffix("_packed")].astype(np.float32).ravel() for name in packed])


def check_gguf(file, weights):
    """All numbers of all MXFP4 tensors, under whichever names."""
    found = [gguf.quants.dequantize(t.data, t.tensor_type).ravel() for t in gguf.GGUFReader(file).tensors
             if t.tensor_type == gguf.GGMLQuantizationType.MXFP4]
    require(found and np.array_equal(np.sort(np.concatenate(found)), np.sort(weights)), f"{file}: other numbers")


def check_routes(result, back, family):
    """What each route of transformers makes of the result is what it makes of the dequantised directory."""
    single = {name: value for file in back.glob("*.safetensors") for name, value in load_file(file).items()}
    if family.kind == "llama4_text":
        restack(back)
    reference = load(back, family.model)
    weights, expected = reference.state_dict(), answer(reference)
    own = {"dequantize": dict(quantization_config=Mxfp4Config(dequantize=True))}
    routes = own if family.kind == "gpt_oss" else ROUTES
    for route, options in routes.items():
        model = load(result, family.model, **options)
        for name, value in model.state_dict().items():
            if name.endswith(("weight_packed", "weight_scale")):
                require(route == "default", f"{route}: {name} is still packed")
            else:  # experts are one by one where transformers has no stacks for them
                of = weights if name in weights else single
                require(torch.equal(of[name], value), f"{route}: {name}: other weights than `mxfp4 dequantize`")
        found = answer(model)
        require(bool(torch.isfinite(found).all()), f"{route}: not finite")
        require(torch.equal(found, expected), f"{route}: other logits, by {(found - expected).abs().max()}")
    return list(routes)


def not_loaded(result, family, options):
    """What transformers makes of a result that it does not load; a test that it still does not."""
    what = "these layers (Conv1D)" if family.kind == "gpt2" else "the experts"
    try:
        load(result, family.model, **options)
    except SystemExit as error:
        require("missing_keys" in str(error), str(error))
        return f"refused: {what} start at random, and quantize warns of it"
    except RuntimeError as error:
        require("mismatched" in str(error), str(error))
        return f"refused: {what} have other shapes for it: an error, and quantize warns of it"
    raise SystemExit("interop: is loaded, expected missing keys")


def check(family, mxfp4, root, record):
    """The steps that went right, and where one cannot, why."""
    source, result, back = root / "source", root / "mxfp4", root / "bf16"
    make(source, family)
    how = ["--linears"] if family.linears else []
    if family.refused:
        said = refusal(mxfp4, "plan", source, *how, expected=family.refused)
        again = refusal(mxfp4, "quantize", source, result, *how, expected=family.refused)
        require(said == again, f"quantize says otherwise: {again}")
        require(not result.exists(), "a refused result is there")
        return dict(plan=said, quantize=said)
    run(mxfp4, "plan", source, *how)
    said = run(mxfp4, "quantize", source, result, *how)
    run(mxfp4, "verify", result, "--against", source)
    run(mxfp4, "dequantize", result, back)
    apart, decoded = result, back
    if family.kind == "gpt_oss":  # its stacks taken apart, and the matrices
        apart, decoded = root / "apart", root / "decoded"
        run(mxfp4, "convert", result, apart, "--to", "compressed-tensors")
        run(mxfp4, "dequantize", apart, decoded)
    weights = check_back(apart, decoded, source, turned=family.kind == "gpt2")
    steps = dict(plan="right", quantize="right", verify="right", dequantize="right", gguf="right")
    if family.no_gguf:
        steps["gguf"] = refusal(mxfp4, "convert", result, root / "x.gguf", "--to", "gguf", expected=family.no_gguf)
    else:
        run(mxfp4, "convert", result, root / "x.gguf", "--to", "gguf")
        check_gguf(root / "x.gguf", weights)
    if family.kind not in LLAMA_CPP:
        said_of_llama = refusal(mxfp4, "convert", result, root / "llama.gguf", "--to", "llama-cpp",
                                expected="whose names in llama.cpp are not known")
        steps["llama.cpp"] = re.sub("model_type is '[^']*', whose names", "the names of this model_type", said_of_llama)
    if family.not_loaded:
        require(family.not_loaded in said, f"quantize does not warn: {said}")
        for route, options in ROUTES.items():
            steps["transformers " + route] = not_loaded(result, family, options)
    else:
        for route in check_routes(result, back, family):
            steps["transformers " + route] = "right"
    if record:
        config = json.loads((source / "config.json").read_text())
        with torch.device("meta"):
            built = family.model.from_config(AutoConfig.from_pretrained(source))
        modules = [n for n, m in built.named_modules() if isinstance(m, torch.nn.Linear)]
        packed = [n for n in describe(result) if n.endswith(("_packed", "_blocks"))]
        fixture = dict(made_by=f"transformers {transformers.__version__}", config=config, linears=family.linears,
                       tensors=describe(source), modules=modules, quantized=packed)
        (record / f"{root.name}.json").write_text(json.dumps(fixture, indent=1) + "\n")
    return steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mxfp4", type=pathlib.Path)
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    packages = ("torch", "transformers", "compressed-tensors", "safetensors", "gguf")
    print_versions(*packages)
    failed, seen = [], {}
    for name in FAMILIES:
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder) / name
            try:
                seen[name] = check(FAMILIES[name], options.mxfp4, root, options.record)
            except (Exception, SystemExit) as error:  # the next family is asked all the same
                failed.append(name)
                seen[name] = dict(wrong=str(error)[-1500:])
            print(name + ": " + ", ".join(f"{k} {v}" for k, v in seen[name].items()), flush=True)
    if options.results:
        versions = package_versions(*packages)
        add_results(options.results, f"compressed-tensors {versions['compressed-tensors']}", versions, seen)
    require(not failed, "not right: " + ", ".join(failed))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# integrations/vllm/bench.py -- what vLLM's whole engine does with MXFP4 weights, beside what it does in bfloat16.
# SPDX-License-Identifier: Apache-2.0
"""bench.py make FOLDER MXFP4 [--layers N]    a random MiniMax-M2, hidden 2048, 64 experts of 1024, 8 taken; quantised
bench.py run FOLDER [--rounds N] [--only NAME ...]

To be run by the Python of setup.sh. Each engine has one thread and is a process of its own; they take turns, and the
table has the median of the rounds. Rates are tokens for each second of the processor, which on a busy machine is what
the engine would do alone, less what the others cost it in caches and bandwidth. Peak memory includes loading.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

SHAPE = dict(hidden_size=2048, intermediate_size=1024, num_local_experts=64, num_experts_per_tok=8, vocab_size=1024,
             num_attention_heads=16, num_key_value_heads=4, head_dim=128, rotary_dim=64)
# These kernels alone: vLLM's own part takes what the CPU has.
AVX2 = dict(MXFP4_ISA="avx2")
ENGINES = {"bf16": ("bf16", {}), **{kind: ("mxfp4", dict(MXFP4_VLLM_ACTIVATIONS=kind)) for kind in (
    "bfloat16", "int8", "int8-residual2")}}
ENGINES |= {name + ", MXFP4_ISA=avx2": (model, values | AVX2) for name, (model, values) in list(ENGINES.items())[1:]}
MEASURED = ("decode, batch 1", "decode, batch 8", "prefill 512", "peak memory")


def make(folder, mxfp4, layers):
    import torch
    from safetensors.torch import save_file
    source = folder / "source"
    source.mkdir(parents=True)
    base = pathlib.Path(__file__).parents[2] / "examples/minimax/model/config.json"
    config = {**json.loads(base.read_text()), **SHAPE, "num_hidden_layers": layers, "max_position_embeddings": 4096}
    config.pop("quantization_config", None)
    config["attn_type_list"] = [1] * layers
    (source / "config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    h, i, d = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["head_dim"]
    q, kv = SHAPE["num_attention_heads"] * d, SHAPE["num_key_value_heads"] * d
    index = {}

    def write(name, shapes):
        tensors = {n: torch.ones(s, dtype=torch.bfloat16) if "norm" in n
                   else torch.empty(s, dtype=torch.bfloat16).normal_(0, 0.02) for n, s in shapes.items()}
        tensors |= {n: t.float() for n, t in tensors.items() if n.endswith("e_score_correction_bias")}
        save_file(tensors, source / name, {"format": "pt"})
        index.update({n: name for n in tensors})

    write("model-ends.safetensors", {"model.embed_tokens.weight": (SHAPE["vocab_size"], h), "model.norm.weight": (h,),
                                     "lm_head.weight": (SHAPE["vocab_size"], h)})
    for layer in range(layers):
        p, moe = f"model.layers.{layer}.", f"model.layers.{layer}.block_sparse_moe."
        shapes = {p + "self_attn.q_proj.weight": (q, h), p + "self_attn.k_proj.weight": (kv, h),
                  p + "self_attn.v_proj.weight": (kv, h), p + "self_attn.o_proj.weight": (h, q),
                  p + "self_attn.q_norm.weight": (q,), p + "self_attn.k_norm.weight": (kv,),
                  p + "input_layernorm.weight": (h,), p + "post_attention_layernorm.weight": (h,),
                  moe + "gate.weight": (SHAPE["num_local_experts"], h),
                  moe + "e_score_correction_bias": (SHAPE["num_local_experts"],)}
        for e in range(SHAPE["num_local_experts"]):
            for matrix, size in (("w1", (i, h)), ("w3", (i, h)), ("w2", (h, i))):
                shapes[f"{moe}experts.{e}.{matrix}.weight"] = size
        write(f"model-{layer}.safetensors", shapes)
    (source / "model.safetensors.index.json").write_text(json.dumps(dict(metadata={}, weight_map=index)))
    subprocess.run([mxfp4, "quantize", source, folder / "mxfp4"], check=True)
    subprocess.run([mxfp4, "dequantize", folder / "mxfp4", folder / "bf16"], check=True)


class Timed:
    """A layer, and the processor's time in it."""
    seconds = 0.0

    def __init__(self, layer):
        self.layer = layer

    def __getattr__(self, name):
        call = getattr(self.layer, name)
        if not callable(call):
            return call

        def timed(*arguments):
            start = time.process_time()
            call(*arguments)
            Timed.seconds += time.process_time() - start
        return timed


def measure(model):
    """In this process: prints the rates, the peak, and the share of the kernels in each rate."""
    import resource
    from vllm import LLM, SamplingParams
    from mxfp4_vllm import ops
    llm = LLM(model=model, skip_tokenizer_init=True, dtype="bfloat16", enforce_eager=True, max_model_len=1024,
              max_num_seqs=8, max_num_batched_tokens=1024, disable_log_stats=True, enable_prefix_caching=False)
    ops._layers[:] = [(Timed(layer), kind) for layer, kind in ops._layers]

    def go(batch, prompt, new):
        """Seconds in all and in the kernels."""
        prompts = [dict(prompt_token_ids=[(7 * i + 13 * b) % 1000 + 3 for i in range(prompt)]) for b in range(batch)]
        start, before = time.process_time(), Timed.seconds
        llm.generate(prompts, SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False),
                     use_tqdm=False)
        return time.process_time() - start, Timed.seconds - before

    go(1, 8, 2)
    found, shares = [], []
    for batch in (1, 8):
        (many, many_ours), (few, few_ours) = go(batch, 16, 36), go(batch, 16, 4)
        found.append(batch * 32 / (many - few))
        shares.append((many_ours - few_ours) / (many - few))
    all_of_it, in_kernels = go(1, 512, 1)
    found += [512 / all_of_it, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]
    print("\nMEASURED " + json.dumps(found + shares + [in_kernels / all_of_it]), flush=True)


def run(folder, rounds, only):
    found = {name: [] for name in only}
    for _ in range(rounds):
        for name in only:
            model, values = ENGINES[name]
            environment = dict(VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0", OMP_NUM_THREADS="1",
                               VLLM_CPU_OMP_THREADS_BIND="nobind", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1")
            done = subprocess.run([sys.executable, __file__, "measure", folder / model], capture_output=True, text=True,
                                  env={**os.environ, **environment, **values})
            lines = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
            if not lines:
                sys.exit(f"bench: {name}\n{done.stderr[-3000:]}")
            found[name].append(json.loads(lines[0].removeprefix("MEASURED ")))
            print(name, *(f"{x:.2f}" for x in found[name][-1]), f"(load {os.getloadavg()[0]:.1f})", flush=True)
    print("\n| tokens a second of one core (ratio) | " + " | ".join(MEASURED) + " |\n|---|" + "---|" * len(MEASURED))
    middle = {name: [statistics.median(x) for x in zip(*rows)] for name, rows in found.items()}
    for name, values in middle.items():
        cells = [f"{value:.1f}" + (" GB" if what == "peak memory" else "") +
                 (f" ({value / base:.2f})" if name != "bf16" else "")
                 for what, value, base in zip(MEASURED, values, middle.get("bf16", values))]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| of its time in mxfp4's kernels | " + " | ".join(MEASURED[:3]) + " |\n|---|" + "---|" * 3)
    for name, values in middle.items():
        if name != "bf16":
            print(f"| {name} | " + " | ".join(f"{100 * share:.0f} %" for share in values[len(MEASURED):]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run", "measure"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("mxfp4", nargs="?")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=list(ENGINES))
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.mxfp4, options.layers)
    elif options.what == "measure":
        measure(str(options.folder))
    else:
        run(options.folder, options.rounds, options.only)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# integrations/vllm/bench.py -- what vLLM's whole engine does with MXFP4 weights, beside what it does in bfloat16.
# SPDX-License-Identifier: Apache-2.0
"""bench.py make FOLDER MXFP4 [--shape NAME]    random weights, quantised, and what `mxfp4 dequantize` makes of that
bench.py run FOLDER [--rounds N] [--only NAME ...] [--compiled] [--avx2]

shapes: minimax   a MiniMax-M2 of 4 layers, hidden 2048, 64 experts of 1024, 8 taken; the head has 1024 rows
        gpt-oss   a layer with sliding and one with full attention of gpt-oss-20b's shape: hidden 2880, 32 experts of
                  2880, 4 taken

To be run by the Python of setup.sh. Each engine is a process of its own with one thread. All are loaded, then each
thing is measured in each of them in turn, so that a machine that becomes slower does so for all. Rates are tokens for
each second of the processor, which on a busy machine is what the engine would do alone, less what the others cost it in
caches and bandwidth. The table has the medians of the rounds; a ratio is the median of the rounds' ratios, and its
interval holds the median that very many rounds would give, with a probability of 95 % or more. Peak memory includes
loading, and with "bf16" the whole KV cache, which vLLM fills with zeros (1 GiB).
Engines are eager; with --compiled they are compiled by torch, as vLLM is by itself. --avx2 holds all to AVX2: these
kernels, and vLLM's, torch's and oneDNN's own, by the switches that each has and by what torch tells of the CPU.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

ENGINES = {"bf16": ("bf16", {}), **{kind: ("mxfp4", dict(MXFP4_VLLM_ACTIVATIONS=kind)) for kind in (
    "bfloat16", "int8", "int8-residual2")}}
AVX2 = dict(MXFP4_ISA="avx2", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", MKL_ENABLE_INSTRUCTIONS="AVX2")
MEASURED = ("decode, batch 1", "decode, batch 8", "prefill 512")
BY_ITSELF = dict(VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0", OMP_NUM_THREADS="1",
                 VLLM_CPU_OMP_THREADS_BIND="nobind", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1")


def minimax():
    """config.json, and the shapes of the tensors of a layer."""
    h, i, experts, q, kv = 2048, 1024, 64, 16 * 128, 4 * 128
    base = pathlib.Path(__file__).parents[2] / "examples/minimax/model/config.json"
    config = {**json.loads(base.read_text()), "hidden_size": h, "intermediate_size": i, "num_local_experts": experts,
              "num_experts_per_tok": 8, "vocab_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 4,
              "head_dim": 128, "rotary_dim": 64, "num_hidden_layers": 4, "max_position_embeddings": 4096,
              "attn_type_list": [1] * 4}
    config.pop("quantization_config", None)
    layer = {"self_attn.q_proj.weight": (q, h), "self_attn.k_proj.weight": (kv, h), "self_attn.v_proj.weight": (kv, h),
             "self_attn.o_proj.weight": (h, q), "self_attn.q_norm.weight": (q,), "self_attn.k_norm.weight": (kv,),
             "input_layernorm.weight": (h,), "post_attention_layernorm.weight": (h,),
             "block_sparse_moe.gate.weight": (experts, h), "block_sparse_moe.e_score_correction_bias": (experts,)}
    layer |= {f"block_sparse_moe.experts.{e}.{matrix}.weight": shape for e in range(experts)
              for matrix, shape in (("w1", (i, h)), ("w3", (i, h)), ("w2", (h, i)))}
    return config, layer


def gpt_oss():
    h, i, experts, q, kv = 2880, 2880, 32, 64 * 64, 8 * 64
    config = dict(
        architectures=["GptOssForCausalLM"], model_type="gpt_oss", dtype="bfloat16", attention_bias=True, head_dim=64,
        hidden_act="silu", hidden_size=h, intermediate_size=i, layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=4096, num_attention_heads=64, num_experts_per_tok=4, num_hidden_layers=2,
        num_key_value_heads=8, num_local_experts=experts, rms_norm_eps=1e-5, sliding_window=128, swiglu_limit=7.0,
        tie_word_embeddings=False, vocab_size=1024,
        rope_parameters=dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0,
                             original_max_position_embeddings=4096, truncate=False))
    rows = dict(q=(q, h), k=(kv, h), v=(kv, h), o=(h, q))
    layer = {f"self_attn.{name}_proj.{part}": shape if part == "weight" else shape[:1]
             for name, shape in rows.items() for part in ("weight", "bias")}
    layer |= {"self_attn.sinks": (64,), "input_layernorm.weight": (h,), "post_attention_layernorm.weight": (h,),
              "mlp.router.weight": (experts, h), "mlp.router.bias": (experts,),
              "mlp.experts.gate_up_proj": (experts, h, 2 * i), "mlp.experts.gate_up_proj_bias": (experts, 2 * i),
              "mlp.experts.down_proj": (experts, i, h), "mlp.experts.down_proj_bias": (experts, h)}
    return config, layer


SHAPES = {"minimax": minimax, "gpt-oss": gpt_oss}


def make(folder, mxfp4, shape):
    import torch
    from safetensors.torch import save_file
    source = folder / "source"
    source.mkdir(parents=True)
    config, layer = SHAPES[shape]()
    (source / "config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    index = {}

    def write(name, shapes):
        tensors = {n: torch.ones(s, dtype=torch.bfloat16) if "norm" in n
                   else torch.empty(s, dtype=torch.bfloat16).normal_(0, 0.02) for n, s in shapes.items()}
        tensors |= {n: t.float() for n, t in tensors.items() if n.endswith("e_score_correction_bias")}
        save_file(tensors, source / name, {"format": "pt"})
        index.update({n: name for n in tensors})

    ends = (config["vocab_size"], config["hidden_size"])
    write("model-ends.safetensors", {"model.embed_tokens.weight": ends, "model.norm.weight": ends[1:],
                                     "lm_head.weight": ends})
    for number in range(config["num_hidden_layers"]):
        write(f"model-{number}.safetensors", {f"model.layers.{number}.{name}": s for name, s in layer.items()})
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


def tell_of_avx2_alone():
    """By what torch tells vLLM chooses its extension and its kernels."""
    import torch
    known = {name: False if name.startswith(("avx512", "amx", "avx10")) else value
             for name, value in torch.cpu.get_capabilities().items()}
    torch.cpu.get_capabilities = lambda: known


def measure(model, compiled, avx2):
    """In this process: for each line of standard input, a place in MEASURED, the rate and the share of the kernels in
    it; then the peak."""
    import resource
    if avx2:
        tell_of_avx2_alone()
    from vllm import LLM, SamplingParams
    from mxfp4_vllm import ops
    llm = LLM(model=model, skip_tokenizer_init=True, dtype="bfloat16", enforce_eager=not compiled, max_model_len=1024,
              max_num_seqs=8, max_num_batched_tokens=1024, disable_log_stats=True, enable_prefix_caching=False)
    ops._layers[:] = [(Timed(layer), kind) for layer, kind in ops._layers]

    def go(batch, prompt, new):
        """Seconds in all and in the kernels."""
        prompts = [dict(prompt_token_ids=[(7 * i + 13 * b) % 1000 + 3 for i in range(prompt)]) for b in range(batch)]
        start, before = time.process_time(), Timed.seconds
        llm.generate(prompts, SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False),
                     use_tqdm=False)
        return time.process_time() - start, Timed.seconds - before

    def decode(batch):
        (many, many_ours), (few, few_ours) = go(batch, 16, 36), go(batch, 16, 4)
        return batch * 32 / (many - few), (many_ours - few_ours) / (many - few)

    def prefill():
        all_of_it, in_kernels = go(1, 512, 1)
        return 512 / all_of_it, in_kernels / all_of_it

    go(8, 16, 2)
    go(1, 512, 1)
    print("\nMEASURED null", flush=True)
    for line in sys.stdin:
        found = (lambda: decode(1), lambda: decode(8), prefill)[int(line)]()
        print("\nMEASURED " + json.dumps(found), flush=True)
    print("\nMEASURED " + json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6), flush=True)


class Engine:
    """A process that measures."""

    def __init__(self, name, folder, compiled, avx2):
        self.name = name
        model, values = ENGINES[name]
        modes = [*(["--compiled"] if compiled else []), *(["--avx2"] if avx2 else [])]
        self.process = subprocess.Popen(
            [sys.executable, __file__, "measure", folder / model, *modes], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, **BY_ITSELF, **values, **(AVX2 if avx2 else {})})
        self.answer()

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("MEASURED "):
                return json.loads(line.removeprefix("MEASURED "))
        sys.exit(f"bench: {self.name} has ended, see above")

    def measure(self, what):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.answer()

    def peak(self):
        self.process.stdin.close()
        return self.answer()


def interval(values):
    """The smallest one around the median that has its probability: two of the values in their order."""
    n, values = len(values), sorted(values)
    for at in range((n - 1) // 2, -1, -1):
        if 1 - 2 * sum(math.comb(n, i) for i in range(at + 1)) / 2**n >= 0.95:
            return f"{values[at]:.2f} .. {values[n - 1 - at]:.2f}"
    return "too few rounds"


def run(folder, rounds, only, compiled, avx2):
    engines = [Engine(name, folder, compiled, avx2) for name in only]
    found = {name: [[] for _ in MEASURED] for name in only}
    for count in range(rounds):
        for what, title in enumerate(MEASURED):
            for engine in engines:
                found[engine.name][what].append(engine.measure(what))
            print(f"round {count + 1}, {title}:", *(f"{name} {rows[what][-1][0]:.1f};" for name, rows in found.items()),
                  f"load {os.getloadavg()[0]:.1f}", flush=True)
    peaks = {engine.name: engine.peak() for engine in engines}
    print("\n| tokens a second of one core | " + " | ".join(MEASURED) + " | peak memory |\n|---|" + "---|" * 4)
    for name, rows in found.items():
        cells = []
        for row, base in zip(rows, found.get("bf16", rows)):
            cells.append(f"{statistics.median(rate for rate, _ in row):.1f}")
            if name != "bf16" and "bf16" in found:
                ratios = [rate / of for (rate, _), (of, _) in zip(row, base)]
                cells[-1] += f" ({statistics.median(ratios):.2f}; {interval(ratios)})"
        ratio = f" ({peaks[name] / peaks['bf16']:.2f})" if name != "bf16" and "bf16" in peaks else ""
        print(f"| {name} | " + " | ".join(cells) + f" | {peaks[name]:.2f} GB{ratio} |")
    print("\n| of its time in mxfp4's kernels | " + " | ".join(MEASURED) + " |\n|---|" + "---|" * 3)
    for name, rows in found.items():
        if name != "bf16":
            print(f"| {name} | " + " | ".join(f"{100 * statistics.median(share for _, share in row):.0f} %"
                                              for row in rows) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run", "measure"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("mxfp4", nargs="?")
    parser.add_argument("--shape", choices=SHAPES, default="minimax")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--avx2", action="store_true")
    options = parser.parse_args()
    if options.compiled and options.avx2:
        parser.error("--compiled and --avx2 exclude each other: what torch compiles is kept without a word on the CPU")
    if options.what == "make":
        make(options.folder, options.mxfp4, options.shape)
    elif options.what == "measure":
        measure(str(options.folder), options.compiled, options.avx2)
    else:
        run(options.folder, options.rounds, options.only, options.compiled, options.avx2)


if __name__ == "__main__":
    main()

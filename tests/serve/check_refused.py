# tests/serve/check_refused.py -- what cannot be served: one sentence before the first token, with the way out.
# SPDX-License-Identifier: Apache-2.0
"""check_refused.py MXFP4 SOURCE [WHAT ...]: these checks alone, by what they print."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from safetensors.torch import load_file, save_file

from check_tokens import run
from engine import generate



def changed(model, folder, change):
    """A copy of a checkpoint in which change(tensors) has run over each file."""
    shutil.copytree(model, folder)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        before = dict(tensors)
        change(tensors)
        if tensors.keys() != before.keys() or any(tensors[n] is not before[n] for n in tensors):
            save_file(tensors, file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    weights = json.loads(index.read_text())
    there = {n: f.name for f in folder.glob("*.safetensors") for n in load_file(f)}
    index.write_text(json.dumps({**weights, "weight_map": there}))
    return folder


def with_config(model, folder, **values):
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


def main():
    mxfp4, source, only = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    wrong = []

    def refused(what, expected, model, environment=None, **options):
        if only and what not in only:
            return
        try:
            generate(model, [[1, 2, 3]], 1, environment, **options)
            said = "it is served"
        except RuntimeError as error:
            said = str(error)
        print(f"{what}: {said}", flush=True)
        if not all(part in said for part in expected):
            wrong.append(f"{what}: expected {expected}")

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        plain, linears = folder / "mxfp4", folder / "linears"
        run(mxfp4, "quantize", source / "examples/minimax/model", plain)
        run(mxfp4, "quantize", "--linears", source / "examples/minimax/model", linears)

        def without(end):
            def change(tensors):
                for name in [n for n in tensors if n.endswith(end)]:
                    del tensors[name]
            return change

        refused("an option", ["MXFP4_VLLM_ACTIVATIONS is 'int4', expected one of bfloat16, int8"], plain,
                dict(MXFP4_VLLM_ACTIVATIONS="int4"))
        refused("an instruction set", ["MXFP4_ISA", "neon"], plain, dict(MXFP4_ISA="neon"))
        refused("a scale of an expert",
                ["layers.1.", "weight_scale of expert 3 is not in the checkpoint", "mxfp4 verify"],
                changed(plain, folder / "a", without("layers.1.block_sparse_moe.experts.3.w2.weight_scale")))
        refused("weights of an expert",
                ["layers.1.", "weight_packed of expert 3 is not in the checkpoint", "mxfp4 verify"],
                changed(plain, folder / "b", without("layers.1.block_sparse_moe.experts.3.w1.weight_packed")))
        refused("a scale of a linear layer", ["layers.1.self_attn", "weight_scale", "mxfp4 verify"],
                changed(linears, folder / "c", without("layers.1.self_attn.k_proj.weight_scale")))
        refused("another size in config.json", ["layers.0.", "w1 of expert 0 in w13_weight_packed is [128, 96]",
                                                "expected [96, 96] by config.json", "mxfp4 verify"],
                with_config(plain, folder / "d", intermediate_size=96))
        def halve(tensors):
            name = "model.layers.1.self_attn.o_proj.weight_packed"
            if name in tensors:
                tensors[name] = tensors[name][::2].contiguous()

        refused("another size of a linear layer",
                ["layers.1.self_attn.o_proj.weight_packed: a tensor of the checkpoint is", "config.json"],
                changed(linears, folder / "e", halve))
        sys.path.insert(0, str(source / "tests/interop"))
        from check_families import FAMILIES, make
        make(folder / "qwen", FAMILIES["qwen3_moe"])  # experts of 96
        run(mxfp4, "quantize", folder / "qwen", folder / "f")
        refused("a split that cuts a block", ["layers.0.mlp.experts", "the intermediate size of each process is 48",
                                              "--tensor-parallel-size 1, 3 "],
                folder / "f", tensor_parallel_size=2, max_model_len=64)
        make(folder / "gpt_oss", FAMILIES["gpt_oss"])
        run(mxfp4, "quantize", folder / "gpt_oss", folder / "g")
        refused("half a block of gpt-oss", ["layers.0.mlp.experts", "the intermediate size is 48", "a multiple of 32"],
                with_config(folder / "g", folder / "h", intermediate_size=48), max_model_len=64)
        refused("another routing", ["layers.0.", "the router's scores are sqrtsoftplus, expected sigmoid or softmax"],
                with_config(plain, folder / "i", scoring_func="sqrtsoftplus"))
        done = subprocess.run([sys.executable, "-c", "import mxfp4_vllm, vllm; vllm.__version__ = '0.33.0'; "
                               "mxfp4_vllm.register()"], capture_output=True, text=True)
        said = done.stderr.splitlines()[-1] if done.stderr else ""
        print(f"another vLLM: {said}", flush=True)
        if "vLLM is 0.33.0, expected 0.32.0" not in said or "setup.sh" not in said:
            wrong.append("another vLLM is taken")
    if wrong:
        sys.exit("serve: " + "; ".join(wrong))


if __name__ == "__main__":
    main()

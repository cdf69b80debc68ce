# tests/interop/minimax_logits.py -- the logits that transformers gives for the model in examples/minimax.
# SPDX-License-Identifier: Apache-2.0
"""minimax_logits.py MODEL TEXT GOLDEN [--record]

MODEL is a MiniMax-M2 checkpoint in FP8. Its weights, widened to bf16(w * scale) and from there to float32, run through
transformers' own MiniMaxM2ForCausalLM on the CPU. GOLDEN is the folder of the recording: the logits must agree with it
within 1e-5 of the largest. With --record it is made anew, from pieces of TEXT (a token is a byte) on which no router
decides by less than MARGIN: a sum in another order cannot send a token to another expert.
"""
import json
import pathlib
import sys
import tempfile

import ml_dtypes
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import MiniMaxM2Config, MiniMaxM2ForCausalLM

from common import load, package_versions, require

LENGTHS = (1, 7, 24, 40)
MARGIN = 1e-3
PACKAGES = ("torch", "transformers")


def widen(tensors):
    """{name: float32 tensor}; FP8 with its scales as one."""
    out = {}
    for name, x in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        if x.dtype == ml_dtypes.float8_e4m3fn:
            scales = np.repeat(np.repeat(tensors[name + "_scale_inv"], 128, 0), 128, 1)[:x.shape[0], :x.shape[1]]
            x = (x.astype(np.float32) * scales).astype(ml_dtypes.bfloat16)
        out[name] = torch.from_numpy(x.astype(np.float32))
    return out


def reference(folder):
    """The model as transformers loads it from files, so that names and shapes are checked by its own loader."""
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    del config["quantization_config"]
    with tempfile.TemporaryDirectory() as wide:
        save_file(widen(load(folder)), pathlib.Path(wide) / "model.safetensors", {"format": "pt"})
        (pathlib.Path(wide) / "config.json").write_text(json.dumps(config))
        model, info = MiniMaxM2ForCausalLM.from_pretrained(
            wide, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        require(not info[kind], f"{folder}: {kind}: {info[kind]}")
    return model.eval()


class Margins:
    """The least distance, over all tokens and layers, between the last expert taken and the first one left out."""

    def __init__(self, model):
        self.least = np.inf
        for layer in model.model.layers:
            layer.mlp.gate.register_forward_hook(self.hook)

    def hook(self, router, inputs, outputs):
        scores = (torch.sigmoid(outputs[0].double()) + inputs[1].double()).sort(-1, descending=True).values
        self.least = min(self.least, (scores[:, router.top_k - 1] - scores[:, router.top_k]).min().item())


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def record(model, text, folder):
    margins, prompts, begin = Margins(model), [], 0
    for number, length in enumerate(LENGTHS):
        while True:
            ids, margins.least = list(text[begin:begin + length]), np.inf
            require(len(ids) == length, "no piece of the text keeps the routers' margin")
            begin += length
            logits = logits_of(model, ids)
            if margins.least > MARGIN:
                break
        name = f"logits_{number}.f32"
        logits.astype("<f4").tofile(folder / name)
        prompts.append(dict(ids=ids, logits=name, router_margin=margins.least))
    (folder / "golden.json").write_text(json.dumps(dict(versions=package_versions(*PACKAGES), prompts=prompts)) + "\n")


def check(model, folder):
    for prompt in json.loads((folder / "golden.json").read_text())["prompts"]:
        logits = logits_of(model, prompt["ids"])
        golden = np.fromfile(folder / prompt["logits"], "<f4").reshape(logits.shape)
        error = np.abs(logits - golden).max() / np.abs(golden).max()
        print(f"{prompt['logits']}: {error:.1e} of the largest logit")
        require(error <= 1e-5, f"{prompt['logits']}: other logits than those recorded")


def main():
    folder, text, golden = (pathlib.Path(argument) for argument in sys.argv[1:4])
    torch.manual_seed(0)
    model = reference(folder)
    if sys.argv[4:] == ["--record"]:
        golden.mkdir(parents=True, exist_ok=True)
        record(model, text.read_bytes(), golden)
    check(model, golden)
    print(package_versions(*PACKAGES))


if __name__ == "__main__":
    main()

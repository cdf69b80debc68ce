# tests/interop/check_peers.py -- what llm-compressor and AutoRound write is verified and dequantised.
# SPDX-License-Identifier: Apache-2.0
"""check_peers.py MXFP4 llm-compressor|auto-round [--record FOLDER]

A dense and a mixture-of-experts model of check_families.py, quantised by the other program. `mxfp4 verify` has no error to
say of the result, `mxfp4 dequantize` makes of it what ml_dtypes makes, and llm-compressor's bytes are those that
`verify --against` makes again. With --record, config and shapes go to FOLDER, for the test without Python.
"""
import argparse
import json
import os
import pathlib
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch  # noqa: E402
from check_families import FAMILIES, check_back, describe, make, run  # noqa: E402
from common import package_versions, print_versions  # noqa: E402


def llm_compressor(source, out, _):
    from llmcompressor import model_free_ptq
    model_free_ptq(source, out, scheme="MXFP4", device="cpu",
                   ignore=["lm_head", "re:.*embed.*", "re:.*norm.*", "re:.*mlp.gate$", "re:.*self_attn.*"])
    return out


def auto_round(source, out, form):
    from auto_round import AutoRound
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(128)}, unk_token="t0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0", pad_token="t0", eos_token="t2")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    rounding = AutoRound(model, tokenizer, scheme="MXFP4", iters=0, nsamples=1, seqlen=16, device_map="cpu",
                         disable_opt_rtn=True)
    rounding.quantize_and_save(str(out), format=form)
    return next(out.rglob("config.json")).parent


PEERS = {"llm-compressor": ("llmcompressor", llm_compressor, ["compressed-tensors"]),
         "auto-round": ("auto-round", auto_round, ["auto_round", "llm_compressor"])}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mxfp4", type=pathlib.Path)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--record", type=pathlib.Path)
    options = parser.parse_args()
    package, quantize, forms = PEERS[options.peer]
    print_versions(package, "torch", "transformers")
    with tempfile.TemporaryDirectory() as name:
        for kind in ("llama", "qwen3_moe"):
            source = pathlib.Path(name) / kind
            make(source, FAMILIES[kind])
            for form in forms:
                theirs = quantize(source, pathlib.Path(name) / f"{kind}-{form}", form)
                against = ["--against", source] if options.peer == "llm-compressor" else []
                run(options.mxfp4, "verify", theirs, *against)
                back = pathlib.Path(name) / f"{kind}-{form}-back"
                run(options.mxfp4, "dequantize", theirs, back)
                check_back(theirs, back)
                print(f"{kind}, {form}: right")
                if options.record:
                    made_by = f"{package} {package_versions(package)[package]}, {form}"
                    record = dict(made_by=made_by, config=json.loads((theirs / "config.json").read_text()),
                                  tensors=describe(theirs))
                    file = options.record / f"{options.peer}-{form}-{kind}.json".replace("_", "-")
                    file.write_text(json.dumps(record, indent=1) + "\n")


main()

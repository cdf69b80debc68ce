#!/usr/bin/env python3
# tests/interop/families_table.py -- docs/families.md made of results.json, or compared with it.
# SPDX-License-Identifier: Apache-2.0
"""families_table.py [--write]: without it, exits with 1 where docs/families.md is not what results.json makes of it."""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs/families.md"
OURS, OLDER = "compressed-tensors 0.20.0", "compressed-tensors 0.17.0"
COLUMNS = [("plan", [(OURS, "plan")]), ("quantize", [(OURS, "quantize")]), ("verify", [(OURS, "verify")]),
           ("dequantize", [(OURS, "dequantize")]),
           ("transformers, default", [(OURS, "transformers default"), (OLDER, "transformers default")]),
           ("transformers, dequantize", [(OURS, "transformers dequantize"), (OLDER, "transformers dequantize")]),
           ("vLLM 0.33 configuration", [("vllm 0.33.0", "config")]),
           ("vLLM 0.32 configuration", [("vllm 0.32.0", "config")]), ("vLLM 0.32 CPU run", [("vllm 0.32.0", "run")]),
           ("GGUF", [(OURS, "gguf")]), ("llama.cpp", [("llama.cpp", "run"), (OURS, "llama.cpp")])]
TEXT = """# Families and what was seen of them

Tiny models with random weights, made by each family's own config class; `tests/interop/check_families.py` and
`check_vllm.py` and `check_llama.py` did what the columns say and recorded it in [tests/interop/results.json](../tests/interop/results.json), of which this
page is made (`tests/interop/families_table.py --write`). How to add a family: [adding-a-family.md](adding-a-family.md).

| column | what was seen |
|---|---|
| plan, quantize, verify | the command ends without a finding, `verify` against the source too |
| dequantize | the numbers are those of ml_dtypes, everything else is as it was |
| transformers, default | the result is loaded without options: no key is missing or unexpected, weights and logits are those of the dequantised model |
| transformers, dequantize | the same with `CompressedTensorsConfig(dequantize=True)` (gpt_oss: `Mxfp4Config`) |
| vLLM configuration | vLLM's own model asks its own configuration class about every layer: MXFP4 for what is stored so, nothing for the rest |
| vLLM CPU run | vLLM's loader and engine, weights widened to bfloat16: tokens and log-probabilities of 2 x 120 tokens are those of the dequantised model, bit for bit |
| GGUF | `convert --to gguf`, opened by gguf, the same numbers |
| llama.cpp | `convert --to llama-cpp`, loaded and run by llama.cpp (the package xllamacpp) on a CPU: the next token after each of 20 prompts is that of transformers on the dequantised model |

`_tied`: the embedding is the output layer too. Dense models are quantised with `--linears`. What transformers saves of phimoe
and deepseek_v4 gets the names that published checkpoints have before vLLM reads it; gpt2's weights are
transposed for MXFP4, and `dequantize` turns them back.
"""


def main():
    results = json.loads((HERE / "results.json").read_text())
    names = list(results[OURS]["families"])
    names += sorted({n for check in results.values() for n in check["families"]} - set(names))
    notes, rows = [], []

    def cell(name, sources):
        found = [results[check]["families"].get(name, {}).get(step) for check, step in sources]
        found = [f for f in found if f is not None]
        if not found:
            return "-"
        if all(f == "right" for f in found):
            return "yes"
        note = next(f for f in found if f != "right").removeprefix("cannot: ").removeprefix("refused: ")
        if note not in notes:
            notes.append(note)
        return f"[{notes.index(note) + 1}]"

    for name in names:
        rows.append(f"| {name} | " + " | ".join(cell(name, sources) for _, sources in COLUMNS) + " |")
    versions = "; ".join(f"{check}: " + ", ".join(f"{p} {v}" for p, v in of["versions"].items())
                         for check, of in results.items())
    text = TEXT + "\nVersions: " + versions + ".\n\n"
    text += "| family | " + " | ".join(c for c, _ in COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS) + "\n"
    text += "\n".join(rows) + "\n\n-: not tried; without options transformers runs the form of gpt-oss with kernels for GPUs.\n\n"
    text += "".join(f"{i}. {note}\n" for i, note in enumerate(notes, 1))
    if "--write" in sys.argv:
        DOCUMENT.write_text(text)
    elif DOCUMENT.read_text() != text:
        sys.exit("docs/families.md is not made of tests/interop/results.json: families_table.py --write")


main()

# docs/site/questions.py -- what a reader asks, and which section has to be the first hit.
# SPDX-License-Identifier: Apache-2.0
"""The index is the one in the built site; the ranking is that of lunr, with which the search box of mkdocs reads it."""
import json

ANSWERS = {
    "dequantise a compressed-tensors matrix to bf16 at full speed":
        "docs/how-to.html#dequantise-a-compressed-tensors-matrix-to-bf16-at-full-speed",
    "multiply with it": "docs/how-to.html#multiply-with-it",
    "load from safetensors": "docs/how-to.html#load-it-from-safetensors",
    "choose a recipe with advice": "docs/how-to.html#choose-a-recipe-with-advice",
    "thread it with my own pool": "docs/how-to.html#thread-it-with-my-own-pool",
    "run a MoE layer": "docs/how-to.html#run-a-moe-layer",
    "convert from C++": "docs/how-to.html#convert-from-c",
}


def unanswered(site):
    """A line for each question whose first hit is another section than the one that answers it."""
    from lunr.index import Index
    search = json.loads((site / "search/search_index.json").read_text())
    index = Index.load(search["index"])
    lines = []
    for question, answer in ANSWERS.items():
        hits = [hit["ref"] for hit in index.search(question.replace("-", " "))]   # a hyphen would be the operator "not"
        if hits[:1] != [answer]:
            lines.append(f"questions.py: '{question}' finds {hits[:3]} first, expected {answer}")
    return lines

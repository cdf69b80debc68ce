# tests/interop/widened_vllm.py -- imported before a model is loaded: vLLM on a CPU takes MXFP4 weights as bfloat16.
# SPDX-License-Identifier: Apache-2.0
"""vLLM's own loader fills its own parameters from an MXFP4 checkpoint; then they are widened to bfloat16, which is exact,
and vLLM's unquantised path runs them. It has no MXFP4 kernel for CPUs that takes compressed-tensors (0.32), so this tells
whether the checkpoint is right: its names, its order of gate and up, what its configuration says of each layer.
"""
import torch
from vllm.model_executor.kernels.linear import register_linear_kernel
from vllm.model_executor.kernels.linear.mxfp4.base import MxFp4LinearKernel
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.router import cpu_router
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
    compressed_tensors_moe_w4a4_mxfp4 as experts)
from vllm.model_executor.layers.quantization import mxfp4
from vllm.platforms import PlatformEnum

VALUES = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6])


def widen(packed, scales):
    """[.., n / 2] codes, the even one in the low nibble, and [.., n / 32] scale bytes."""
    codes = torch.stack([packed & 15, packed >> 4], -1).flatten(-2).long()
    blocks = VALUES[codes].unflatten(-1, (-1, 32)) * torch.exp2(scales.float() - 127).unsqueeze(-1)
    return torch.nn.Parameter(blocks.flatten(-2).to(torch.bfloat16), requires_grad=False)


class WidenedLinear(MxFp4LinearKernel):
    @classmethod
    def is_supported(cls, compute_capability=None):
        return True, None

    @classmethod
    def can_implement(cls, config):
        return True, None

    def process_weights_after_loading(self, layer):
        layer.weight = widen(layer.weight.data, layer.weight_scale.data)
        del layer.weight_scale

    def apply_weights(self, layer, x, bias=None):
        return torch.nn.functional.linear(x, layer.weight, bias)


class Widened:
    """What both methods for experts have: codes and scales out, weights in, vLLM's method without quantization."""

    def process_weights_after_loading(self, layer):
        for name in ("w13", "w2"):
            codes = name + ("_weight_packed" if hasattr(layer, name + "_weight_packed") else "_weight")
            weight = widen(getattr(layer, codes).data, getattr(layer, name + "_weight_scale").data)
            delattr(layer, codes)
            delattr(layer, name + "_weight_scale")
            setattr(layer, name + "_weight", weight)
        self.plain = UnquantizedFusedMoEMethod(self.moe)
        self.plain.process_weights_after_loading(layer)
        self.moe_quant_config = getattr(self.plain, "moe_quant_config", None)
        self.moe_kernel = getattr(self.plain, "moe_kernel", None)

    def apply(self, *args, **kwargs):
        return self.plain.apply(*args, **kwargs)

    def apply_monolithic(self, *args, **kwargs):
        return self.plain.apply_monolithic(*args, **kwargs)

    @property
    def is_monolithic(self):
        return self.plain.is_monolithic


class WidenedExperts(Widened, experts.CompressedTensorsW4A4Mxfp4MoEMethod):
    pass


class WidenedGptOss(Widened, mxfp4.GptOssMxfp4MoEMethod):
    def __init__(self, moe):
        FusedMoEMethodBase.__init__(self, moe)  # without the search for a kernel, which ends in an error on a CPU
        self.weight_dtype = "gpt_oss_mxfp4"
        self.mxfp4_backend, self.experts_cls = mxfp4.Mxfp4MoeBackend.NONE, None

    def get_fused_moe_quant_config(self, layer):
        return self.plain.get_fused_moe_quant_config(layer)


def one_group(self, *args, **kwargs):
    """Sigmoid routing with a bias: what vLLM's CPU path (0.32) has it for is experts in groups, here in one."""
    original(self, *args, **kwargs)
    if self.scoring_func == "sigmoid" and not self.use_grouped_topk:
        self.use_grouped_topk, self.num_expert_group, self.topk_group = True, 1, 1


original = cpu_router.CPURouter.__init__
cpu_router.CPURouter.__init__ = one_group
experts.CompressedTensorsW4A4Mxfp4MoEMethod = WidenedExperts
mxfp4.GptOssMxfp4MoEMethod = WidenedGptOss
register_linear_kernel(WidenedLinear, PlatformEnum.CPU, "mxfp4")

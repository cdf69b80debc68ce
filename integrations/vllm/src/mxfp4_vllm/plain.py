# mxfp4_vllm/plain.py -- layers of an MXFP4 checkpoint that are bfloat16, on a CPU without instructions for that.
# SPDX-License-Identifier: Apache-2.0
"""Attention's linear layers and the head. Where vLLM (0.32) finds neither AMX nor a product of oneDNN for them, it
leaves them to torch, which is so slow at bfloat16 with AVX2 that they take most of the time. There, and only there,
plain_linear.cpp multiplies them: bfloat16 weights and activations, sums in f32.
"""
import torch
from vllm.logger import init_logger
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

from . import _mxfp4_vllm, ops

logger = init_logger("vllm.mxfp4_vllm")


def _take_over(layer: torch.nn.Module) -> None:
    """Packs a layer whose weight vLLM has left where it was: it lets go of those it has something faster for."""
    weight = layer.weight.data
    if weight.dim() != 2 or weight.numel() == 0 or weight.dtype != torch.bfloat16 or not _mxfp4_vllm.plain_suits():
        return
    packed = _mxfp4_vllm.PlainLinear(weight.contiguous().view(torch.int16))
    layer.register_buffer("mxfp4_handle", ops.add_layer(layer, packed, 0), persistent=False)
    layer.mxfp4_rows = packed.rows
    layer.weight = torch.nn.Parameter(torch.empty(0, dtype=weight.dtype), requires_grad=False)  # as vLLM does
    logger.info_once("Layers that are bfloat16 by mxfp4 too: this CPU has no instructions for that")


class _Plain:
    """What both methods multiply by, where they have packed the layer."""

    def apply(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if hasattr(layer, "mxfp4_handle"):
            return ops.linear(x, layer.mxfp4_handle, layer.mxfp4_rows, bias)
        return super().apply(layer, x, bias)


class PlainLinearMethod(_Plain, UnquantizedLinearMethod):
    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        super().process_weights_after_loading(layer)
        if not getattr(layer, "_cpu_skip_gemm_dispatch", False):  # whose weight is read by the attention
            _take_over(layer)


class PlainHeadMethod(_Plain, UnquantizedEmbeddingMethod):
    """Of a head that is not the embedding too: that is read in rows."""
    is_tied = False

    def tie_weights(self, layer: torch.nn.Module, embed_tokens: torch.nn.Module) -> torch.nn.Module:
        self.is_tied = True
        return super().tie_weights(layer, embed_tokens)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        if self.is_tied:
            super().process_weights_after_loading(layer)
            return
        dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
        _take_over(layer)


def plain_method(layer: torch.nn.Module, method: object) -> object:
    """`method`, which vLLM has chosen for a layer, or the same with these kernels."""
    if type(method) is UnquantizedLinearMethod:
        return PlainLinearMethod()
    if type(layer) is ParallelLMHead and (method is None or type(method) is UnquantizedEmbeddingMethod):
        return PlainHeadMethod()
    return method

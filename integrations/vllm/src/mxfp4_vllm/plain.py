# mxfp4_vllm/plain.py -- layers of an MXFP4 checkpoint that are bfloat16, on a CPU without AMX.
# SPDX-License-Identifier: Apache-2.0
"""Attention's linear layers and the head. Where there is no AMX for them, vLLM (0.32) leaves them to oneDNN or torch,
which are slow at bfloat16: with AVX2 they take most of the time, with AVX-512's dot products on Intel's CPUs twice as
long as in f32. There, and only there, plain_linear.cpp multiplies them: bfloat16 weights and activations, sums in f32.
"""
import torch
from vllm.logger import init_logger
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

from . import _mxfp4_vllm, ops

logger = init_logger("vllm.mxfp4_vllm")


def _take_over(layer: torch.nn.Module) -> bool:
    """Packs a layer's weight and lets go of it, if this is a CPU that it is for."""
    weight = layer.weight.data
    if (weight.is_meta or weight.dim() != 2 or weight.numel() == 0 or weight.dtype != torch.bfloat16
            or not _mxfp4_vllm.plain_suits() or torch.cpu._is_amx_tile_supported()):
        return False
    packed = _mxfp4_vllm.PlainLinear(weight.contiguous().view(torch.int16))
    layer.register_buffer("mxfp4_handle", ops.add_layer(layer, packed, 0), persistent=False)
    layer.mxfp4_rows = packed.rows
    layer.weight = torch.nn.Parameter(torch.empty(0, dtype=weight.dtype), requires_grad=False)  # as vLLM does
    logger.info_once("Layers that are bfloat16 by mxfp4 too: this CPU has no AMX for them")
    return True


class _Plain:
    """What both methods multiply by, where they have packed the layer."""

    def apply(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if hasattr(layer, "mxfp4_handle"):
            return ops.linear(x, layer.mxfp4_handle, layer.mxfp4_rows, bias)
        return super().apply(layer, x, bias)


class PlainLinearMethod(_Plain, UnquantizedLinearMethod):
    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        is_read_by_attention = getattr(layer, "_cpu_skip_gemm_dispatch", False)
        if is_read_by_attention or not _take_over(layer):
            super().process_weights_after_loading(layer)


class PlainHeadMethod(_Plain, UnquantizedEmbeddingMethod):
    """Of a head that is not the embedding too: that is read in rows."""
    is_tied = False

    def tie_weights(self, layer: torch.nn.Module, embed_tokens: torch.nn.Module) -> torch.nn.Module:
        self.is_tied = True
        return super().tie_weights(layer, embed_tokens)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        if self.is_tied:
            super().process_weights_after_loading(layer)
        elif not _take_over(layer):
            dispatch_cpu_unquantized_gemm(layer, remove_weight=True)


def plain_method(layer: torch.nn.Module, method: object) -> object:
    """`method`, which vLLM has chosen for a layer, or the same with these kernels."""
    if type(method) is UnquantizedLinearMethod:
        return PlainLinearMethod()
    if type(layer) is ParallelLMHead and (method is None or type(method) is UnquantizedEmbeddingMethod):
        return PlainHeadMethod()
    return method

# mxfp4_vllm/linear.py -- linear layers of compressed-tensors' MXFP4 (mxfp4 quantize --linears).
# SPDX-License-Identifier: Apache-2.0
import torch
from vllm.model_executor.kernels.linear.mxfp4.base import MxFp4LinearKernel, MxFp4LinearLayerConfig
from vllm.model_executor.layers.quantization.compressed_tensors.schemes import CompressedTensorsScheme
from vllm.model_executor.layers.quantization.compressed_tensors.schemes.compressed_tensors_w4a4_mxfp4 import (
    CompressedTensorsW4A4Mxfp4)

from . import _mxfp4_vllm, ops, settings
from .checks import NAN_SCALE, check_scales, check_split, explain


class Mxfp4CpuLinearKernel(MxFp4LinearKernel):
    """vLLM's hook for a kernel: q, k and v, or gate and up, come as one matrix."""

    @classmethod
    def is_supported(cls, compute_capability: int | None = None) -> tuple[bool, str | None]:
        return True, None

    @classmethod
    def can_implement(cls, config: MxFp4LinearLayerConfig) -> tuple[bool, str | None]:
        return True, None

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        packed = _mxfp4_vllm.Linear(layer.weight.data, layer.weight_scale.data)
        del layer.weight, layer.weight_scale
        layer.register_buffer("mxfp4_handle", ops.add_layer(layer, packed, settings.KINDS[settings.activations()]),
                              persistent=False)
        layer.mxfp4_rows = packed.rows

    def apply_weights(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return ops.linear(x, layer.mxfp4_handle, layer.mxfp4_rows, bias)


class Mxfp4LinearScheme(CompressedTensorsScheme):
    """vLLM's scheme, with what it does not look at: a split that cuts a block, scales that no file has."""

    def __init__(self, scheme: CompressedTensorsW4A4Mxfp4, name: str):
        self.scheme, self.name = scheme, name

    @classmethod
    def get_min_capability(cls) -> int:
        return CompressedTensorsW4A4Mxfp4.get_min_capability()

    def create_weights(self, layer: torch.nn.Module, output_partition_sizes: list[int], input_size_per_partition: int,
                       params_dtype: torch.dtype, **others) -> None:
        check_split(self.name, "the input size", others.get("input_size", input_size_per_partition),
                    input_size_per_partition)
        self.scheme.create_weights(layer, output_partition_sizes=output_partition_sizes,
                                   input_size_per_partition=input_size_per_partition, params_dtype=params_dtype,
                                   **others)
        layer.weight_scale.data.fill_(NAN_SCALE)
        for tensor in ("weight_packed", "weight_scale"):
            parameter = getattr(layer, tensor)
            parameter.weight_loader = explain(parameter.weight_loader, self.name, tensor)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        check_scales(self.name, "weight_scale", layer.weight_scale.data)
        self.scheme.process_weights_after_loading(layer)

    def apply_weights(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return self.scheme.apply_weights(layer, x, bias)

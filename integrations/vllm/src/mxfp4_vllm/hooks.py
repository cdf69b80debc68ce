# mxfp4_vllm/hooks.py -- where vLLM lets a plugin in: a linear kernel, and the classes of two quantization configs.
# SPDX-License-Identifier: Apache-2.0
import torch
from vllm.logger import init_logger
from vllm.model_executor.kernels.linear import register_linear_kernel
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig
from vllm.model_executor.layers.quantization.compressed_tensors.schemes.compressed_tensors_w4a4_mxfp4 import (
    CompressedTensorsW4A4Mxfp4)
from vllm.model_executor.layers.quantization.mxfp4 import GptOssMxfp4Config
from vllm.platforms import PlatformEnum

from . import _mxfp4_vllm, kv_cache, ops, router, settings
from .experts import CompressedTensorsExperts, GptOssExperts
from .linear import Mxfp4CpuLinearKernel, Mxfp4LinearScheme
from .plain import plain_method

logger = init_logger("vllm.mxfp4_vllm")  # below vllm, whose handler it then has


def say_once(declared: object) -> None:
    """Names what is run, where the first MXFP4 layer is made.

    declared: the checkpoint's input_activations, None where it leaves them as they are.
    """
    kind = settings.activations()
    logger.info_once("MXFP4 weights by mxfp4 %s (%s), activations %s: %s (%s)", _mxfp4_vllm.__version__,
                     _mxfp4_vllm.isa(), kind, settings.DESCRIPTIONS[kind], settings.VARIABLE)
    if declared is not None:
        logger.warning_once("The checkpoint declares %s-bit %s activations, which these kernels do not make: %s",
                            getattr(declared, "num_bits", "?"), getattr(declared.type, "value", declared.type),
                            f"they are multiplied as {kind} ({settings.VARIABLE})")


class Mxfp4CompressedTensorsConfig(CompressedTensorsConfig):
    """vLLM's, whose MXFP4 experts want a GPU."""

    def get_quant_method(self, layer: torch.nn.Module, prefix: str):
        if isinstance(layer, RoutedExperts):
            self._add_fused_moe_to_target_scheme_map()
            projections = (layer.ckpt_gate_proj_name, layer.ckpt_up_proj_name, layer.ckpt_down_proj_name)
            schemes = [self.get_scheme_dict(layer, f"{prefix}.0.{name}") for name in projections]
            if all(s is not None and self._is_mxfp4(s.get("weights")) for s in schemes):
                say_once(schemes[0].get("input_activations"))
                return CompressedTensorsExperts(layer.moe_config, prefix)
        method = super().get_quant_method(layer, prefix)
        return plain_method(layer, method) if self.has_mxfp4() else method

    def has_mxfp4(self) -> bool:
        """Is any group of the checkpoint's layers MXFP4?"""
        return any(s is not None and self._is_mxfp4(s.get("weights")) for s in self.target_scheme_map.values())

    def get_scheme(self, layer: torch.nn.Module, layer_name: str | None = None):
        scheme = super().get_scheme(layer, layer_name)
        if not isinstance(scheme, CompressedTensorsW4A4Mxfp4):
            return scheme
        say_once((self.get_scheme_dict(layer, layer_name) or {}).get("input_activations"))
        return Mxfp4LinearScheme(scheme, layer_name or type(layer).__name__)


class Mxfp4GptOssConfig(GptOssMxfp4Config):
    """vLLM's, whose experts for CPUs want AMX."""

    def get_quant_method(self, layer: torch.nn.Module, prefix: str):
        if isinstance(layer, RoutedExperts):
            say_once(None)
            return GptOssExperts(layer.moe_config, prefix)
        return plain_method(layer, super().get_quant_method(layer, prefix))


def install() -> None:
    """Once in a process; vLLM may ask again."""
    settings.activations()  # says what is wrong before a model is read
    _mxfp4_vllm.isa()
    ops.use_torch_threads()
    ops.permit_amx()
    router.take_one_group()
    kv_cache.use_fresh_pages()
    register_linear_kernel(Mxfp4CpuLinearKernel, PlatformEnum.CPU, "mxfp4")
    register_quantization_config("compressed-tensors")(Mxfp4CompressedTensorsConfig)
    register_quantization_config("gpt_oss_mxfp4")(Mxfp4GptOssConfig)

# mxfp4_vllm/experts.py -- experts in MXFP4: of compressed-tensors, one matrix for each, and of gpt-oss' own form.
# SPDX-License-Identifier: Apache-2.0
import torch
from vllm.model_executor.layers.fused_moe import FusedMoEConfig, RoutedExperts
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.config import FusedMoEQuantConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.routed_experts import FusedMoeWeightScaleSupported
from vllm.model_executor.layers.fused_moe.router.cpu_router import select_experts
from vllm.model_executor.utils import set_weight_attrs

from . import _mxfp4_vllm, ops, settings
from .checks import BLOCK, NAN_SCALE, Seen, check_scales, check_split

SIGMOID, SOFTMAX, SOFTMAX_OF_CHOSEN = 0, 1, 2  # enum scoring_func (moe/router.hpp)
# What an expert does between its products, and whether rows of gate and up take turns in vLLM's tensor.
_BETWEEN = {MoEActivation.SILU: ("silu", False), MoEActivation.GELU_TANH: ("gelu_tanh", False),
            MoEActivation.SWIGLUOAI: ("gpt_oss", True), MoEActivation.SWIGLUOAI_UNINTERLEAVE: ("gpt_oss", False)}


class Mxfp4Experts(FusedMoEMethodBase):
    """Routing and experts in one call: vLLM's contract for such methods is called monolithic.

    A subclass has create_weights(), which names the tensors that the loader fills.
    """
    CODES: tuple[str, str]  # names of w13's and w2's tensors

    def __init__(self, moe: FusedMoEConfig, name: str):
        super().__init__(moe)
        self.name = name
        self.seen: dict[str, Seen] = {}

    @property
    def is_monolithic(self) -> bool:
        return True

    def get_fused_moe_quant_config(self, layer: RoutedExperts) -> FusedMoEQuantConfig | None:
        return None  # for vLLM's own kernels

    def add_tensor(self, layer: RoutedExperts, name: str, shape: tuple[int, ...], fill: float, dtype: torch.dtype,
                   attributes: dict, sizes: dict[str, tuple[int, int]] | None = None) -> None:
        """A parameter for the loader to fill, which is watched at it. sizes: see Seen."""
        parameter = torch.nn.Parameter(torch.full(shape, fill, dtype=dtype), requires_grad=False)
        self.seen[name] = Seen(self.name, name, sizes or {})
        layer.register_parameter(name, parameter)
        set_weight_attrs(parameter, {**attributes, "weight_loader": self.seen[name].watch(attributes["weight_loader"])})

    def check_layer(self, layer: RoutedExperts) -> None:
        """What these kernels do not have, before the weights are read."""
        name, known = self.name, ", ".join(sorted(a.value for a in _BETWEEN))
        if layer.activation not in _BETWEEN:
            raise ValueError(f"{name}: the activation is {layer.activation.value}, expected one of {known}: serve the "
                             f"checkpoint that `mxfp4 dequantize` makes")
        is_clamped = _BETWEEN[layer.activation][0] == "gpt_oss"
        if not is_clamped and layer.swiglu_limit is not None:
            raise ValueError(f"{name}: swiglu_limit is {layer.swiglu_limit}, expected none with "
                             f"{layer.activation.value}: serve the checkpoint that `mxfp4 dequantize` makes")
        if is_clamped and layer.swiglu_beta not in (None, 1.0):
            raise ValueError(f"{name}: swiglu_beta is {layer.swiglu_beta}, expected 1: serve the checkpoint that "
                             f"`mxfp4 dequantize` makes")
        has_own_routing = layer.custom_routing_function is not None
        if layer.scoring_func not in ("sigmoid", "softmax") and not has_own_routing:
            raise ValueError(f"{name}: the router's scores are {layer.scoring_func}, expected sigmoid or softmax: "
                             f"serve the checkpoint that `mxfp4 dequantize` makes")
        if getattr(self.moe, "has_hash_routing", False):
            raise ValueError(f"{name}: experts are chosen by a hash of the token, expected by the router's scores: "
                             f"serve the checkpoint that `mxfp4 dequantize` makes")
        if layer.apply_router_weight_on_input and layer.top_k != 1:
            raise ValueError(f"{name}: the router's weights go to the inputs of {layer.top_k} experts a token, "
                             f"expected of one: serve the checkpoint that `mxfp4 dequantize` makes")

    def process_weights_after_loading(self, layer: RoutedExperts) -> None:
        """Packs what the loader has filled, and lets go of it: of a layer at a time there are two copies."""
        self.check_loaded(layer)
        codes13, codes2 = (getattr(layer, name).data for name in self.CODES)
        scales13, scales2 = layer.w13_weight_scale.data, layer.w2_weight_scale.data
        check_scales(self.name, "w13_weight_scale", scales13)
        check_scales(self.name, "w2_weight_scale", scales2)
        biases = [getattr(layer, n).data.float() if hasattr(layer, n) else None for n in ("w13_bias", "w2_bias")]
        act, rows_in_turn = _BETWEEN[layer.activation]
        packed = _mxfp4_vllm.Experts(codes13, scales13, codes2, scales2, *biases, rows_in_turn, act,
                                     1.702 if layer.swiglu_alpha is None else layer.swiglu_alpha,
                                     7.0 if layer.swiglu_limit is None else layer.swiglu_limit)
        for name in [n for n in (*self.CODES, "w13_weight_scale", "w2_weight_scale", "w13_bias", "w2_bias")
                     if hasattr(layer, n)]:
            delattr(layer, name)
        layer.register_buffer("mxfp4_handle", ops.add_layer(layer, packed, settings.KINDS[settings.activations()]),
                              persistent=False)
        self.seen.clear()

    def check_loaded(self, layer: RoutedExperts) -> None:
        raise NotImplementedError

    def apply_monolithic(self, layer: RoutedExperts, x: torch.Tensor, router_logits: torch.Tensor,
                         input_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Routing as vLLM's routers for GPUs have it: the one for CPUs (0.32) refuses sigmoid scores without groups,
        and leaves out the bias and the scale of softmax scores."""
        if layer.custom_routing_function is not None or layer.apply_router_weight_on_input:
            weights, indices = select_experts(
                x, router_logits, layer.top_k, layer.use_grouped_topk, layer.renormalize, layer.topk_group,
                layer.num_expert_group, layer.custom_routing_function, layer.scoring_func, layer.routed_scaling_factor,
                layer.e_score_correction_bias, input_ids=input_ids)
            if layer.apply_router_weight_on_input:  # llama4; rounded as vLLM does
                x, weights = x * weights.to(x.dtype), torch.ones_like(weights)
            return ops.routed(x, layer.mxfp4_handle, indices, weights, layer.expert_map)
        groups = (layer.num_expert_group, layer.topk_group) if layer.use_grouped_topk else (1, 1)
        scoring = SIGMOID if layer.scoring_func == "sigmoid" else SOFTMAX
        if scoring == SOFTMAX and layer.renormalize and groups[0] == 1 and layer.e_score_correction_bias is None:
            scoring = SOFTMAX_OF_CHOSEN  # the same, of fewer numbers
        return ops.experts(x, layer.mxfp4_handle, router_logits, layer.e_score_correction_bias, layer.expert_map,
                           layer.top_k, layer.renormalize, layer.routed_scaling_factor, scoring, *groups)


class CompressedTensorsExperts(Mxfp4Experts):
    """w13 [E, 2 I, H / 2], gate above up; w2 [E, H, I / 2]; scales the same with / 32."""
    CODES = "w13_weight_packed", "w2_weight_packed"

    def create_weights(self, layer: RoutedExperts, num_experts: int, hidden_size: int,
                       intermediate_size_per_partition: int, params_dtype: torch.dtype, **attributes) -> None:
        self.check_layer(layer)
        whole, part = self.moe.intermediate_size, intermediate_size_per_partition
        check_split(self.name, "the hidden size", hidden_size, hidden_size)
        check_split(self.name, "the intermediate size", whole, part)
        if self.moe.has_bias:
            raise ValueError(f"{self.name}: experts have biases, expected none in this form of checkpoint: convert it "
                             f"to gpt-oss' own with `mxfp4 convert --to gpt-oss`")
        layer.num_experts, layer.params_dtype = num_experts, params_dtype
        group = {**attributes, "quant_method": FusedMoeWeightScaleSupported.GROUP.value}
        for end, per_byte, fill, kind in (("packed", 2, 0, attributes), ("scale", BLOCK, NAN_SCALE, group)):
            up, down = (whole, hidden_size // per_byte), (hidden_size, whole // per_byte)
            self.add_tensor(layer, f"w13_weight_{end}", (num_experts, 2 * part, hidden_size // per_byte), fill,
                            torch.uint8, kind, {"w1": up, "w3": up})
            self.add_tensor(layer, f"w2_weight_{end}", (num_experts, hidden_size, part // per_byte), fill, torch.uint8,
                            kind, {"w2": down})

    def check_loaded(self, layer: RoutedExperts) -> None:
        if layer.expert_map is None:
            here = list(range(layer.local_num_experts))
        else:
            here = (layer.expert_map >= 0).nonzero().flatten().tolist()
        names = {"w1": layer.ckpt_gate_proj_name, "w3": layer.ckpt_up_proj_name, "w2": layer.ckpt_down_proj_name}
        for name, seen in self.seen.items():
            lacking = seen.lacks(("w1", "w3") if name.startswith("w13") else ("w2",), here)
            if lacking is not None:
                shard, expert = lacking
                raise ValueError(f"{self.name}: {names[shard]}.{name.partition('_')[2]} of expert {expert} is not in "
                                 f"the checkpoint, expected one of each of {len(here)} experts: `mxfp4 verify DIR` "
                                 f"names what is missing")


class GptOssExperts(Mxfp4Experts):
    """w13 [E, 2 I, H / 2], rows of gate and up in turn; w2 [E, H, I / 2]; all experts of a layer at once, biases."""
    CODES = "w13_weight", "w2_weight"

    def __init__(self, moe: FusedMoEConfig, name: str):
        super().__init__(moe, name)
        self.weight_dtype = "gpt_oss_mxfp4"  # vLLM's loader of the family asks for it

    def maybe_roundup_sizes(self, hidden_size: int, intermediate_size_per_partition: int, act_dtype: torch.dtype,
                            moe_parallel_config) -> tuple[int, int]:
        """The loader gives each process whole blocks, the last one fewer: what it leaves over are zeros."""
        hidden_size, size = super().maybe_roundup_sizes(hidden_size, intermediate_size_per_partition, act_dtype,
                                                        moe_parallel_config)
        return hidden_size, (size + BLOCK - 1) // BLOCK * BLOCK

    def create_weights(self, layer: RoutedExperts, num_experts: int, hidden_size: int,
                       intermediate_size_per_partition: int, params_dtype: torch.dtype, **attributes) -> None:
        self.check_layer(layer)
        check_split(self.name, "the hidden size", hidden_size, hidden_size)
        whole = self.moe.intermediate_size
        check_split(self.name, "the intermediate size", whole, whole)  # of a process they are whole blocks, see above
        layer.num_experts, layer.params_dtype = num_experts, params_dtype
        part = intermediate_size_per_partition
        block = {**attributes, "quant_method": FusedMoeWeightScaleSupported.BLOCK.value}
        one = 127  # 2^0: of columns that fill up a process' last block
        for stem, rows, columns in (("w13", 2 * part, hidden_size), ("w2", hidden_size, part)):
            self.add_tensor(layer, f"{stem}_weight", (num_experts, rows, columns // 2), 0, torch.uint8, attributes)
            self.add_tensor(layer, f"{stem}_weight_scale", (num_experts, rows, columns // BLOCK), one, torch.uint8,
                            block)
            if self.moe.has_bias:
                self.add_tensor(layer, f"{stem}_bias", (num_experts, rows), 0, torch.bfloat16, attributes)

    def check_loaded(self, layer: RoutedExperts) -> None:
        for name, seen in self.seen.items():
            if not seen.parts:
                raise ValueError(f"{self.name}.{name} is not in the checkpoint, expected that of all experts: `mxfp4 "
                                 f"verify DIR` names what is missing")

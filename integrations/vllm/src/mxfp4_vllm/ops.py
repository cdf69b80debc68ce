# mxfp4_vllm/ops.py -- the layers as torch custom operators, which torch.compile passes over.
# SPDX-License-Identifier: Apache-2.0
"""A compiled graph is kept on disk and read by other processes, so an operator cannot be told an address. It takes a
tensor of one number, the layer's place in a list of this process, which is an input of the graph like a weight.
"""
import ctypes
import glob
import os
import platform
import sys
import weakref

import torch
from vllm.logger import init_logger

from . import _mxfp4_vllm

logger = init_logger("vllm.mxfp4_vllm")

_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # enum number (layers.hpp)
_layers: list[tuple[object, int] | None] = []  # with what activations are multiplied as; None: vLLM let go of it


def use_torch_threads() -> None:
    """Hands torch's OpenMP library to the kernels: the one that the process would take, which is that of LD_PRELOAD if
    there is one, or else the one that torch brings."""
    files = glob.glob(os.path.join(torch.__path__[0], "lib", "libtorch_cpu.*"))
    for library in (ctypes.CDLL(name) for name in (None, *files)):
        if hasattr(library, "GOMP_parallel") and hasattr(library, "omp_get_max_threads"):
            _mxfp4_vllm.use_openmp(*(ctypes.cast(function, ctypes.c_void_p).value
                                     for function in (library.GOMP_parallel, library.omp_get_max_threads)))
            return
    logger.warning("mxfp4_vllm: neither this process nor %s has GOMP_parallel: MXFP4 layers run on one thread",
                   files or os.path.join(torch.__path__[0], "lib", "libtorch_cpu.*"))


def permit_amx() -> None:
    """Asks Linux for the tiles of AMX. vLLM's attention (0.32) uses them and leaves the asking to oneDNN, whose products
    are the first to need them; where products are ours it may never ask."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        arch_prctl, request_permission, tile_data = 158, 0x1023, 18
        ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data)  # refused where there is no AMX


def add_layer(owner: torch.nn.Module, layer: object, kind: int) -> torch.Tensor:
    """The tensor by which the operators find a Linear or Experts, for as long as `owner` is there."""
    place = len(_layers)
    _layers.append((layer, kind))
    weakref.finalize(owner, _layers.__setitem__, place, None)
    return torch.tensor([place], dtype=torch.int64)


def has_layers() -> bool:
    """Is there a layer in this process that vLLM has not let go of?"""
    return any(layer is not None for layer in _layers)


def _expect(name: str, is_it: object, expected: object) -> None:
    """The kernels are given addresses, so what they read and write is looked at here."""
    if is_it != expected:
        raise ValueError(f"mxfp4_vllm: {name} is {is_it}, expected {expected}")


def _type_of(name: str, x: torch.Tensor) -> int:
    if x.dtype not in _TYPES:
        raise ValueError(f"mxfp4_vllm: {name} is {x.dtype}, expected one of {', '.join(map(str, _TYPES))}")
    return _TYPES[x.dtype]


def _rows(x: torch.Tensor) -> torch.Tensor:
    """As a matrix whose rows have no gaps; copied only where they have."""
    x = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    return x if x.stride(1) == 1 else x.contiguous()


def _float_address(x: torch.Tensor | None) -> tuple[torch.Tensor | None, int]:
    if x is None:
        return None, 0
    x = x.float().contiguous()
    return x, x.data_ptr()


def _map_address(expert_map: torch.Tensor | None) -> tuple[torch.Tensor | None, int, int]:
    """vLLM's map from an expert of the model to its place here, -1 where it is elsewhere."""
    if expert_map is None:
        return None, 0, 0
    expert_map = expert_map.to(torch.int32).contiguous()
    return expert_map, expert_map.data_ptr(), expert_map.numel()


def _linear(x: torch.Tensor, handle: torch.Tensor, rows: int, bias: torch.Tensor | None) -> torch.Tensor:
    layer, kind = _layers[handle.item()]
    matrix = _rows(x)
    y = torch.empty((*x.shape[:-1], rows), dtype=x.dtype)
    kept, bias_at = _float_address(bias)
    _expect("x.shape[-1]", matrix.shape[1], layer.cols)
    _expect("rows", rows, layer.rows)
    _expect("the number of biases", rows if bias is None else bias.numel(), layer.rows)
    layer.run(matrix.data_ptr(), matrix.shape[0], matrix.stride(0), bias_at, y.data_ptr(), _type_of("x", x), kind)
    return y


def _routed(x: torch.Tensor, handle: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor,
            expert_map: torch.Tensor | None) -> torch.Tensor:
    layer, kind = _layers[handle.item()]
    x = _rows(x)
    y = torch.empty(x.shape, dtype=x.dtype)
    indices, weights = indices.to(torch.int32).contiguous(), weights.float().contiguous()
    kept, local_at, experts = _map_address(expert_map)
    _expect("x.shape[-1]", x.shape[1], layer.hidden)
    _expect("indices.shape", (indices.dim(), indices.shape[0]), (2, x.shape[0]))
    _expect("weights.shape", weights.shape, indices.shape)
    layer.run(x.data_ptr(), x.shape[0], x.stride(0), indices.data_ptr(), weights.data_ptr(), indices.shape[1], local_at,
              experts, y.data_ptr(), _type_of("x", x), kind)
    return y


def _experts(x: torch.Tensor, handle: torch.Tensor, logits: torch.Tensor, bias: torch.Tensor | None,
             expert_map: torch.Tensor | None, top_k: int, renormalize: bool, scale: float, scoring: int, n_group: int,
             topk_group: int) -> torch.Tensor:
    layer, kind = _layers[handle.item()]
    x, logits = _rows(x), _rows(logits)
    y = torch.empty(x.shape, dtype=x.dtype)
    kept_bias, bias_at = _float_address(bias)
    kept_map, local_at, experts = _map_address(expert_map)
    _expect("x.shape[-1]", x.shape[1], layer.hidden)
    _expect("logits.shape[0]", logits.shape[0], x.shape[0])
    _expect("the number of biases", logits.shape[1] if bias is None else bias.numel(), logits.shape[1])
    layer.route_and_run(x.data_ptr(), x.shape[0], x.stride(0), logits.data_ptr(), logits.stride(0), logits.shape[1],
                        _type_of("logits", logits), bias_at, top_k, renormalize, scale, scoring, n_group, topk_group,
                        local_at, experts, y.data_ptr(), _type_of("x", x), kind)
    return y


_library = torch.library.Library("mxfp4_vllm", "DEF")
for _schema, _function, _fake in (
        ("linear(Tensor x, Tensor handle, int rows, Tensor? bias) -> Tensor", _linear,
         lambda x, handle, rows, bias: x.new_empty((*x.shape[:-1], rows))),
        ("routed(Tensor x, Tensor handle, Tensor indices, Tensor weights, Tensor? expert_map) -> Tensor", _routed,
         lambda x, *others: x.new_empty(x.shape)),
        ("experts(Tensor x, Tensor handle, Tensor logits, Tensor? bias, Tensor? expert_map, int top_k, "
         "bool renormalize, float scale, int scoring, int n_group, int topk_group) -> Tensor", _experts,
         lambda x, *others: x.new_empty(x.shape))):
    _name = _schema.partition("(")[0]
    _library.define(_schema)
    _library.impl(_name, _function, "CPU")
    torch.library.register_fake(f"mxfp4_vllm::{_name}", _fake, lib=_library)

linear = torch.ops.mxfp4_vllm.linear.default
routed = torch.ops.mxfp4_vllm.routed.default
experts = torch.ops.mxfp4_vllm.experts.default

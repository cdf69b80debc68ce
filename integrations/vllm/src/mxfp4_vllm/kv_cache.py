# mxfp4_vllm/kv_cache.py -- a KV cache that takes memory as it is used.
# SPDX-License-Identifier: Apache-2.0
"""vLLM (0.32) makes the whole KV cache with torch.zeros, which writes to it: gigabytes that are asked for lest there be
too few later are in memory from the start. Pages that the system has just mapped are zeros, and are in memory when they
are written. Everything else about the cache is vLLM's.
"""
import functools
import mmap
import sys

import torch
from torch.overrides import TorchFunctionMode
from vllm.v1.worker import utils

from . import ops

NAME = "allocate_kv_cache"
# Who else has it by that name; one that is imported later takes it from utils.
IMPORTERS = "vllm.v1.worker.gpu_model_runner", "vllm.v1.worker.gpu.attn_utils"


class _FreshPages(TorchFunctionMode):
    """torch.zeros of bytes on the CPU, untouched."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        is_bytes = (function is torch.zeros and len(args) == 1 and isinstance(args[0], int) and args[0] > 0
                    and kwargs.get("dtype") is torch.int8 and torch.device(kwargs.get("device", "cpu")).type == "cpu"
                    and not kwargs.keys() - {"dtype", "device"})
        if not is_bytes:
            return function(*args, **kwargs)
        return torch.frombuffer(mmap.mmap(-1, args[0], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=torch.int8)


def use_fresh_pages() -> None:
    """For the cache of a model that has MXFP4 layers. Once in a process."""
    original = getattr(utils, NAME)
    if hasattr(original, "mxfp4_fresh_pages"):
        return

    @functools.wraps(original)
    def allocate(*args, **kwargs):
        if not ops.has_layers():
            return original(*args, **kwargs)
        with _FreshPages():
            return original(*args, **kwargs)

    allocate.mxfp4_fresh_pages = True
    for module in (utils, *(sys.modules[name] for name in IMPORTERS if name in sys.modules)):
        setattr(module, NAME, allocate)

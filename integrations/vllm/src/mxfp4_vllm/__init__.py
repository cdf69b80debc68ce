# mxfp4_vllm/__init__.py -- the entry point: vLLM calls register() in every process that it starts.
# SPDX-License-Identifier: Apache-2.0
"""vLLM serves MXFP4 checkpoints on any CPU, with the kernels of mxfp4. docs/vllm.md

Nothing is imported by hand: vLLM finds the package by the entry point group vllm.general_plugins. On a GPU nothing
changes. On a CPU a checkpoint without MXFP4 is what it was, but for routings that vLLM refuses or computes without
their bias (router.py); in one with it bfloat16 layers (plain.py) and the KV cache's memory (kv_cache.py) change. A
vLLM that this was not tested with is not served at all, unless VLLM_PLUGINS leaves the plugin out.
"""
TESTED = ("0.32.0",)  # of vLLM; what it offers to plugins changes from one to the next


def register() -> None:
    """Makes MXFP4 layers known to vLLM: the linear kernel, and the experts of two forms of checkpoint.

    RuntimeError on a vLLM that this was not tested with, or a CPU without the instructions that are asked for.
    """
    import vllm
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    if vllm.__version__ not in TESTED:
        raise RuntimeError(
            f"mxfp4_vllm: vLLM is {vllm.__version__}, expected {' or '.join(TESTED)}, with which this was tested: "
            f"install that one (integrations/vllm/setup.sh), or set VLLM_PLUGINS= to serve without MXFP4")
    from . import hooks

    hooks.install()

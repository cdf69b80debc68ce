# mxfp4_vllm/settings.py -- the one option: what activations are multiplied as.
# SPDX-License-Identifier: Apache-2.0
import os

VARIABLE = "MXFP4_VLLM_ACTIVATIONS"
# The numbers are those of enum activations (layers.hpp).
KINDS = {"bfloat16": 0, "int8": 1, "int8-residual2": 2, "int8-residual3": 3}
DESCRIPTIONS = {"bfloat16": "as they are (exact products)", "int8": "int8 under a scale for each 32",
                "int8-residual2": "the sum of two int8 numbers", "int8-residual3": "the sum of three int8 numbers"}


def activations() -> str:
    """The option's value, a key of KINDS; ValueError for another one."""
    name = os.environ.get(VARIABLE) or "bfloat16"
    if name not in KINDS:
        raise ValueError(f"{VARIABLE} is '{name}', expected one of {', '.join(KINDS)}")
    return name

#!/usr/bin/env python3
"""tests/cuda/sass/nvcc_12_8.py -- as nvcc 12.8 sees the headers, without a word for families: all of the hardware is used.

SPDX-License-Identifier: Apache-2.0

Usage: nvcc_12_8.py NVCC KERNELS [option...]     KERNELS: the folder of conversion.cu and products_mxfp8.cu

nvcc 12.8 defines __CUDA_ARCH_FEAT_SM100_ALL and its like, and no __CUDA_ARCH_FAMILY_SPECIFIC__, which came with 12.9.
"""
import subprocess
import sys

nvcc, kernels, *options = sys.argv[1:]
for arch, name, instruction in (("100a", "conversion", "cvt.rn.satfinite.e2m1x2.f32"),
                                ("120a", "conversion", "cvt.rn.satfinite.e2m1x2.f32"),
                                ("120a", "products_mxfp8", "kind::mxf8f6f4.block_scale")):
    ptx = subprocess.run([nvcc, "-std=c++20", f"-arch=compute_{arch}", "-U__CUDA_ARCH_FAMILY_SPECIFIC__", "-ptx", "-o", "-", f"{kernels}/{name}.cu", *options],
                         check=True, capture_output=True, text=True).stdout
    count = ptx.count(instruction)
    print(f"{name}.cu for sm_{arch}: {count} {instruction}")
    if count == 0:
        sys.exit(f"no {instruction}: is `target` in ptx.cuh defined for nvcc 12.8, too?")

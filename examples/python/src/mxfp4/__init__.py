# mxfp4/__init__.py -- the MXFP4 format on NumPy and torch arrays; docs/python.md has examples.
# SPDX-License-Identifier: Apache-2.0
"""Weights to and from MXFP4: blocks of 32 FP4 codes (E2M1) under one power-of-two scale (E8M0).

    codes, scales = mxfp4.quantize(w, "compressed_tensors")     # w: N x K; codes: N x K/2, scales: N x K/32, uint8
    mine = numpy.array_equal(codes, my_own_codes)

The lower nibble of a byte of codes is the even element. What a function refuses raises ValueError, TypeError for an
argument of another type, dtype or device, with the sentence that the C++ library has for it.
"""
from ._mxfp4 import __version__, decode, dequantize, dialects, encode, gemv, isa, quantize, recipes

__all__ = ["__version__", "decode", "dequantize", "dialects", "encode", "gemv", "isa", "quantize", "recipes"]

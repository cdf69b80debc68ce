#!/usr/bin/env python3
# examples/minimax/baselines.py -- what xz and a context model make of the held-out text: bars for the model.
# SPDX-License-Identifier: Apache-2.0
import lzma
import math
from collections import defaultdict

import text

ORDER = 5


def xz_bits(learn, held_out):
    """Bits a byte of the held-out text: alone, and after the text the model has learned from."""
    size = lambda data: len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    return 8 * size(held_out) / len(held_out), 8 * (size(learn + held_out) - size(learn)) / len(held_out)


def context_model_bits(learn, held_out):
    """Contexts of 0 to 5 bytes, blended as Witten and Bell do, counting on while it reads the held-out text."""
    counts = [defaultdict(lambda: defaultdict(int)) for _ in range(ORDER + 1)]
    totals = [defaultdict(int) for _ in range(ORDER + 1)]
    bits, history = 0.0, b""
    for position, byte in enumerate(learn + held_out):
        contexts = [history[len(history) - n:] for n in range(min(ORDER, len(history)) + 1)]
        if position >= len(learn):
            p = 1 / 256
            for n, context in enumerate(contexts):
                kinds = len(counts[n][context])
                if kinds:
                    p = (counts[n][context][byte] + kinds * p) / (totals[n][context] + kinds)
            bits -= math.log2(p)
        for n, context in enumerate(contexts):
            counts[n][context][byte] += 1
            totals[n][context] += 1
        history = (history + bytes([byte]))[-ORDER:]
    return bits / len(held_out)


if __name__ == "__main__":
    alone, after = xz_bits(*text.split())
    print(f"xz -9e: {alone:.3f} bits a byte alone, {after:.3f} after the training text")
    print(f"order-{ORDER} context model: {context_model_bits(*text.split()):.3f} bits a byte")

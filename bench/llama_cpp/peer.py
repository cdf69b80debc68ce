#!/usr/bin/env python3
# bench/llama_cpp/peer.py -- llama.cpp behind the lines that bench_runner reads: compare.py speaks with both.
# SPDX-License-Identifier: Apache-2.0
"""peer.py MODEL.gguf --threads N --context TOKENS [--flash-attention off]; lines from standard input as runner.cpp has them."""
import argparse
import ctypes
import sys
import time

import llama_cpp
import numpy as np

FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # llama.h, llama_flash_attn_type


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--flash-attention", choices=FLASH_ATTENTION, default="auto")
    options = parser.parse_args()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(options.model.encode(), llama_cpp.llama_model_default_params())
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = options.context, 512, 512
    params.n_threads = params.n_threads_batch = options.threads
    params.flash_attn_type = FLASH_ATTENTION[options.flash_attention]
    params.swa_full = False  # as llama-bench has it: a layer with a window keeps and reads no more than that
    context = llama_cpp.llama_init_from_model(model, params)
    memory = llama_cpp.llama_get_memory(context)

    def take(ids):
        for first in range(0, len(ids), 512):
            some = ids[first:first + 512]
            tokens = (llama_cpp.llama_token * len(some))(*some)  # the batch has its address alone
            batch = llama_cpp.llama_batch_get_one(tokens, len(some))
            if llama_cpp.llama_decode(context, batch) != 0:
                sys.exit("llama_decode failed")
        llama_cpp.llama_synchronize(context)

    print("ready", flush=True)
    for line in sys.stdin:
        command, *rest = line.split()
        begin = time.perf_counter()
        if command == "clear":
            llama_cpp.llama_memory_clear(memory, True)
        elif command == "take":
            take([int(i) for i in rest])
        elif command == "each":
            for i in rest:
                take([int(i)])
        elif command == "logits":
            got = llama_cpp.llama_get_logits_ith(context, -1)
            np.ctypeslib.as_array(got, (vocabulary,)).astype("<f4").tofile(rest[0])
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# examples/minimax/train_tiny.py -- trains a MiniMax-M2 in miniature on bytes and exports its FP8 checkpoint.
# SPDX-License-Identifier: Apache-2.0
#
#   train_tiny.py --export model      needs: Debian's python3-torch and bible-kjv (cmake/setup.sh --with train)
#
# Same seed, same torch, one thread: the same model. Interrupted, it goes on from --state. The learning rate is constant
# after a warm-up and falls to zero over the last quarter of the steps.
import argparse
import math
import os
import time

import torch
from torch.nn import functional as F

import checkpoint
import text
from model import Model

CONFIG = dict(
    architectures=["MiniMaxM2ForCausalLM"], model_type="minimax_m2", vocab_size=256, hidden_size=192,
    intermediate_size=128, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2, head_dim=32,
    rotary_dim=16, rope_theta=10000, max_position_embeddings=512, num_local_experts=16, num_experts_per_tok=4,
    scoring_func="sigmoid", use_routing_bias=True, use_qk_norm=True, qk_norm_type="per_layer", rms_norm_eps=1e-6,
    hidden_act="silu", shared_intermediate_size=0, tie_word_embeddings=False, attn_type_list=[1] * 4,
    torch_dtype="bfloat16")
WINDOW, BATCH, RATE, WARM_UP, BALANCE, LOG_EVERY, SAVE_EVERY = 256, 16, 2e-3, 100, 1e-3, 25, 100


def as_ids(data):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long()


def rate_at(step, steps):
    return RATE * min((step + 1) / WARM_UP, 1, 4 * (steps - step) / steps)


def loss_of(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


@torch.no_grad()
def bits_per_byte(model, ids):
    """Of the held-out text in windows that do not overlap: every byte but the first of a window is predicted."""
    count = len(ids) // (WINDOW + 1)
    windows = ids[:count * (WINDOW + 1)].view(count, -1)
    losses = [loss_of(model, part) * len(part) for part in windows.split(BATCH)]
    return sum(losses).item() / count / math.log(2)


def main():
    parser = argparse.ArgumentParser(description="Train a MiniMax-M2 in miniature and export its FP8 checkpoint.")
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--state", default="state.pt", help="where an interrupted run goes on from")
    parser.add_argument("--export", help="folder for the checkpoint")
    arguments = parser.parse_args()

    torch.manual_seed(2026)
    torch.set_num_threads(1)
    learn, held_out = map(as_ids, text.split())
    model = Model(CONFIG)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=0.1), dict(params=vectors, weight_decay=0.0)],
                                  betas=(0.9, 0.95))
    first = 0
    if os.path.exists(arguments.state):
        state = torch.load(arguments.state)
        first = state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])

    begin, mean = time.time(), None
    for step in range(first, arguments.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, arguments.steps)
        starts = torch.randint(len(learn) - WINDOW - 1, (BATCH,))
        loss = loss_of(model, torch.stack([learn[s:s + WINDOW + 1] for s in starts.tolist()]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.balance(BALANCE)
        bits = loss.item() / math.log(2)
        mean = bits if mean is None else 0.98 * mean + 0.02 * bits
        if (step + 1) % LOG_EVERY == 0:
            pace = (time.time() - begin) / (step + 1 - first)
            print(f"step {step + 1} of {arguments.steps}: {mean:.3f} bits a byte, {pace:.2f} s a step", flush=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == arguments.steps:
            torch.save(dict(step=step + 1, model=model.state_dict(), optimizer=optimizer.state_dict(),
                            random=torch.get_rng_state()), arguments.state + ".new")
            os.replace(arguments.state + ".new", arguments.state)
        if (step + 1) % 500 == 0 or step + 1 == arguments.steps:
            print(f"held out: {bits_per_byte(model, held_out):.4f} bits a byte", flush=True)
    if arguments.export:
        checkpoint.export(model, CONFIG, arguments.export)


if __name__ == "__main__":
    main()

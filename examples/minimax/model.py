# examples/minimax/model.py -- the MiniMax-M2 architecture in PyTorch, as far as training needs it.
# SPDX-License-Identifier: Apache-2.0
#
#   x = embed(ids);  a layer: x += attention(norm(x)), x += experts(norm(x));  logits = head(norm(x))
#
# Attention: RMSNorm of q and of k over all heads together, rotary embedding of the first `rotary_dim` of each head
# (halves, not pairs), grouped keys and values. Experts: sigmoid scores, the top k of score + bias, weights the scores
# without the bias, divided by their sum; an expert is w2(silu(w1 x) * (w3 x)).
import torch
from torch import nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def rotary_tables(config, length):
    half = config["rotary_dim"] // 2
    frequency = config["rope_theta"] ** (-torch.arange(half) / half)
    angle = torch.outer(torch.arange(length), frequency)
    return torch.cos(angle), torch.sin(angle)


def rotate(x, cos, sin):
    """x [..., length, head_dim]: turns the pairs (i, i + half) of the first 2 * half dimensions."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, eps = config["hidden_size"], config["rms_norm_eps"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head_dim = config["head_dim"]
        q_size, kv_size = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(hidden, q_size, bias=False)
        self.k_proj = nn.Linear(hidden, kv_size, bias=False)
        self.v_proj = nn.Linear(hidden, kv_size, bias=False)
        self.o_proj = nn.Linear(q_size, hidden, bias=False)
        self.q_norm = RMSNorm(q_size, eps)
        self.k_norm = RMSNorm(kv_size, eps)

    def split(self, x, heads):
        return x.view(*x.shape[:-1], heads, self.head_dim).transpose(1, 2)

    def forward(self, x, cos, sin):
        q = rotate(self.split(self.q_norm(self.q_proj(x)), self.heads), cos, sin)
        k = rotate(self.split(self.k_norm(self.k_proj(x)), self.kv_heads), cos, sin)
        v = self.split(self.v_proj(x), self.kv_heads)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        scores = q @ k.transpose(-1, -2) / self.head_dim ** 0.5
        length = x.shape[1]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        out = scores.masked_fill(future, float("-inf")).softmax(-1) @ v
        return self.o_proj(out.transpose(1, 2).reshape(*x.shape[:-1], -1))


class Expert(nn.Module):
    def __init__(self, hidden, width):
        super().__init__()
        self.w1 = nn.Linear(hidden, width, bias=False)
        self.w2 = nn.Linear(width, hidden, bias=False)
        self.w3 = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class SparseMoe(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, count = config["hidden_size"], config["num_local_experts"]
        self.top_k = config["num_experts_per_tok"]
        self.gate = nn.Linear(hidden, count, bias=False)
        self.register_buffer("e_score_correction_bias", torch.zeros(count))
        self.experts = nn.ModuleList(Expert(hidden, config["intermediate_size"]) for _ in range(count))
        self.load = torch.zeros(count)

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        scores = torch.sigmoid(self.gate(tokens))
        chosen = torch.topk(scores.detach() + self.e_score_correction_bias, self.top_k).indices
        weights = scores.gather(1, chosen)
        weights = weights / weights.sum(1, keepdim=True)
        order = chosen.flatten().argsort(stable=True)
        self.load = torch.bincount(chosen.flatten(), minlength=len(self.experts))
        rows = order // self.top_k
        parts = [expert(part) for expert, part in zip(self.experts, tokens[rows].split(self.load.tolist()))]
        out = torch.cat(parts) * weights.flatten()[order, None]
        return torch.zeros_like(tokens).index_add(0, rows, out).view_as(x)

    @torch.no_grad()
    def balance(self, rate):
        """Aux-loss-free balancing: the bias of an expert with too few tokens grows."""
        load = self.load.float()
        self.e_score_correction_bias += rate * torch.sign(load.mean() - load)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, eps = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm = RMSNorm(hidden, eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(hidden, eps)
        self.block_sparse_moe = SparseMoe(config)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.block_sparse_moe(self.post_attention_layernorm(x))


class Model(nn.Module):
    """Parameter names are those of a MiniMax-M2 checkpoint."""

    def __init__(self, config):
        super().__init__()
        hidden, vocabulary = config["hidden_size"], config["vocab_size"]
        self.config = config
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocabulary, hidden)
        self.model.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.model.norm = RMSNorm(hidden, config["rms_norm_eps"])
        self.lm_head = nn.Linear(hidden, vocabulary, bias=False)
        depth = config["num_hidden_layers"]
        for name, weight in self.named_parameters():
            if weight.dim() == 2:  # what writes to the residual stream starts smaller, so that depth does not matter
                nn.init.normal_(weight, std=0.02 * ((2 * depth) ** -0.5 if "o_proj" in name or "w2" in name else 1))

    def forward(self, ids):
        cos, sin = rotary_tables(self.config, ids.shape[1])
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.model.norm(x))

    def balance(self, rate):
        for layer in self.model.layers:
            layer.block_sparse_moe.balance(rate)

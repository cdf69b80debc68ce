// src/model/experts.cpp -- see experts.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/experts.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <tuple>
#include <utility>

#include "model/kernels.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

constexpr std::int64_t tokens_a_part = 1024;

/// x * sigmoid(x) within a few ulp; -inf gives NaN, so that an overflow does not end as a silent 0.
[[nodiscard]] float silu(float x) { return x / (1.0f + std::exp(-x)); }

}  // namespace

double router_agreement(const routing& a, const routing& b) {
  std::int64_t shared = 0;
  const auto k = static_cast<std::ptrdiff_t>(a.top_k);
  for (auto i = a.experts.begin(), j = b.experts.begin(); i != a.experts.end(); i += k, j += k)
    shared += std::count_if(i, i + k, [&](std::int32_t e) { return std::find(j, j + k, e) != j + k; });
  return a.experts.empty() ? 1.0 : static_cast<double>(shared) / static_cast<double>(a.experts.size());
}

std::vector<routed_token> tokens_of(const routing& r, std::int64_t index) {
  std::vector<routed_token> tokens;
  for (std::size_t i = 0; i < r.experts.size(); ++i)
    if (r.experts[i] == index) tokens.push_back({static_cast<std::int64_t>(i) / r.top_k, r.weights[i]});
  return tokens;
}

router::router(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer)
    : layer_(layer), top_k_(config.shape.experts_per_token), eps_(config.rms_eps) {
  const minimax_m2_shape& s = config.shape;
  norm_ = read_vector(checkpoint, layer_name(layer, "post_attention_layernorm.weight"), s.hidden);
  bias_ = read_vector(checkpoint, layer_name(layer, "block_sparse_moe.e_score_correction_bias"), s.experts);
  gate_ = linear::load(checkpoint, layer_name(layer, "block_sparse_moe.gate"), s.experts, s.hidden);
}

token_rows router::normed(const token_rows& x) const {
  token_rows h(x.count, x.size);
  for (std::int64_t t = 0; t < x.count; ++t) rms_norm(x.row(t), norm_, eps_, h.row(t));
  return h;
}

routing router::route(const token_rows& h, const product_options& options) const {
  token_rows logits(h.count, gate_.rows());
  gate_.multiply(h.view(), logits.view(), options);
  const auto pairs = static_cast<std::size_t>(h.count * top_k_);
  routing r{top_k_, std::vector<std::int32_t>(pairs), std::vector<float>(pairs)};
  const status s = kernels::route_topk_sigmoid(
      std::as_const(logits).view(), bias_.data(), dense_view<std::int32_t>{r.experts.data(), h.count, top_k_, top_k_},
      dense_view<float>{r.weights.data(), h.count, top_k_, top_k_}, {.executor = options.executor});
  if (!s.ok())
    throw file_error({.value = "layer " + std::to_string(layer_) + ": the router's " + std::string(message(s).view()),
                      .advice = "rows are tokens; see `mxfp4 verify`"});
  std::vector<std::pair<std::int32_t, float>> of_token(static_cast<std::size_t>(top_k_));
  for (std::size_t first = 0; first < pairs; first += of_token.size()) {
    for (std::size_t i = 0; i < of_token.size(); ++i) of_token[i] = {r.experts[first + i], r.weights[first + i]};
    std::sort(of_token.begin(), of_token.end());
    for (std::size_t i = 0; i < of_token.size(); ++i)
      std::tie(r.experts[first + i], r.weights[first + i]) = of_token[i];
  }
  return r;
}

expert_weights::expert_weights(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
                               std::int64_t index) {
  const std::string name = layer_name(layer, "block_sparse_moe.experts." + std::to_string(index) + ".");
  const minimax_m2_shape& s = config.shape;
  w1 = linear::load(checkpoint, name + "w1", s.intermediate, s.hidden);
  w2 = linear::load(checkpoint, name + "w2", s.hidden, s.intermediate);
  w3 = linear::load(checkpoint, name + "w3", s.intermediate, s.hidden);
}

expert_weights expert_weights::quantized(recipe_id recipe, const std::string& name) const {
  expert_weights e;
  e.w1 = w1.quantized(recipe, name + ".w1");
  e.w2 = w2.quantized(recipe, name + ".w2");
  e.w3 = w3.quantized(recipe, name + ".w3");
  return e;
}

std::uint64_t expert_weights::stored_bytes() const noexcept {
  return w1.stored_bytes() + w2.stored_bytes() + w3.stored_bytes();
}
std::uint64_t expert_weights::memory_bytes() const noexcept {
  return w1.memory_bytes() + w2.memory_bytes() + w3.memory_bytes();
}

token_rows expert_weights::activated(const token_rows& h, const product_options& options) const {
  token_rows gate(h.count, w1.rows()), up(h.count, w3.rows());
  w1.multiply(h.view(), gate.view(), options);
  w3.multiply(h.view(), up.view(), options);
  for (std::size_t i = 0; i < gate.data.size(); ++i) gate.data[i] = silu(gate.data[i]) * up.data[i];
  return gate;
}

void expert_weights::add_to(token_rows& x, const token_rows& h, const routing& r, std::int64_t index,
                            const product_options& options) const {
  const std::vector<routed_token> routed = tokens_of(r, index);
  const auto work = [&](std::span<const routed_token> tokens, executor_ref executor) {
    const auto count = static_cast<std::int64_t>(tokens.size());
    const product_options with{options.activations, executor};
    token_rows in(count, h.size), out(count, w2.rows());
    for (std::int64_t i = 0; i < count; ++i)
      std::copy_n(h.row(tokens[static_cast<std::size_t>(i)].row), h.size, in.row(i));
    w2.multiply(activated(in, with).view(), out.view(), with);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto [row, weight] = tokens[static_cast<std::size_t>(i)];
      for (std::int64_t n = 0; n < x.size; ++n) x.row(row)[n] += weight * out.row(i)[n];
    }
  };
  // Many tokens: each task a part of them. Few: the products' own tasks.
  const std::span<const routed_token> all = routed;
  if (all.size() <= tokens_a_part) {
    if (!all.empty()) work(all, options.executor);
    return;
  }
  const std::size_t tasks = (all.size() + tokens_a_part - 1) / tokens_a_part;
  options.executor.run(tasks, [&](std::size_t i) {
    const std::size_t first = all.size() * i / tasks, last = all.size() * (i + 1) / tasks;  // none of a single token
    work(all.subspan(first, last - first), serial);
  });
}

}  // namespace mxfp4::model

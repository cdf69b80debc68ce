// examples/moe.cpp -- a layer of a mixture of experts: route two tokens, run their experts, add up.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <mxfp4/moe.hpp>
#include <mxfp4/mxfp4.hpp>
#include <mxfp4/router.hpp>
#include <vector>
using namespace mxfp4;

static packed_matrix make_weights(std::int64_t rows, std::int64_t cols, float seed) {
  std::vector<float> w(static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = 0.2f * std::sin(static_cast<float>(i * i) + seed);
  std::vector<std::uint8_t> codes(w.size() / 2), scales(w.size() / block_size);
  const auto view = make_view(codes, scales, rows, cols).value_or_abort();
  const status s = quantize(make_dense_view(w, rows, cols).value_or_abort(), view);
  return s.ok() ? pack(view).value_or_abort() : packed_matrix();
}

int main() {
  const std::int64_t tokens = 2, experts = 8, top_k = 2, hidden = 64, inner = 96;
  std::vector<expert<packed_matrix>> layer;  // gate and up are inner x hidden, down is hidden x inner
  for (float e = 0; e < experts; ++e)
    layer.push_back(
        {make_weights(inner, hidden, e), make_weights(inner, hidden, -e), make_weights(hidden, inner, 9 * e)});

  std::vector<float> x(tokens * hidden), y(x.size()), scores(tokens * experts), shares(tokens * top_k);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<float>(i));
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = std::sin(static_cast<float>(3 * i));
  std::vector<std::int32_t> chosen(shares.size());
  const dense_view<std::int32_t> indices{chosen.data(), tokens, top_k, top_k};
  const dense_view<float> logits{scores.data(), tokens, experts, experts}, weights{shares.data(), tokens, top_k, top_k};

  // the scores stand for x times the router's matrix
  status s = route_topk_sigmoid(logits, nullptr, indices, weights);
  // once, for any number of calls
  auto workspace = moe_workspace::create({tokens, top_k, experts, hidden, inner}).value_or_abort();
  const auto all = make_dense_view(x, tokens, hidden).value_or_abort();
  const auto in = quantize_activations(all, int8_scaling::e8m0).value_or_abort();
  if (s.ok()) s = moe(layer, in, indices, weights, {y.data(), tokens, hidden, hidden}, workspace);
  std::printf("%s: token 0 went to experts %d and %d, y[0] = %.4f\n", message(s).c_str(), chosen[0], chosen[1], y[0]);
  return s.ok() ? 0 : 1;
}

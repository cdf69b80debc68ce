// src/calibrate/expert.cpp -- see expert.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/expert.hpp"

#include <algorithm>
#include <span>

namespace mxfp4::calibrate {

using namespace model;

namespace {

[[nodiscard]] token_rows gather(const token_rows& from, std::span<const routed_token> tokens) {
  token_rows rows(std::ssize(tokens), from.size);
  for (std::int64_t i = 0; i < rows.count; ++i)
    std::copy_n(from.row(tokens[static_cast<std::size_t>(i)].row), from.size, rows.row(i));
  return rows;
}

/// wanted -= x, and both times the tokens' weights.
void weigh(std::span<const routed_token> tokens, token_rows& x, token_rows& wanted) {
  for (std::int64_t t = 0; t < x.count; ++t)
    for (std::int64_t i = 0; i < x.size; ++i) {
      float &a = x.row(t)[i], &b = wanted.row(t)[i];
      b = (b - a) * tokens[static_cast<std::size_t>(t)].weight;
      a *= tokens[static_cast<std::size_t>(t)].weight;
    }
}

}  // namespace

layer_sums::layer_sums(const token_rows& now, const expert_options& options)
    : all(options.method == rounding_method::hessian ? now.size : 0, false) {
  if (options.method == rounding_method::hessian) {
    all.add(now, now);
    all.finish();
    return;
  }
  squares.resize(static_cast<std::size_t>(now.size));
  for (std::int64_t t = 0; t < now.count; ++t)
    for (std::size_t i = 0; i < squares.size(); ++i) {
      const auto number = static_cast<double>(now.row(t)[i]);
      squares[i] += number * number;
    }
}

expert_outcome calibrate_expert(const expert_weights& weights, std::int64_t index, const layer_inputs& inputs,
                                const expert_options& options, const matrix_names& names, executor_ref executor) {
  const product_options with{activation_type::f32, executor};
  const std::vector<routed_token> routed = tokens_of(inputs.routes, index);
  const std::span<const routed_token> all = routed;
  const auto for_each_part = [&all](const auto& body) {
    constexpr auto most = static_cast<std::size_t>(tokens_at_once);
    for (std::size_t first = 0; first < all.size(); first += most)
      body(all.subspan(first, std::min(most, all.size() - first)));
  };
  expert_outcome out;
  out.tokens = std::ssize(routed);
  if (routed.empty()) {
    out.gate.weights = weights.gate.quantized(options.plain, names.gate);
    out.down.weights = weights.down.quantized(options.plain, names.down);
    out.up.weights = weights.up.quantized(options.plain, names.up);
    return out;
  }
  expert_weights rounded;
  rounded.function = weights.function;
  if (options.method == rounding_method::diagonal) {
    const double damping = options.rounding.damping;
    column_squares in(weights.gate.cols()), inner(weights.down.cols());
    for_each_part([&](std::span<const routed_token> tokens) { in.add(gather(inputs.now, tokens), tokens); });
    const std::vector<float> importance =
        inputs.all == nullptr
            ? in.mixed({}, 1, damping)
            : in.mixed(inputs.all->squares, own_part(out.tokens, options.own_tokens_of_diagonal), damping);
    out.gate = round_by_importance(weights.gate, importance, options, names.gate);
    out.up = round_by_importance(weights.up, importance, options, names.up);
    rounded.gate = out.gate.weights;
    rounded.up = out.up.weights;
    for_each_part([&](std::span<const routed_token> tokens) {
      inner.add(rounded.activated(gather(inputs.now, tokens), with), tokens);
    });
    out.down = round_by_importance(weights.down, inner.mixed({}, 1, damping), options, names.down);
    return out;
  }
  {
    input_sums sums(weights.gate.cols(), true);
    for_each_part([&](std::span<const routed_token> tokens) {
      token_rows x = gather(inputs.now, tokens), wanted = gather(inputs.original, tokens);
      weigh(tokens, x, wanted);
      sums.add(x, wanted);
    });
    sums.finish();
    const matrix_rounder rounder(sums, inputs.all == nullptr ? nullptr : &inputs.all->all, options);
    out.gate = rounder.round(weights.gate, options.plain, names.gate, executor);
    out.up = rounder.round(weights.up, options.plain, names.up, executor);
    rounded.gate = out.gate.weights;
    rounded.up = out.up.weights;
  }
  input_sums sums(weights.down.cols(), true);
  for_each_part([&](std::span<const routed_token> tokens) {
    token_rows a = rounded.activated(gather(inputs.now, tokens), with);
    token_rows wanted = weights.activated(gather(inputs.original, tokens), with);
    weigh(tokens, a, wanted);
    sums.add(a, wanted);
  });
  sums.finish();
  out.down = matrix_rounder(sums, nullptr, options).round(weights.down, options.plain, names.down, executor);
  return out;
}

}  // namespace mxfp4::calibrate

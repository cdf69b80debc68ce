// src/calibrate/expert.cpp -- see expert.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/expert.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "calibrate/eigen.hpp"

namespace mxfp4::calibrate {

using namespace model;

namespace {

constexpr std::size_t tokens_at_once = 2048;

[[nodiscard]] std::vector<float> values_of(const linear& w) {
  std::vector<float> values(static_cast<std::size_t>(w.rows() * w.cols()));
  for (std::int64_t r = 0; r < w.rows(); ++r) w.decode_row(r, values.data() + r * w.cols());
  return values;
}

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

/// The part of a sum over `tokens` that is the expert's own, where `half` of them make a half.
[[nodiscard]] double own_part(std::int64_t tokens, double half) {
  const auto n = static_cast<double>(tokens);
  return n == 0 ? 0.0 : n / (n + half);
}

}  // namespace

input_sums::input_sums(std::int64_t k, bool with_drift)
    : cols(k), squares(static_cast<std::size_t>(k * k)), drift(with_drift ? squares.size() : 0) {
  fix_sums();
}

void input_sums::add(const token_rows& x, const token_rows& wanted) {
  const const_matrix_map<float> rows = map_of(x.data.data(), x.count, cols, cols);
  tokens += x.count;
  map_of(squares.data(), cols, cols, cols).selfadjointView<Eigen::Lower>().rankUpdate(rows.transpose());
  if (!drift.empty())
    map_of(drift.data(), cols, cols, cols).noalias() +=
        map_of(wanted.data.data(), x.count, cols, cols).transpose() * rows;
}

void input_sums::finish() {
  matrix_map<float> h = map_of(squares.data(), cols, cols, cols);
  h.triangularView<Eigen::StrictlyUpper>() = h.transpose();
}

double input_sums::mean_square() const {
  return map_of(squares.data(), cols, cols, cols).diagonal().cast<double>().mean();
}

namespace {

/// H and the way to the target, mixed and scaled so that the mean of H's diagonal is 1.
class matrix_rounder {
 public:
  matrix_rounder(const input_sums& own, const input_sums* all, const expert_options& options)
      : cols_(own.cols), rounder_(mixed(own, all, options), own.cols, options.rounding) {
    const double mean = own.mean_square();
    const double way = own_part(own.tokens, options.drift_tokens * static_cast<double>(cols_)) *
                       (all != nullptr ? own_part(own.tokens, options.own_tokens * static_cast<double>(cols_)) : 1.0);
    if (own.drift.empty() || !(mean > 0) || way == 0) return;
    drift_ = own.drift;
    for (float& d : drift_) d *= static_cast<float>(way / mean);
  }

  [[nodiscard]] matrix_outcome round(const linear& w, recipe_id plain, const std::string& name) const {
    matrix_outcome out;
    out.plain = w.quantized(plain, name);
    std::vector<std::uint8_t> codes = out.plain.codes(), scales = out.plain.scales();
    std::vector<float> target = values_of(w);
    if (!drift_.empty()) {
      std::vector<float> way(target.size());
      matrix_map<float> rows = map_of(way.data(), w.rows(), cols_, cols_);
      rows.noalias() =
          map_of(std::as_const(target).data(), w.rows(), cols_, cols_) * map_of(drift_.data(), cols_, cols_, cols_);
      rounder_.solve({way.data(), w.rows(), cols_, cols_});
      for (std::size_t i = 0; i < target.size(); ++i) target[i] += way[i];
    }
    out.rounding =
        rounder_.round({target.data(), w.rows(), cols_, cols_},
                       {codes.data(), scales.data(), w.rows(), cols_, cols_ / 2, cols_ / block_size}, serial);
    out.damping = rounder_.damping();
    out.weights = linear::of_mxfp4(w.rows(), cols_, std::move(codes), std::move(scales));
    return out;
  }

 private:
  [[nodiscard]] static std::vector<float> mixed(const input_sums& own, const input_sums* all,
                                                const expert_options& options) {
    const double mean = own.mean_square(), mean_all = all != nullptr ? all->mean_square() : 0.0;
    double part = all != nullptr ? own_part(own.tokens, options.own_tokens * static_cast<double>(own.cols)) : 1.0;
    const auto a = static_cast<float>(mean > 0 ? part / mean : 0.0);
    const auto b = static_cast<float>(mean_all > 0 ? (1 - part) / mean_all : 0.0);
    std::vector<float> h(own.squares.size());
    for (std::size_t i = 0; i < h.size(); ++i) h[i] = a * own.squares[i] + (b == 0 ? 0.0f : b * all->squares[i]);
    return h;
  }

  std::int64_t cols_;
  rounder rounder_;
  std::vector<float> drift_;
};

}  // namespace

expert_outcome calibrate_expert(const expert_weights& weights, std::int64_t index, const layer_inputs& inputs,
                                const expert_options& options, const matrix_names& names) {
  const std::vector<routed_token> routed = tokens_of(inputs.routes, index);
  const std::span<const routed_token> all = routed;
  const auto for_each_part = [&all](const auto& body) {
    for (std::size_t first = 0; first < all.size(); first += tokens_at_once)
      body(all.subspan(first, std::min(tokens_at_once, all.size() - first)));
  };
  expert_outcome out;
  out.tokens = std::ssize(routed);
  if (routed.empty()) {
    out.gate.weights = out.gate.plain = weights.gate.quantized(options.plain, names.gate);
    out.down.weights = out.down.plain = weights.down.quantized(options.plain, names.down);
    out.up.weights = out.up.plain = weights.up.quantized(options.plain, names.up);
    return out;
  }
  expert_weights rounded;
  rounded.function = weights.function;
  {
    input_sums sums(weights.gate.cols(), true);
    for_each_part([&](std::span<const routed_token> tokens) {
      token_rows x = gather(inputs.now, tokens), wanted = gather(inputs.original, tokens);
      weigh(tokens, x, wanted);
      sums.add(x, wanted);
    });
    sums.finish();
    const matrix_rounder rounder(sums, &inputs.all, options);
    out.gate = rounder.round(weights.gate, options.plain, names.gate);
    out.up = rounder.round(weights.up, options.plain, names.up);
    rounded.gate = out.gate.weights;
    rounded.up = out.up.weights;
  }
  input_sums sums(weights.down.cols(), true);
  for_each_part([&](std::span<const routed_token> tokens) {
    token_rows a = rounded.activated(gather(inputs.now, tokens), {});
    token_rows wanted = weights.activated(gather(inputs.original, tokens), {});
    weigh(tokens, a, wanted);
    sums.add(a, wanted);
  });
  sums.finish();
  out.down = matrix_rounder(sums, nullptr, options).round(weights.down, options.plain, names.down);
  return out;
}

}  // namespace mxfp4::calibrate

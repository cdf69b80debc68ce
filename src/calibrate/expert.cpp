// src/calibrate/expert.cpp -- see expert.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/expert.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <utility>

#include "calibrate/eigen.hpp"
#include "calibrate/importance.hpp"

namespace mxfp4::calibrate {

using namespace model;

namespace {

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
    const linear by_recipe = w.quantized(plain, name);
    std::vector<std::uint8_t> codes = by_recipe.codes(), scales = by_recipe.scales();
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
    out.weights = w.with_mxfp4(std::move(codes), std::move(scales));
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

/// Mean squares of columns, each token's by its weight's square.
class column_squares {
 public:
  explicit column_squares(std::int64_t cols) : sums_(static_cast<std::size_t>(cols)) {}

  void add(const token_rows& x, std::span<const routed_token> tokens) {
    for (std::int64_t t = 0; t < x.count; ++t) {
      const float weight = tokens[static_cast<std::size_t>(t)].weight;
      for (std::size_t i = 0; i < sums_.size(); ++i) {
        const auto number = static_cast<double>(weight * x.row(t)[i]);
        sums_[i] += number * number;
      }
    }
  }
  /// So much of them as is their own, the rest of what all tokens have; each with a mean of 1.
  /// @throws std::domain_error where one is not finite.
  [[nodiscard]] std::vector<float> mixed(const std::vector<double>& all, double own, double damping) const {
    std::vector<float> importance(sums_.size());
    const auto mean = [](const std::vector<double>& x) {
      double sum = 0;
      for (const double v : x) sum += v;
      return x.empty() ? 0.0 : sum / static_cast<double>(x.size());
    };
    const double mine = mean(sums_), theirs = mean(all);
    if (!std::isfinite(mine) || !std::isfinite(theirs)) throw std::domain_error("the inputs' sums are not finite");
    for (std::size_t i = 0; i < importance.size(); ++i) {
      double sum = damping;
      if (mine > 0) sum += own * sums_[i] / mine;
      if (theirs > 0) sum += (1 - own) * all[i] / theirs;
      importance[i] = static_cast<float>(sum);
    }
    return importance;
  }

 private:
  std::vector<double> sums_;
};

[[nodiscard]] matrix_outcome round_by_importance(const linear& w, std::span<const float> importance,
                                                 const expert_options& options, const std::string& name) {
  matrix_outcome out;
  const linear plain = w.quantized(options.plain, name);
  std::vector<std::uint8_t> codes = plain.codes(), scales = plain.scales();
  std::vector<float> row(static_cast<std::size_t>(w.cols()));
  const std::size_t row_blocks = row.size() / block_size, row_codes = row.size() / 2;
  for (std::size_t r = 0; r < static_cast<std::size_t>(w.rows()); ++r) {
    w.decode_row(static_cast<std::int64_t>(r), row.data());
    const checkpoint::code_costs costs =
        choose_by_importance(row, importance, 0, std::span(codes).subspan(r * row_codes, row_codes),
                             std::span(scales).subspan(r * row_blocks, row_blocks));
    out.rounding.before += costs.plain;
    out.rounding.after += costs.chosen;
    out.rounding.kept += costs.chosen < costs.plain ? 0 : 1;
  }
  out.damping = options.rounding.damping;
  out.weights = w.with_mxfp4(std::move(codes), std::move(scales));
  return out;
}

}  // namespace

const char* method_name(rounding_method method) noexcept {
  return method == rounding_method::hessian ? "hessian" : "diagonal";
}

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
                                const expert_options& options, const matrix_names& names) {
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
        in.mixed(inputs.all.squares, own_part(out.tokens, options.own_tokens_of_diagonal), damping);
    out.gate = round_by_importance(weights.gate, importance, options, names.gate);
    out.up = round_by_importance(weights.up, importance, options, names.up);
    rounded.gate = out.gate.weights;
    rounded.up = out.up.weights;
    for_each_part([&](std::span<const routed_token> tokens) {
      inner.add(rounded.activated(gather(inputs.now, tokens), {}), tokens);
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
    const matrix_rounder rounder(sums, &inputs.all.all, options);
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

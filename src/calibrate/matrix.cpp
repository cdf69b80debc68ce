// src/calibrate/matrix.cpp -- see matrix.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/matrix.hpp"

#include <cmath>
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

[[nodiscard]] std::vector<float> mixed_squares(const input_sums& own, const input_sums* all,
                                               const expert_options& options) {
  const double mean = own.mean_square(), mean_all = all != nullptr ? all->mean_square() : 0.0;
  const double part = all != nullptr ? own_part(own.tokens, options.own_tokens * static_cast<double>(own.cols)) : 1.0;
  const auto a = static_cast<float>(mean > 0 ? part / mean : 0.0);
  const auto b = static_cast<float>(mean_all > 0 ? (1 - part) / mean_all : 0.0);
  std::vector<float> h(own.squares.size());
  for (std::size_t i = 0; i < h.size(); ++i) h[i] = a * own.squares[i] + (b == 0 ? 0.0f : b * all->squares[i]);
  return h;
}

}  // namespace

double own_part(std::int64_t tokens, double half) noexcept {
  const auto n = static_cast<double>(tokens);
  return n == 0 ? 0.0 : n / (n + half);
}

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

matrix_rounder::matrix_rounder(const input_sums& own, const input_sums* all, const expert_options& options)
    : cols_(own.cols), rounder_(mixed_squares(own, all, options), own.cols, options.rounding) {
  const double mean = own.mean_square();
  const double way = own_part(own.tokens, options.drift_tokens * static_cast<double>(cols_)) *
                     (all != nullptr ? own_part(own.tokens, options.own_tokens * static_cast<double>(cols_)) : 1.0);
  if (own.drift.empty() || !(mean > 0) || way == 0) return;
  drift_ = own.drift;
  for (float& d : drift_) d *= static_cast<float>(way / mean);
}

matrix_outcome matrix_rounder::round(const linear& w, recipe_id plain, const std::string& name,
                                     executor_ref executor) const {
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
                     {codes.data(), scales.data(), w.rows(), cols_, cols_ / 2, cols_ / block_size}, executor);
  out.damping = rounder_.damping();
  out.weights = w.with_mxfp4(std::move(codes), std::move(scales));
  return out;
}

void column_squares::add_row(const float* row, float weight) {
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const auto number = static_cast<double>(weight * row[i]);
    sums_[i] += number * number;
  }
}

void column_squares::add(const token_rows& x, std::span<const routed_token> tokens) {
  for (std::int64_t t = 0; t < x.count; ++t) add_row(x.row(t), tokens[static_cast<std::size_t>(t)].weight);
}

void column_squares::add(const token_rows& x) {
  for (std::int64_t t = 0; t < x.count; ++t) add_row(x.row(t), 1.0f);
}

std::vector<float> column_squares::mixed(const std::vector<double>& all, double own, double damping) const {
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

matrix_outcome round_by_importance(const linear& w, std::span<const float> importance, const expert_options& options,
                                   const std::string& name) {
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

const char* method_name(rounding_method method) noexcept {
  return method == rounding_method::hessian ? "hessian" : "diagonal";
}

}  // namespace mxfp4::calibrate

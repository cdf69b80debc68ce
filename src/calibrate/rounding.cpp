// src/calibrate/rounding.cpp -- see rounding.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/rounding.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "calibrate/eigen.hpp"
#include "calibrate/one_block.hpp"
#include "mxfp4/block.hpp"

namespace mxfp4::calibrate {

namespace {

constexpr std::int64_t block = block_size;
constexpr std::int64_t lanes = rounder::lanes;
constexpr float least_gain = 0x1p-18f;  ///< of an objective: what is less may be the sums' own error

using column = float[lanes];

/// The number at (row, col).
[[nodiscard]] float weight_at(const const_mx_view<>& q, std::int64_t row, std::int64_t col) noexcept {
  const std::int64_t b = col / block;
  return decode_weight<float>(get_code<low_first>(q.block_codes(row, b), static_cast<int>(col % block)),
                              static_cast<e8m0>(*q.block_scale(row, b)));
}

/// 32 columns of which each is rounded after the ones before it.
struct block_task {
  const column* target;
  const column* shift;  ///< what the errors of other columns add to R[c][c] e[c], before this block's own
  const float* root;    ///< R of these columns
  std::int64_t root_stride;
};

/// What a block becomes under given scales, and what its terms add up to.
struct block_trial {
  column value[block], error[block];
  column loss;
};

/// @param scale  of column c, or of all of them where `scale_step` is 0; the inverses likewise.
void round_block(const block_task& in, const column* scale, const column* inverse, std::int64_t scale_step,
                 block_trial& out) noexcept {
  column shift[block];
  std::memcpy(shift, in.shift, sizeof shift);
  for (float& l : out.loss) l = 0;
  for (std::int64_t c = 0; c < block; ++c) {
    const float* const root = in.root + c * in.root_stride;
    const float diagonal = root[c], reciprocal = 1.0f / diagonal;
    const column &s = scale[c * scale_step], &inv = inverse[c * scale_step];
    float *const e = out.error[c], *const q = out.value[c];
    for (std::int64_t r = 0; r < lanes; ++r) {
      const float w = in.target[c][r], x = w + shift[c][r] * reciprocal;
      q[r] = round_under(x, s[r], inv[r]);
      e[r] = w - q[r];
      const float term = diagonal * e[r] + shift[c][r];
      out.loss[r] += term * term;
    }
    for (std::int64_t k = c + 1; k < block; ++k)
      for (std::int64_t r = 0; r < lanes; ++r) shift[k][r] += root[k] * e[r];
  }
}

/// What the terms add up to with the errors that are there.
void loss_of(const block_task& in, const column* error, column& loss) noexcept {
  column shift[block];
  std::memcpy(shift, in.shift, sizeof shift);
  for (float& l : loss) l = 0;
  for (std::int64_t c = 0; c < block; ++c) {
    const float* const root = in.root + c * in.root_stride;
    for (std::int64_t r = 0; r < lanes; ++r) {
      const float term = root[c] * error[c][r] + shift[c][r];
      loss[r] += term * term;
    }
    for (std::int64_t k = c + 1; k < block; ++k)
      for (std::int64_t r = 0; r < lanes; ++r) shift[k][r] += root[k] * error[c][r];
  }
}

/// R of a positive definite H = R R^T, K x K row by row, both in `h`; false for any other H.
[[nodiscard]] bool take_root(Eigen::Ref<Eigen::MatrixXd> h) {
  h.reverseInPlace();  // back to front H has a lower triangular root, which back to front is R
  const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> root(h);
  if (root.info() != Eigen::Success) return false;
  h.triangularView<Eigen::StrictlyUpper>().setZero();
  h.reverseInPlace();
  return h.allFinite();
}

/// Row-major floats of a matrix of doubles.
[[nodiscard]] std::vector<float> to_floats(const Eigen::MatrixXd& m) {
  std::vector<float> floats(static_cast<std::size_t>(m.size()));
  map_of(floats.data(), m.rows(), m.cols(), m.cols()) = m.cast<float>();
  return floats;
}

}  // namespace

/// Some rows, side by side: column c of all of them is a `column`.
struct rounder::tile {
  struct alignas(64) numbers {
    column of;
  };
  std::vector<numbers> target, value, error, sums;     // error = target - value
  std::vector<std::array<std::uint8_t, lanes>> bytes;  // of each block

  explicit tile(std::int64_t cols)
      : target(static_cast<std::size_t>(cols)),
        value(target.size()),
        error(target.size()),
        sums(target.size()),
        bytes(static_cast<std::size_t>(cols / block)) {}

  [[nodiscard]] static float* at(std::vector<numbers>& x, std::int64_t c) { return x[static_cast<std::size_t>(c)].of; }
  [[nodiscard]] static const column* columns(const std::vector<numbers>& x, std::int64_t c) {
    return &x[static_cast<std::size_t>(c)].of;
  }
  /// Columns [c, c + count) as a matrix of count x lanes.
  [[nodiscard]] static matrix_map<float> map(std::vector<numbers>& x, std::int64_t c, std::int64_t count) {
    return map_of(x[static_cast<std::size_t>(c)].of, count, lanes, lanes);
  }
};

rounder::rounder(std::vector<float> hessian, std::int64_t cols, const rounding_options& options)
    : cols_(cols), options_(options), hessian_(std::move(hessian)) {
  fix_sums();
  matrix_map<float> h = map_of(hessian_.data(), cols, cols, cols);
  const double mean = h.diagonal().cast<double>().mean();
  if (!h.allFinite() || !std::isfinite(mean)) throw std::domain_error("the inputs' sums are not finite");
  if (options.order == column_order::falling_diagonal) {
    order_.resize(static_cast<std::size_t>(cols));
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&h](std::int32_t a, std::int32_t b) { return h(a, a) > h(b, b); });
  }
  const auto root_with = [&](double damping) {
    Eigen::MatrixXd m(cols, cols);
    for (std::int64_t i = 0; i < cols; ++i)
      for (std::int64_t j = 0; j < cols; ++j)
        m(i, j) = static_cast<double>(order_.empty() ? h(i, j) : h(order_[std::size_t(i)], order_[std::size_t(j)]));
    m.diagonal().array() += damping * (mean > 0 ? mean : 1.0);
    if (!take_root(m)) return false;
    root_ = to_floats(m);
    return true;
  };
  damping_ = options.damping;
  while (!root_with(damping_))
    if ((damping_ = std::max(10 * damping_, 1e-6)) > 1) throw std::domain_error("the inputs' sums have no root");
  for (std::int64_t i = 0; i < cols; ++i) h(i, i) += static_cast<float>(damping_ * (mean > 0 ? mean : 1.0));
  for (std::int64_t b = 0; b < cols; b += block) {
    Eigen::MatrixXd m = h.block(b, b, block, block).cast<double>();
    if (!take_root(m)) throw std::domain_error("a block of the inputs' sums has no root");
    const std::vector<float> root = to_floats(m);
    block_roots_.insert(block_roots_.end(), root.begin(), root.end());
  }
}

std::vector<double> rounder::objectives(dense_view<const float> w, const_mx_view<> q) const {
  std::vector<double> result(static_cast<std::size_t>(w.rows));
  row_major<float> e(lanes, cols_);
  for (std::int64_t first = 0; first < w.rows; first += lanes) {
    const std::int64_t count = std::min(lanes, w.rows - first);
    for (std::int64_t r = 0; r < count; ++r)
      for (std::int64_t c = 0; c < cols_; ++c)
        e(r, c) = w.data[(first + r) * w.stride + c] - weight_at(q, first + r, c);
    const row_major<float> products =
        e.topRows(count) * const_matrix_map<float>(map_of(hessian_.data(), cols_, cols_, cols_));
    for (std::int64_t r = 0; r < count; ++r)
      result[static_cast<std::size_t>(first + r)] =
          products.row(r).cast<double>().cwiseProduct(e.row(r).cast<double>()).sum();
  }
  return result;
}

void rounder::solve(dense_view<float> b) const {
  // H is damped and in natural order here; its root may be in another.
  const Eigen::LLT<Eigen::MatrixXd> root(Eigen::MatrixXd(map_of(hessian_.data(), cols_, cols_, cols_).cast<double>()));
  matrix_map<float> rows = map_of(b.data, b.rows, b.cols, b.stride);
  rows = root.solve(rows.cast<double>().transpose()).transpose().cast<float>();
}

rounding_result rounder::round(dense_view<const float> target, mx_view<> out, executor_ref executor) const {
  const std::int64_t tiles = (target.rows + lanes - 1) / lanes;
  std::vector<rounding_result> results(static_cast<std::size_t>(tiles));
  executor.run(static_cast<std::size_t>(tiles), [&](std::size_t i) {
    const std::int64_t first = static_cast<std::int64_t>(i) * lanes;
    results[i] = round_tile(target, out, first, std::min(lanes, target.rows - first));
  });
  rounding_result sum;
  for (const rounding_result& r : results) {
    sum.before += r.before;
    sum.after += r.after;
    sum.kept += r.kept;
  }
  return sum;
}

rounding_result rounder::round_tile(dense_view<const float> target, mx_view<> out, std::int64_t first,
                                    std::int64_t rows) const {
  tile t(cols_);
  for (std::int64_t c = 0; c < cols_; ++c)
    for (std::int64_t r = 0; r < rows; ++r) {
      tile::at(t.target, c)[r] = target.data[(first + r) * target.stride + c];
      tile::at(t.value, c)[r] = weight_at(out, first + r, c);
      tile::at(t.error, c)[r] = tile::at(t.target, c)[r] - tile::at(t.value, c)[r];
    }
  for (std::int64_t b = 0; b < cols_ / block; ++b)
    for (std::int64_t r = 0; r < lanes; ++r)
      t.bytes[std::size_t(b)][std::size_t(r)] = r < rows ? *out.block_scale(first + r, b) : std::uint8_t{127};
  const std::array<double, lanes> before = measure(t);
  if (order_.empty()) pass_in_order(t);
  else pass_by_diagonal(t);
  std::array<double, lanes> after = measure(t);
  for (int pass = 1; pass < options_.passes; ++pass) {
    const bool is_last = pass + 1 == options_.passes;
    const bool changed = pass_again(t, is_last && options_.pairs);
    if (changed) after = measure(t);
    else if (!is_last) pass = options_.passes - 2;
  }
  rounding_result result;
  for (std::int64_t r = 0; r < rows; ++r) {
    const double was = before[std::size_t(r)], is = after[std::size_t(r)];
    const bool better = is < was;
    result.before += was;
    result.after += better ? is : was;
    result.kept += better ? 0 : 1;
    if (better) write_row(t, r, out, first + r);
  }
  return result;
}

/// e H e^T of each row; leaves H e^T in `sums`.
std::array<double, rounder::lanes> rounder::measure(tile& t) const {
  tile::map(t.sums, 0, cols_).noalias() = map_of(hessian_.data(), cols_, cols_, cols_) * tile::map(t.error, 0, cols_);
  std::array<double, lanes> result{};
  for (std::int64_t c = 0; c < cols_; ++c) {
    const float *const e = tile::at(t.error, c), *const s = tile::at(t.sums, c);
    for (std::size_t r = 0; r < lanes; ++r) result[r] += static_cast<double>(e[r]) * static_cast<double>(s[r]);
  }
  return result;
}

namespace {

/// The trial with the least loss of each row, of those with the scale bytes `bytes` and up to one less or more.
class best_trial {
 public:
  column loss;
  std::array<std::uint8_t, lanes> bytes;
  column value[block], error[block];

  void find(const block_task& task, const std::array<std::uint8_t, lanes>& middle, bool alone) noexcept {
    for (const int step : {0, 1, -1}) {  // of equals the middle one stays
      if (alone && step != 0) break;
      column scale, inverse;
      std::array<std::uint8_t, lanes> tried;
      for (std::size_t r = 0; r < lanes; ++r) {
        const int byte = std::clamp(middle[r] + step, 0, 254);
        tried[r] = static_cast<std::uint8_t>(byte);
        scale[r] = power_of_two(byte);
        inverse[r] = power_of_two(254 - byte);
      }
      round_block(task, &scale, &inverse, 0, trial_);
      for (std::size_t r = 0; r < lanes; ++r) {
        if (step != 0 && !(trial_.loss[r] < loss[r])) continue;
        loss[r] = trial_.loss[r];
        bytes[r] = tried[r];
        for (std::int64_t c = 0; c < block; ++c) {
          value[c][r] = trial_.value[c][r];
          error[c][r] = trial_.error[c][r];
        }
      }
    }
  }

 private:
  block_trial trial_;
};

}  // namespace

/// One row of a block: pairs of columns change together, where that makes the objective less.
class pair_search {
 public:
  float value[block], error[block], sums[block];  ///< q, w - q, and H e of these columns, of the whole row

  /// @param h  the block's part of H, `stride` numbers from row to row.  @return has anything changed?
  [[nodiscard]] bool improve(const float* h, std::int64_t stride, float scale, float inverse) noexcept {
    bool any = false, again = true;
    for (int sweep = 0; again && sweep < most_sweeps; ++sweep) {
      again = false;
      for (std::int64_t c = 0; c < block; ++c) again = improve_with(h, stride, c, scale, inverse) || again;
      any = any || again;
    }
    return any;
  }

 private:
  static constexpr int most_sweeps = 4, farthest = 2;  ///< codes away
  static constexpr float numbers[] = {-6, -4, -3, -2, -1.5f, -1, -0.5f, 0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

  /// Column c to another code, and with it the one other column, or none, that gains most by that.
  [[nodiscard]] bool improve_with(const float* h, std::int64_t stride, std::int64_t c, float scale,
                                  float inverse) noexcept {
    const float* const row = h + c * stride;
    const auto at = std::find(std::begin(numbers), std::end(numbers), value[c] * inverse) - std::begin(numbers);
    float least = -least_gain * std::max(row[c] * error[c] * error[c], row[c] * scale * scale * 0.01f), step = 0;
    float best_value = 0;
    std::int64_t partner = -1;
    for (std::ptrdiff_t to = std::max<std::ptrdiff_t>(at - farthest, 0);
         to <= std::min<std::ptrdiff_t>(at + farthest, std::ssize(numbers) - 1); ++to) {
      if (to == at) continue;
      const float delta = value[c] - numbers[to] * scale;  // of the error
      const float alone = delta * (2 * sums[c] + delta * row[c]);
      column gain, moved;
      for (std::int64_t j = 0; j < block; ++j) {
        const float slope = sums[j] + delta * row[j], curve = h[j * stride + j];
        moved[j] = round_under(value[j] + slope / curve, scale, inverse);
        const float epsilon = value[j] - moved[j];
        gain[j] = alone + epsilon * (2 * slope + epsilon * curve);
      }
      gain[c] = alone;
      moved[c] = numbers[to] * scale;
      for (std::int64_t j = 0; j < block; ++j)
        if (gain[j] < least) {
          least = gain[j];
          step = delta;
          partner = j;
          best_value = moved[j];
        }
    }
    if (partner < 0) return false;
    move(h, stride, c, step);
    if (partner != c) move(h, stride, partner, value[partner] - best_value);
    return true;
  }

  void move(const float* h, std::int64_t stride, std::int64_t c, float delta) noexcept {
    value[c] -= delta;
    error[c] += delta;
    for (std::int64_t j = 0; j < block; ++j) sums[j] += delta * h[c * stride + j];
  }
};

void rounder::pass_in_order(tile& t) const {
  tile::map(t.sums, 0, cols_).setZero();
  best_trial best;
  for (std::int64_t b = 0; b < cols_; b += block) {
    auto& bytes = t.bytes[std::size_t(b / block)];
    if (!options_.keep_scales)
      for (std::size_t r = 0; r < lanes; ++r) {
        float amax = 0;
        for (std::int64_t c = b; c < b + block; ++c)
          amax = std::max(
              amax, std::fabs(tile::at(t.target, c)[r] + tile::at(t.sums, c)[r] / root_[std::size_t(c * cols_ + c)]));
        bytes[r] = static_cast<std::uint8_t>(floor_byte(amax));
      }
    best.find({tile::columns(t.target, b), tile::columns(t.sums, b), root_.data() + b * cols_ + b, cols_}, bytes,
              options_.keep_scales);
    bytes = best.bytes;
    std::memcpy(tile::at(t.value, b), best.value, sizeof best.value);
    std::memcpy(tile::at(t.error, b), best.error, sizeof best.error);
    const std::int64_t rest = cols_ - b - block;
    if (rest > 0)
      tile::map(t.sums, b + block, rest).noalias() +=
          map_of(root_.data() + b * cols_ + b + block, block, rest, cols_).transpose() * tile::map(t.error, b, block);
  }
}

void rounder::pass_by_diagonal(tile& t) const {
  // Scales first: the weighted error of plain rounding decides.
  std::vector<float> weight(static_cast<std::size_t>(cols_));
  for (std::int64_t i = 0; i < cols_; ++i) {
    const float d = root_[std::size_t(i * cols_ + i)];
    weight[std::size_t(order_[std::size_t(i)])] = d * d;
  }
  for (std::int64_t b = 0; b < cols_ && !options_.keep_scales; b += block)
    for (std::size_t r = 0; r < lanes; ++r) {
      float amax = 0;
      for (std::int64_t c = b; c < b + block; ++c) amax = std::max(amax, std::fabs(tile::at(t.target, c)[r]));
      const int floor = floor_byte(amax);
      float least = 0;
      for (const int step : {0, 1, -1}) {
        const int byte = std::clamp(floor + step, 0, 254);
        const float s = power_of_two(byte), inverse = power_of_two(254 - byte);
        float loss = 0;
        for (std::int64_t c = b; c < b + block; ++c) {
          const float w = tile::at(t.target, c)[r], e = w - round_under(w, s, inverse);
          loss += weight[std::size_t(c)] * e * e;
        }
        if (step != 0 && !(loss < least)) continue;
        least = loss;
        t.bytes[std::size_t(b / block)][r] = static_cast<std::uint8_t>(byte);
      }
    }
  tile turned(cols_);
  for (std::int64_t i = 0; i < cols_; ++i)
    std::memcpy(tile::at(turned.target, i), tile::at(t.target, order_[std::size_t(i)]), sizeof(column));
  tile::map(turned.sums, 0, cols_).setZero();
  block_trial trial;
  column scale[block], inverse[block];
  for (std::int64_t i = 0; i < cols_; i += block) {
    for (std::int64_t c = 0; c < block; ++c)
      for (std::size_t r = 0; r < lanes; ++r) {
        const int byte = t.bytes[std::size_t(order_[std::size_t(i + c)] / block)][r];
        scale[c][r] = power_of_two(byte);
        inverse[c][r] = power_of_two(254 - byte);
      }
    round_block({tile::columns(turned.target, i), tile::columns(turned.sums, i), root_.data() + i * cols_ + i, cols_},
                scale, inverse, 1, trial);
    std::memcpy(tile::at(turned.error, i), trial.error, sizeof trial.error);
    for (std::int64_t c = 0; c < block; ++c) {
      std::memcpy(tile::at(t.value, order_[std::size_t(i + c)]), trial.value[c], sizeof(column));
      std::memcpy(tile::at(t.error, order_[std::size_t(i + c)]), trial.error[c], sizeof(column));
    }
    const std::int64_t rest = cols_ - i - block;
    if (rest > 0)
      tile::map(turned.sums, i + block, rest).noalias() +=
          map_of(root_.data() + i * cols_ + i + block, block, rest, cols_).transpose() *
          tile::map(turned.error, i, block);
  }
}

bool rounder::pass_again(tile& t, bool pairs) const {
  const const_matrix_map<float> h = map_of(hessian_.data(), cols_, cols_, cols_);
  best_trial best;
  column shift[block], change[block], was;
  row_major<float> after(block, lanes);
  pair_search row;
  bool any = false;
  for (std::int64_t b = 0; b < cols_; b += block) {
    const matrix_map<float> e = tile::map(t.error, b, block);
    // What the other columns' errors ask of this block: c, of which R z = c.
    matrix_map<float> z = map_of(&shift[0][0], block, lanes, lanes);
    z = tile::map(t.sums, b, block) - h.block(b, b, block, block) * e;
    const float* const root = block_roots_.data() + b * block;
    map_of(root, block, block, block).triangularView<Eigen::Upper>().solveInPlace(z);
    const block_task task{tile::columns(t.target, b), shift, root, block};
    loss_of(task, tile::columns(t.error, b), was);
    auto& bytes = t.bytes[std::size_t(b / block)];
    best.find(task, bytes, options_.keep_scales);
    bool changed = false;
    for (std::size_t r = 0; r < lanes; ++r) {
      const bool better = best.loss[r] < was[r] * (1 - least_gain);
      changed = changed || better;
      if (better) bytes[r] = best.bytes[r];
      for (std::int64_t c = 0; c < block; ++c) {
        if (better) tile::at(t.value, b + c)[r] = best.value[c][r];
        else best.error[c][r] = tile::at(t.error, b + c)[r];
        change[c][r] = best.error[c][r] - tile::at(t.error, b + c)[r];
      }
    }
    if (pairs) after = tile::map(t.sums, b, block);
    if (pairs && changed) after.noalias() += h.block(b, b, block, block) * map_of(&change[0][0], block, lanes, lanes);
    for (std::int64_t r = 0; r < lanes && pairs; ++r) {
      const float scale = power_of_two(bytes[std::size_t(r)]), inverse = power_of_two(254 - bytes[std::size_t(r)]);
      for (std::int64_t c = 0; c < block; ++c) {
        row.value[c] = tile::at(t.value, b + c)[r];
        row.error[c] = best.error[c][r];
        row.sums[c] = after(c, r);
      }
      if (!row.improve(h.data() + b * cols_ + b, cols_, scale, inverse)) continue;
      changed = true;
      for (std::int64_t c = 0; c < block; ++c) {
        tile::at(t.value, b + c)[r] = row.value[c];
        best.error[c][r] = tile::at(t.target, b + c)[r] - row.value[c];
        change[c][r] = best.error[c][r] - tile::at(t.error, b + c)[r];
      }
    }
    std::memcpy(tile::at(t.error, b), best.error, sizeof best.error);
    if (!changed) continue;
    any = true;
    tile::map(t.sums, 0, cols_).noalias() += h.middleCols(b, block) * map_of(&change[0][0], block, lanes, lanes);
  }
  return any;
}

void rounder::write_row(const tile& t, std::int64_t r, mx_view<> out, std::int64_t row) const {
  for (std::int64_t b = 0; b < cols_ / block; ++b) {
    const std::uint8_t byte = t.bytes[std::size_t(b)][std::size_t(r)];
    float value[block];
    for (std::int64_t c = 0; c < block; ++c) value[c] = t.value[static_cast<std::size_t>(b * block + c)].of[r];
    *out.block_scale(row, b) = byte;
    write_block(value, byte, out.block_codes(row, b));
  }
}

}  // namespace mxfp4::calibrate

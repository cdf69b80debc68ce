// src/model/products.cpp -- the products of weights.hpp's linear layers.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "model/dense_product.hpp"
#include "model/kernels.hpp"
#include "model/loops.hpp"
#include "model/served_activations.hpp"
#include "model/weights.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;

namespace {

// Of a dense product: a task's rows, and the part of K of theirs and of the tokens' that stays in the first- and
// second-level cache.
constexpr std::int64_t panels_a_task = 4, rows_a_task = panels_a_task * panel_width;
constexpr std::int64_t columns_at_once = 512, tokens_at_once = 240;
static_assert(columns_at_once % 2 == 0, "pairs begin at even columns");

/// Tokens in tiles: of each, tile by tile, x[k][tile). What is left over of a tile is not in it.
class token_tiles {
 public:
  token_tiles(dense_view<const float> x, executor_ref executor)
      : cols_(x.cols), tiles_(x.rows / tile_), data_(static_cast<std::size_t>(tiles_ * tile_ * cols_)) {
    executor.run(static_cast<std::size_t>(tiles_), [&](std::size_t i) {
      const std::int64_t first = static_cast<std::int64_t>(i) * tile_;
      float* const to = data_.data() + first * cols_;
      for (std::int64_t t = 0; t < tile_; ++t) {
        const float* const from = x.row(first + t);
        for (std::int64_t k = 0; k < cols_; ++k) to[k * tile_ + t] = from[k];
      }
    });
  }

  [[nodiscard]] std::int64_t tokens() const noexcept { return tiles_ * tile_; }  ///< that are in tiles

  /// Y[m][n] = sum of k in [k, k + size), or added to it, for all these tokens and a panel's columns.
  void multiply(const float* panel, std::int64_t k, std::int64_t size, float* y, std::int64_t y_stride,
                std::int64_t columns) const {
    for (std::int64_t first = 0; first < tokens(); first += tile_)
      loops().multiply_tile(data_.data() + first * cols_ + k * tile_, panel, size, y + first * y_stride, y_stride,
                            columns, k > 0);
  }

 private:
  std::int64_t tile_ = loops().tile, cols_, tiles_;
  std::vector<float> data_;
};

}  // namespace

activations::activations(dense_view<const float> x, const product_options& options) : floats_(x) {
  const auto narrow = [&](auto scaling, auto& out) {
    auto q = kernels::quantize_activations(x, scaling, {.executor = options.executor});
    require_ok(q.error(), "activations");
    out.emplace(*std::move(q));
  };
  switch (options.activations) {
    case activation_type::f32:
      break;
    case activation_type::int8:
      narrow(int8_scaling::e8m0, int8_);
      break;
    case activation_type::int8_residual2:
      narrow(int8_scaling::residual2, int8_);
      break;
    case activation_type::int8_residual3:
      narrow(int8_scaling::residual3, int8_);
      break;
    case activation_type::mxfp8:
      narrow(mxfp8_scaling::floor, mxfp8_);
      break;
    case activation_type::fp8:
      served_ = as_fp8(x);
      floats_ = std::as_const(served_).view();
      break;
    case activation_type::mxfp4:
      served_ = as_mxfp4(x);
      floats_ = std::as_const(served_).view();
  }
}

void linear::arrange() {
  if (!narrow_.empty() || !wide_.empty()) {
    std::vector<float> row(static_cast<std::size_t>(cols_));
    panels_ = panel_matrix(rows_, cols_, [&](std::int64_t n) {
      decode_row(n, row.data());
      return row.data();
    });
    narrow_ = {};
    wide_ = {};
  } else if (!codes_.empty()) {
    auto packed = kernels::pack(mxfp4_rows(0, rows_));
    require_ok(packed.error(), "pack");
    packed_ = std::make_shared<packed_matrix>(*std::move(packed));
    codes_ = {};
    scales_ = {};
  }
}

void linear::multiply(dense_view<const float> x, dense_view<float> y, const product_options& options) const {
  if (file_ == nullptr && is_mxfp4()) return multiply(activations(x, options), y, options);
  if (file_ != nullptr) {
    const std::int64_t at_once = rows_of_a_piece(cols_);
    for (std::int64_t first = 0; first < rows_; first += at_once) {
      const std::int64_t count = std::min(at_once, rows_ - first);
      load_rows(*file_, name_, rows_, cols_, first, count)
          .multiply(x, {y.data + first, y.rows, count, y.stride}, options);
    }
  } else if (x.rows == 1) {
    multiply_one(x, y, options.executor);
  } else {
    multiply_dense(x, y, options.executor);
  }
  add_bias(y);
}

void linear::multiply(const activations& x, dense_view<float> y, const product_options& options) const {
  if (file_ != nullptr || !is_mxfp4()) return multiply(x.floats_, y, options);
  const gemm_options with{false, options.executor};
  const auto product = [&](const auto& tokens, const dense_view<float>& out) {
    require_ok(packed_ != nullptr ? kernels::gemm(*packed_, tokens, out, with)
                                  : kernels::gemm(mxfp4_rows(0, rows_), tokens, out, with),
               "gemm");
  };
  if (x.int8_) {
    product(*x.int8_, y);
  } else if (x.mxfp8_) {
    product(*x.mxfp8_, y);
  } else if (y.rows == 1) {  // twice: a single token's sums would have another order
    token_rows twice(2, cols_), out(2, rows_);
    for (const std::int64_t t : {0, 1}) std::copy_n(x.floats_.row(0), cols_, twice.row(t));
    product(std::as_const(twice).view(), out.view());
    std::copy_n(out.row(0), rows_, y.row(0));
  } else {
    product(x.floats_, y);
  }
  add_bias(y);
}

void linear::add_bias(dense_view<float> y) const {
  if (bias_.empty()) return;
  for (std::int64_t m = 0; m < y.rows; ++m)
    for (std::int64_t n = 0; n < rows_; ++n) y.row(m)[n] += bias_[static_cast<std::size_t>(n)];
}

/// One token: rows where they lie, or panels of pairs.
void linear::multiply_one(dense_view<const float> x, dense_view<float> y, executor_ref executor) const {
  // A task of 32 rows takes some ten microseconds, and an executor a part of one for it: of many rows tasks have more.
  constexpr std::int64_t tasks_for_many_threads = 256, most_rows = 16 * rows_a_task;
  const std::int64_t rows_of_task =
      std::clamp(rows_ / tasks_for_many_threads / rows_a_task * rows_a_task, rows_a_task, most_rows);
  const auto one_token = [&](std::size_t chunk) {
    const std::int64_t first = static_cast<std::int64_t>(chunk) * rows_of_task,
                       count = std::min(rows_of_task, rows_ - first);
    float* const to = y.row(0) + first;
    if (!panels_.empty()) {
      float all[most_rows];
      panels_.multiply_one(x.row(0), first / panel_width, (count + panel_width - 1) / panel_width, all);
      std::copy_n(all, count, to);
    } else if (!wide_.empty()) {
      multiply_rows(x.row(0), wide_.data() + first * cols_, count, cols_, to, [](float w) { return w; });
    } else {
      multiply_rows(x.row(0), narrow_.data() + first * cols_, count, cols_, to, [](bf16 w) { return decode(w); });
    }
  };
  executor.run(static_cast<std::size_t>((rows_ + rows_of_task - 1) / rows_of_task), one_token);
}

/// Columns [k, k + size) of rows [row, row + count) as a panel, in `buffer` or where it is.
const float* linear::panel(std::int64_t row, std::int64_t count, std::int64_t k, std::int64_t size,
                           float* buffer) const {
  if (!panels_.empty()) return panels_.panel(row / panel_width, k, size, buffer);
  std::fill_n(buffer, size * panel_width, 0.0f);
  for (std::int64_t n = 0; n < count; ++n) {
    const auto first = static_cast<std::size_t>((row + n) * cols_ + k);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::size_t at = first + static_cast<std::size_t>(i);
      buffer[i * panel_width + n] = wide_.empty() ? decode(narrow_[at]) : wide_[at];
    }
  }
  return buffer;
}

void linear::multiply_dense(dense_view<const float> x, dense_view<float> y, executor_ref executor) const {
  for (std::int64_t first = 0; first < x.rows; first += tokens_at_once) {
    const std::int64_t count = std::min(tokens_at_once, x.rows - first);
    multiply_tokens({x.row(first), count, cols_, x.stride}, {y.row(first), count, rows_, y.stride}, executor);
  }
}

void linear::multiply_tokens(dense_view<const float> x, dense_view<float> y, executor_ref executor) const {
  const token_tiles tiles(x, executor);
  const std::int64_t rest = tiles.tokens();
  const auto task = [&](std::size_t index) {
    const std::int64_t first = static_cast<std::int64_t>(index) * rows_a_task,
                       last = std::min(first + rows_a_task, rows_);
    std::vector<float> buffer(static_cast<std::size_t>(columns_at_once * panel_width));
    for (std::int64_t k = 0; k < cols_; k += columns_at_once) {  // sums go on in y: K's order is kept
      const std::int64_t size = std::min(columns_at_once, cols_ - k);
      for (std::int64_t n = first; n < last; n += panel_width) {
        const std::int64_t columns = std::min(panel_width, last - n);
        const float* const weights = panel(n, columns, k, size, buffer.data());
        tiles.multiply(weights, k, size, y.data + n, y.stride, columns);
        if (rest < x.rows)
          multiply_panel(x.row(rest) + k, x.stride, x.rows - rest, weights, size, y.row(rest) + n, y.stride, columns,
                         k > 0);
      }
    }
  };
  executor.run(static_cast<std::size_t>((rows_ + rows_a_task - 1) / rows_a_task), task);
}

}  // namespace mxfp4::model

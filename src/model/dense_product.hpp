// src/model/dense_product.hpp -- products of float matrices, of which every sum is added up in one order.
// SPDX-License-Identifier: Apache-2.0
//
//   panel     8 columns of a matrix side by side: panel[k][0..8), zeros where it has fewer
//   pairs     the same in bf16: words [k / 2][0..8), the even k in the low half, the odd one in the high half
//   product   y[m][n] = ((x[m][0] * panel[0][n]) + x[m][1] * panel[1][n]) + ...    k ascending, from +0 or y on
//
// Nothing is fused (-ffp-contract=off) and no sum is split, so a result has the same bits whatever else is computed
// with it: for any number of rows, tasks and threads, on every machine.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mxfp4/core/aligned_buffer.hpp"

namespace mxfp4::model {

inline constexpr std::int64_t panel_width = 8;

/// y[m][n] = sum over k of x[m][k] * panel[k][n] for n < columns, or added to y in front of all other terms.
/// @param x        rows x k, `x_stride` floats from row to row.
/// @param panel    k x 8.
/// @param columns  1 .. 8.
/// Accuracy: |y - exact| <= gamma(k + 1) * (|y before| + sum |x * panel|), gamma(n) = n*u / (1 - n*u), u = 2^-24, while
/// nothing overflows or is subnormal. NaN and infinity follow IEEE.
void multiply_panel(const float* x, std::int64_t x_stride, std::int64_t rows, const float* panel, std::int64_t k,
                    float* y, std::int64_t y_stride, std::int64_t columns, bool add);

/// The same sums for one token and rows of a matrix where they lie: y[n] = sum over k of x[k] * rows[n * k_count + k].
/// Without a panel, which takes longer to make than one token's products: eight chains of additions hide their latency.
/// @param value  of an element, as float.
template <class T, class Value>
void multiply_rows(const float* x, const T* rows, std::int64_t count, std::int64_t k_count, float* y, Value value) {
  for (std::int64_t n = 0; n < count; n += panel_width) {
    const std::int64_t width = std::min(panel_width, count - n);
    const T* row[panel_width];
    for (std::int64_t i = 0; i < panel_width; ++i) row[i] = rows + (n + std::min(i, width - 1)) * k_count;
    float sum[panel_width] = {};
    for (std::int64_t k = 0; k < k_count; ++k)
      for (std::int64_t i = 0; i < panel_width; ++i) sum[i] += x[k] * value(row[i][k]);
    std::copy_n(sum, width, y + n);
  }
}

/// A matrix whose rows are in panels, one behind the other: of pairs where all its numbers are bf16's, else of floats.
class panel_matrix {
 public:
  panel_matrix() = default;
  panel_matrix(const panel_matrix& other);
  panel_matrix(panel_matrix&&) noexcept = default;
  panel_matrix& operator=(const panel_matrix& other) { return *this = panel_matrix(other); }
  panel_matrix& operator=(panel_matrix&&) noexcept = default;
  ~panel_matrix() = default;
  /// @param row  a function: the numbers of row n, `k` floats.
  template <class Row>
  panel_matrix(std::int64_t rows, std::int64_t k, Row row) : rows_(rows), k_(k) {
    take_zeros(panels() * ((k + 1) / 2) * panel_width);
    for (std::int64_t n = 0; n < rows; ++n)
      if (!put_pairs(n, row(n))) {
        are_pairs_ = false;
        take_zeros(panels() * k * panel_width);
        for (std::int64_t m = 0; m < rows; ++m) put_floats(m, row(m));
        return;
      }
  }

  [[nodiscard]] bool empty() const noexcept { return rows_ == 0; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return sizeof(float) * static_cast<std::uint64_t>(words_); }

  /// multiply_panel's sums for one token and rows [8 first, 8 first + 8 count): y[n] = sum over k of x[k] * row(n)[k].
  void multiply_one(const float* x, std::int64_t first, std::int64_t count, float* y) const noexcept;

  /// Numbers [k, k + size) of the rows of a panel; k is even. @param buffer  8 size floats that may be written to.
  [[nodiscard]] const float* panel(std::int64_t index, std::int64_t k, std::int64_t size, float* buffer) const noexcept;

  /// y[m][n] = sum over k of x[m][k] * row(n)[k], for all rows.
  void multiply(const float* x, std::int64_t x_stride, std::int64_t tokens, float* y, std::int64_t y_stride) const;

 private:
  [[nodiscard]] std::int64_t panels() const noexcept { return (rows_ + panel_width - 1) / panel_width; }
  [[nodiscard]] std::uint32_t* pairs() const noexcept { return reinterpret_cast<std::uint32_t*>(memory_.get()); }
  [[nodiscard]] float* floats() const noexcept { return reinterpret_cast<float*>(memory_.get()); }
  /// Memory of so many words, in place of what there was, which is given back first. @throws std::bad_alloc
  void take_zeros(std::int64_t words);
  [[nodiscard]] bool put_pairs(std::int64_t n, const float* row) noexcept;
  void put_floats(std::int64_t n, const float* row) noexcept;

  std::int64_t rows_ = 0, k_ = 0, words_ = 0;
  bool are_pairs_ = true;
  detail::aligned_buffer memory_;
};

}  // namespace mxfp4::model

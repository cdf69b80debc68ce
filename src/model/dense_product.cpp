// src/model/dense_product.cpp -- see dense_product.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/dense_product.hpp"

#include <cstring>
#include <utility>

namespace mxfp4::model {

namespace {

/// Four floats: what every machine with vectors has a register for. g++ keeps wider ones in memory where it has none.
constexpr int lane_count = 4;
using lanes [[gnu::vector_size(sizeof(float[lane_count]))]] = float;
static_assert(panel_width == 2 * lane_count);

[[nodiscard]] lanes load(const float* from) {
  lanes v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

/// The rows `Rows` of x and y at a time: each number of the panel is loaded once for all of them. Written out by a fold
/// and not by loops: g++ decides what stays in registers before it unrolls.
template <std::int64_t... Rows>
void multiply_rows(std::integer_sequence<std::int64_t, Rows...>, const float* x, std::int64_t x_stride,
                   const float* panel, std::int64_t k, float* y, std::int64_t y_stride, std::int64_t columns,
                   bool add) {
  const std::size_t bytes = static_cast<std::size_t>(columns) * sizeof(float);
  float edges[sizeof...(Rows)][panel_width] = {};
  if (add) (std::memcpy(edges[Rows], y + Rows * y_stride, bytes), ...);
  lanes low[] = {load(edges[Rows])...}, high[] = {load(edges[Rows] + lane_count)...};
  for (std::int64_t i = 0; i < k; ++i) {
    const lanes w0 = load(panel + i * panel_width), w1 = load(panel + i * panel_width + lane_count);
    ((low[Rows] += x[Rows * x_stride + i] * w0, high[Rows] += x[Rows * x_stride + i] * w1), ...);
  }
  ((std::memcpy(edges[Rows], &low[Rows], sizeof(lanes)),
    std::memcpy(edges[Rows] + lane_count, &high[Rows], sizeof(lanes)),
    std::memcpy(y + Rows * y_stride, edges[Rows], bytes)),
   ...);
}

}  // namespace

void multiply_panel(const float* x, std::int64_t x_stride, std::int64_t rows, const float* panel, std::int64_t k,
                    float* y, std::int64_t y_stride, std::int64_t columns, bool add) {
  constexpr std::int64_t rows_at_once = 6;  // 12 sums of four floats each leave four of x86-64's 16 registers
  using many = std::make_integer_sequence<std::int64_t, rows_at_once>;
  using one = std::make_integer_sequence<std::int64_t, 1>;
  std::int64_t m = 0;
  for (; m + rows_at_once <= rows; m += rows_at_once)
    multiply_rows(many{}, x + m * x_stride, x_stride, panel, k, y + m * y_stride, y_stride, columns, add);
  for (; m < rows; ++m)
    multiply_rows(one{}, x + m * x_stride, x_stride, panel, k, y + m * y_stride, y_stride, columns, add);
}

}  // namespace mxfp4::model

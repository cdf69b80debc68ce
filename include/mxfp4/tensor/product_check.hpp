// mxfp4/tensor/product_check.hpp -- what every product Y = X W^T asks of its arguments.
// SPDX-License-Identifier: Apache-2.0
//
//   W  N x K, of any kind        X  M x K, of any kind        Y  M x N, shares no byte with W or X
//
// For each kind of matrix an overload of operand_of gives its shape and the bytes that it occupies; check_product
// compares them.
#pragma once

#include <cstdint>
#include <span>

#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::detail {

/// A matrix as an argument of a product. Shape and memory are valid only where `state` is ok.
struct operand {
  status state;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  byte_range memory[2]{};
};

template <class Byte, block_layout Layout>
[[nodiscard]] MXFP4_INLINE operand operand_of(const basic_mx_view<Byte, Layout>& v, const char* argument) noexcept {
  if (const status s = check(v, argument); !s.ok()) return {s};
  return {{}, v.rows, v.cols, {codes_of(v), scales_of(v)}};
}
template <class T>
[[nodiscard]] MXFP4_INLINE operand operand_of(const dense_view<T>& v, const char* argument) noexcept {
  if (const status s = check(v, argument); !s.ok()) return {s};
  return {{}, v.rows, v.cols, {data_of(v), {}}};
}

/// The first thing that is wrong: with w, x or y alone, then with their shapes, then with where they lie.
MXFP4_INLINE status check_product(const operand& w, const operand& x, const operand& y) noexcept {
  for (const operand* const o : {&w, &x, &y})
    if (!o->state.ok()) return o->state;
  if (x.cols != w.cols) return {errc::shape_mismatch, "cols", x.cols, w.cols, "x"};
  if (y.rows != x.rows) return {errc::shape_mismatch, "rows", y.rows, x.rows, "y"};
  if (y.cols != w.rows) return {errc::shape_mismatch, "cols", y.cols, w.rows, "y"};
  for (const operand* const o : {&w, &x})
    for (const byte_range& memory : o->memory)
      if (overlap(memory, y.memory[0])) return {errc::overlap, "y"};
  return {};
}

/// The same, and a bias, which has a number for each row of W or, empty, is none.
MXFP4_INLINE status check_product(const operand& w, const operand& x, const operand& y,
                                  std::span<const float> bias) noexcept {
  if (const status s = check_product(w, x, y); !s.ok()) return s;
  const auto size = static_cast<std::int64_t>(bias.size());
  if (size != 0 && size != w.rows) return {errc::shape_mismatch, "size", size, w.rows, "bias"};
  if (overlap({bias.data(), size * std::int64_t{sizeof(float)}}, y.memory[0])) return {errc::overlap, "y"};
  return {};
}

}  // namespace mxfp4::detail

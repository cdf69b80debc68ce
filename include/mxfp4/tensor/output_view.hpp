// mxfp4/tensor/output_view.hpp -- the Y of a product, its element type a value: float, bf16 or f16.
// SPDX-License-Identifier: Apache-2.0
//
// What rounds the sums of a product is compiled once for all types; between it and a product with float sums stand a
// few rows of floats.
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/tensor/product_check.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// What a product can be rounded to: float itself, bf16, f16.
template <class T>
concept output_element = std::same_as<T, float> || std::same_as<T, bf16> || std::same_as<T, f16>;
/// Those of 16 bits.
template <class T>
concept rounded_element = std::same_as<T, bf16> || std::same_as<T, f16>;

namespace detail {

enum class output_type : std::uint8_t { f32, bf16, f16 };

struct output_view {
  void* data;
  std::int64_t rows, cols, stride;  ///< elements
  output_type type;

  template <output_element T>
  MXFP4_INLINE explicit output_view(const dense_view<T>& y) noexcept
      : data(y.data),
        rows(y.rows),
        cols(y.cols),
        stride(y.stride),
        type(std::same_as<T, float>  ? output_type::f32
             : std::same_as<T, bf16> ? output_type::bf16
                                     : output_type::f16) {}

  template <output_element T>
  [[nodiscard]] MXFP4_INLINE dense_view<T> as() const noexcept {
    return {static_cast<T*>(data), rows, cols, stride};
  }
};

/// Calls f with the dense_view that y stands for.
template <class F>
MXFP4_INLINE auto with_output(const output_view& y, F f) {
  switch (y.type) {
    case output_type::bf16:
      return f(y.as<bf16>());
    case output_type::f16:
      return f(y.as<f16>());
    default:
      return f(y.as<float>());
  }
}

[[nodiscard]] MXFP4_INLINE operand operand_of(const output_view& y, const char* argument) noexcept {
  if (y.type == output_type::bf16) return operand_of(y.as<bf16>(), argument);
  if (y.type == output_type::f16) return operand_of(y.as<f16>(), argument);
  return operand_of(y.as<float>(), argument);
}

}  // namespace detail
}  // namespace mxfp4

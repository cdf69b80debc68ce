// mxfp4/cuda/device/product.cuh -- what every product on the device asks of its arguments, checked on the host.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/cuda/device/check.cuh"
#include "mxfp4/tensor/product_check.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

/// Activations that go to the tensor cores as they are.
template <class T>
concept half_type = std::same_as<T, bf16> || std::same_as<T, f16>;
/// What a product may be stored as: rounded once from f32, to nearest even.
template <class T>
concept result_type = std::same_as<T, float> || half_type<T>;

namespace detail {

inline constexpr std::int64_t copy_bytes = 16;  ///< what an asynchronous copy moves at once, and asks as alignment
inline constexpr std::int64_t word_bytes = 4;   ///< the same for scales

[[nodiscard]] inline status check_weights(const const_mx_view<>& w) noexcept {
  if (const status s = check_aligned(w, copy_bytes, "w"); !s.ok()) return s;
  return check_alignment(w.scales, word_bytes, "scales", "w");
}

/// What is asked of x, a dense or an MXFP8 view whose rows start at multiples of x_bytes, of y, and of the three
/// together, w being one that may be read.
template <class X, class Y>
[[nodiscard]] status check_operands(const mxfp4::detail::operand& w, const X& x, std::int64_t x_bytes,
                                    const dense_view<Y>& y, std::int64_t max_tokens) noexcept {
  if (const status s = check_aligned(x, x_bytes, "x"); !s.ok()) return s;
  if (const status s = check_aligned(y, static_cast<std::int64_t>(sizeof(Y)), "y"); !s.ok()) return s;
  if (x.rows > max_tokens) return {errc::too_large, "rows", x.rows, max_tokens, "x"};
  using mxfp4::detail::operand_of;
  return mxfp4::detail::check_product(w, operand_of(x, "x"), operand_of(y, "y"));
}

}  // namespace detail

/// Can Y = X W^T run on the device? `max_tokens` is what the product at hand takes.
/// @return ok, or what is wrong first: a size that is negative, zero or 2^31 and more; K no multiple of 32; a stride
///         shorter than a row; a null pointer; w.codes, w.code_stride, x.data or x.stride not a multiple of 16 bytes,
///         w.scales not of 4; more tokens than max_tokens; shapes that differ; y sharing bytes with w or x.
template <half_type X, result_type Y>
[[nodiscard]] status check_product(const const_mx_view<>& w, const dense_view<const X>& x, const dense_view<Y>& y,
                                   std::int64_t max_tokens = detail::max_lines) noexcept {
  if (const status s = detail::check_weights(w); !s.ok()) return s;
  return detail::check_operands(mxfp4::detail::operand_of(w, "w"), x, detail::copy_bytes, y, max_tokens);
}

}  // namespace mxfp4::cuda

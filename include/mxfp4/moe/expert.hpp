// mxfp4/moe/expert.hpp -- the matrices of an expert, and lists of experts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <span>  // std::data and std::size too
#include <type_traits>
#include <utility>

#include "mxfp4/tensor/packed_matrix.hpp"
#include "mxfp4/tensor/product_check.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// One expert's matrices, all of one kind: packed_matrix, or views of a checkpoint's own bytes; and the biases of their
/// products, each null where there is none. In MiniMax-M2 they are called w1, w3 and w2. Where gate and up are one
/// matrix of 2 I rows, its halves are two views; where their rows take turns, as in gpt-oss, two views of twice the row
/// stride.
template <class W>
struct expert {
  W gate;                            ///< I x H
  W up;                              ///< I x H
  W down;                            ///< H x I
  const float* gate_bias = nullptr;  ///< I
  const float* up_bias = nullptr;    ///< I
  const float* down_bias = nullptr;  ///< H
};

/// Experts that every token passes besides those that it is routed to. Several of one size may stand in a checkpoint as
/// one matrix: that is one expert here, with an I of its own.
template <class W>
struct shared_experts {
  std::span<const expert<W>> experts;  ///< S of them, 8 at most
  dense_view<const float> weights{};   ///< M x S, such as a sigmoid gate's; no data: 1 each
};

namespace detail {
template <class R>
using element_of_list = std::remove_cvref_t<decltype(*std::data(std::declval<const R&>()))>;
}  // namespace detail

/// A contiguous list of expert<W>: a vector, an array or a span.
template <class R>
concept expert_list = requires(const R& list, const detail::element_of_list<R>& e) {
  { std::size(list) } -> std::convertible_to<std::size_t>;
  requires std::same_as<decltype(std::data(list)), const detail::element_of_list<R>*> ||
               std::same_as<decltype(std::data(list)), detail::element_of_list<R>*>;
  detail::operand_of(e.gate, "");
  detail::operand_of(e.up, "");
  detail::operand_of(e.down, "");
  { e.gate_bias } -> std::convertible_to<const float*>;
  { e.up_bias } -> std::convertible_to<const float*>;
  { e.down_bias } -> std::convertible_to<const float*>;
};

/// A contiguous list of matrices of weights: a vector, an array or a span of packed_matrix, packed_view or views.
template <class R>
concept weight_list = requires(const R& list, const detail::element_of_list<R>& w) {
  { std::size(list) } -> std::convertible_to<std::size_t>;
  requires std::same_as<decltype(std::data(list)), const detail::element_of_list<R>*> ||
               std::same_as<decltype(std::data(list)), detail::element_of_list<R>*>;
  detail::operand_of(w, "");
};

namespace detail {
template <expert_list R>
[[nodiscard]] MXFP4_INLINE constexpr std::span<const element_of_list<R>> span_of(const R& experts) noexcept {
  return {std::data(experts), static_cast<std::size_t>(std::size(experts))};
}
}  // namespace detail

}  // namespace mxfp4

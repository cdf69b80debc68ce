// mxfp4/moe/expert.hpp -- the matrices of an expert, and lists of experts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ranges>

#include "mxfp4/tensor/packed_matrix.hpp"
#include "mxfp4/tensor/product_check.hpp"

namespace mxfp4 {

/// One expert's matrices, all of one kind: packed_matrix, or views of a checkpoint's own bytes. In MiniMax-M2 they are
/// called w1, w3 and w2. Where gate and up are one matrix of 2 I rows, its halves are two views.
template <class W>
struct expert {
  W gate;  ///< I x H
  W up;    ///< I x H
  W down;  ///< H x I
};

/// A contiguous list of expert<W>: a vector, an array or a span.
template <class R>
concept expert_list = std::ranges::contiguous_range<const R> && std::ranges::sized_range<const R> &&
                      requires(const std::ranges::range_value_t<R>& e) {
                        detail::operand_of(e.gate, "");
                        detail::operand_of(e.up, "");
                        detail::operand_of(e.down, "");
                      };

}  // namespace mxfp4

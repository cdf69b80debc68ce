// examples/common/block_encoder.cpp -- encode a slab, and compare.
// SPDX-License-Identifier: Apache-2.0
#include "common/block_encoder.hpp"

#include "common/codec.hpp"

namespace mxfp4::tools {

mx_view<> block_encoder::make_room(std::int64_t rows, std::int64_t cols) {
  codes_.resize(static_cast<std::size_t>(rows * cols / 2));
  scales_.resize(static_cast<std::size_t>(rows * cols / block_size));
  return {codes_.data(), scales_.data(), rows, cols, cols / 2, cols / block_size};
}

template <element_type T>
status block_encoder::encode(std::span<const T> weights) {
  // One row: the bytes are those of the tensor, since its rows are whole blocks too.
  const dense_view<const T> w{weights.data(), 1, std::ssize(weights), std::ssize(weights)};
  const mx_view<> out = make_room(1, std::ssize(weights));
  if (const status s = codec::quantize(recipe_, w, out, policy_); !s.ok()) return s;
  return codec::measure_error(w, out, statistics_);
}

status block_encoder::encode_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                                 std::span<const bf16> widened) {
  const mx_view<> out = make_room(w.rows, w.cols);
  if (const status s = codec::quantize_fp8(recipe_, w, scales, out, policy_); !s.ok()) return s;
  return codec::measure_error(dense_view<const bf16>{widened.data(), w.rows, w.cols, w.cols}, out, statistics_);
}

template status block_encoder::encode(std::span<const float>);
template status block_encoder::encode(std::span<const bf16>);
template status block_encoder::encode(std::span<const f16>);

}  // namespace mxfp4::tools

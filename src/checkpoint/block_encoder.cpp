// src/checkpoint/block_encoder.cpp -- encode a slab, and compare.
// SPDX-License-Identifier: Apache-2.0
//
// Where weights that are not finite are refused, the statistics tell of them: they have read every weight anyway. Only
// then does the encoder look for the first one.
#include "checkpoint/block_encoder.hpp"

#include "checkpoint/codec.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

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
  const std::int64_t nonfinite = statistics_.nonfinite;
  if (const status s = codec::quantize(recipe_, w, out); !s.ok()) return s;
  if (const status s = codec::measure_error(w, out, statistics_); !s.ok()) return s;
  if (policy_ == on_nonfinite::encode || statistics_.nonfinite == nonfinite) return {};
  return codec::quantize(recipe_, w, out, {.nonfinite = on_nonfinite::refuse});
}

template <element_type T>
status block_encoder::take(std::span<const T> weights) {
  const std::int64_t count = std::ssize(weights);
  return codec::measure_error(dense_view<const T>{weights.data(), 1, count, count}, make_room(1, count), statistics_);
}

status block_encoder::encode_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales) {
  const mx_view<> out = make_room(w.rows, w.cols);
  const std::int64_t nonfinite = statistics_.nonfinite;
  if (const status s = codec::quantize_fp8_measured(recipe_, w, scales, out, statistics_); !s.ok()) return s;
  if (policy_ == on_nonfinite::encode || statistics_.nonfinite == nonfinite) return {};
  return codec::quantize_fp8(recipe_, w, scales, out, {.nonfinite = on_nonfinite::refuse});
}

template status block_encoder::encode(std::span<const float>);
template status block_encoder::encode(std::span<const bf16>);
template status block_encoder::encode(std::span<const f16>);
template status block_encoder::take(std::span<const float>);
template status block_encoder::take(std::span<const bf16>);
template status block_encoder::take(std::span<const f16>);

}  // namespace mxfp4::checkpoint

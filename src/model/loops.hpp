// src/model/loops.hpp -- the loops that take a forward pass's time beside mxfp4's kernels, for x86-64's base and AVX2.
// SPDX-License-Identifier: Apache-2.0
//
// What AVX2 computes has the same bits: nothing is fused where the other does not fuse, and each sum keeps its order.
#pragma once

#include <cstdint>

#include "mxfp4/tensor/moe_options.hpp"

namespace mxfp4::model {

struct loop_table {
  /// dense_product.hpp.
  void (*multiply_panel)(const float* x, std::int64_t x_stride, std::int64_t rows, const float* panel, std::int64_t k,
                         float* y, std::int64_t y_stride, std::int64_t columns, bool add);
  /// multiply_panel for `tile` tokens side by side: x[k][0..tile).
  void (*multiply_tile)(const float* x, const float* panel, std::int64_t k, float* y, std::int64_t y_stride,
                        std::int64_t columns, bool add);
  std::int64_t tile;
  /// One token and `count` panels of pairs, or of floats: y[8 p + n] = sum over k of x[k] * panel p[k][n].
  void (*multiply_pairs)(const float* x, const std::uint32_t* panels, std::int64_t count, std::int64_t k, float* y);
  void (*multiply_floats)(const float* x, const float* panels, std::int64_t count, std::int64_t k, float* y);
  /// A panel of floats from `k` numbers of each row of one of pairs.
  void (*widen_pairs)(const std::uint32_t* pairs, std::int64_t k, float* panel);
  /// scores[0..length) times `factor`, which is above 0, become their softmax, which a sink joins where there is one.
  /// Powers of e of what they are below the largest are within 2 ulp, 0 below e^-87.3; the divisor is a sum in double.
  /// NaN and infinity make NaN of all.
  void (*softmax)(float* scores, std::int64_t length, float factor, const float* sink);
  /// gate[i] <- glu(gate[i], up[i]).
  void (*activate)(float* gate, const float* up, std::int64_t count, const moe_options& options);
};

/// Those for this CPU.
[[nodiscard]] const loop_table& loops() noexcept;

extern const loop_table loops_avx2;  ///< loops_avx2.cpp; where MXFP4_MODEL_AVX2 is defined

}  // namespace mxfp4::model

// mxfp4/checkpoint/scale_grid.hpp -- how many weights of a matrix share one scale.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mxfp4/core/version.hpp"
#include "mxfp4/tensor/fp8.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// Blocks of rows x cols weights, counted from the upper left corner; those at the lower and right edge may be cut off.
struct scale_grid {
  std::int64_t rows = fp8_block, cols = fp8_block;  ///< weights that share one scale

  friend bool operator==(const scale_grid&, const scale_grid&) = default;
};

}  // namespace mxfp4::checkpoint

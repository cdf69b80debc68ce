// examples/common/widen_fp8.hpp -- weights of an FP8 checkpoint as bf16, any run of them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "mxfp4/float_types.hpp"

namespace mxfp4::tools {

/// The weights [first, first + w.size()) of a matrix with `cols` columns: mxfp4::decode_scaled of each.
/// @param scales  of the whole matrix, [ceil(rows / 128), ceil(cols / 128)].
/// @param out     as many as w; no overlap.
void widen_fp8(std::span<const e4m3> w, std::int64_t first, std::int64_t cols, const float* scales,
               std::span<bf16> out) noexcept;

}  // namespace mxfp4::tools

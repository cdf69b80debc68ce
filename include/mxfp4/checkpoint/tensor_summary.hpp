// mxfp4/checkpoint/tensor_summary.hpp -- one tensor of a checkpoint in numbers: size, range, how its codes are used.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "mxfp4/checkpoint/stored_tensor.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// Sums run over the finite elements, in their order, in double.
struct tensor_summary {
  std::int64_t elements = 0;               ///< all of them
  std::int64_t zeros = 0;                  ///< +0 and -0
  std::int64_t nonfinite = 0;              ///< NaN and infinity, as the ocp dialect decodes
  double largest = 0;                      ///< of the magnitudes
  double sum = 0, squares = 0;             ///< of the finite elements, and of their squares
  std::array<std::int64_t, 16> codes{};    ///< of MXFP4: elements by their code
  std::array<std::int64_t, 256> scales{};  ///< of MXFP4: blocks by their scale byte

  /// Of the finite elements; 0 where there are none.
  [[nodiscard]] double mean() const noexcept;
  /// Of the finite elements; 0 where there are none.
  [[nodiscard]] double root_mean_square() const noexcept;
};

/// @param tensor  of `checkpoint`: MXFP4, FP8 with block scales, F32, F16, BF16 or F8_E4M3.
/// @param progress  told of the bytes that were read.
/// An error for what cannot be read, and for other types.
[[nodiscard]] io::file_result<tensor_summary> summarize(
    const checkpoint_reader& checkpoint, const stored_tensor& tensor,
    const std::function<void(std::uint64_t, std::uint64_t)>& progress = [](std::uint64_t, std::uint64_t) {});

}  // namespace mxfp4::checkpoint

// tests/support/statistics.hpp -- error statistics of a kernel against those of the plain loop.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "mxfp4/reference/error_statistics.hpp"

namespace mxfp4::test {

inline void check_counts(const error_statistics& got, const error_statistics& expected) {
  CHECK(got.weights == expected.weights);
  CHECK(got.saturated == expected.saturated);
  CHECK(got.zeroed == expected.zeroed);
  CHECK(got.lost == expected.lost);
  CHECK(got.nonfinite == expected.nonfinite);
  CHECK(got.nan_blocks == expected.nan_blocks);
  CHECK(got.scales == expected.scales);
}

/// The bound of measure_error's docstring. The plain loop's own error is far below; only for squares that do not
/// underflow.
inline void check_sums(const error_statistics& got, const error_statistics& expected) {
  const double bound = 20 * 0x1p-24 + static_cast<double>(expected.weights) * 0x1p-52;
  CHECK(std::abs(got.squared_weights - expected.squared_weights) <= bound * expected.squared_weights);
  CHECK(std::abs(got.squared_error - expected.squared_error) <= bound * expected.squared_error);
  CHECK(std::abs(got.max_error - expected.max_error) <= 0x1p-24 * expected.max_error);
}

}  // namespace mxfp4::test

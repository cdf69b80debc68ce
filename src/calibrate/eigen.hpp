// src/calibrate/eigen.hpp -- Eigen, with what keeps its sums in one order: no threads, and blocks of a fixed size.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#define EIGEN_DONT_PARALLELIZE
#define EIGEN_MPL2_ONLY
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <cstdint>

namespace mxfp4::calibrate {

template <class T>
using row_major = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using matrix_map = Eigen::Map<row_major<T>, 0, Eigen::OuterStride<>>;
template <class T>
using const_matrix_map = Eigen::Map<const row_major<T>, 0, Eigen::OuterStride<>>;

[[nodiscard]] inline matrix_map<float> map_of(float* data, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
  return {data, rows, cols, Eigen::OuterStride<>(stride)};
}
[[nodiscard]] inline const_matrix_map<float> map_of(const float* data, std::int64_t rows, std::int64_t cols,
                                                    std::int64_t stride) {
  return {data, rows, cols, Eigen::OuterStride<>(stride)};
}

/// Eigen cuts its products by the sizes of the machine's caches, and with them the order of the sums: those of a small
/// machine, everywhere. Called before the first product.
inline void fix_sums() {
  static const bool done = [] {
    Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
    return true;
  }();
  static_cast<void>(done);
}

}  // namespace mxfp4::calibrate

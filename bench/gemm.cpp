// bench/gemm.cpp -- 8 to 128 tokens: what of the machine's multiplying speed is left.
// SPDX-License-Identifier: Apache-2.0
//
// One matrix again and again, in the third-level cache. Two operations a weight and token. The limit of int8 rows is
// the int8 dot instructions alone, that of f32 rows fused multiply-adds; `sgemm` multiplies dense f32 weights.
#include "dense.hpp"
#include "products.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::bench;

void add_rows() {
  const auto row_of = [](const shape& s, const char* weights, std::int64_t m, int threads) {
    return row{"gemm", "", "", weights, s.n, s.k, m, "hot", "", threads};
  };
  for (const shape& s : layer_shapes())
    for (const std::int64_t m : {8, 32, 96, 128}) {
      for (const int threads : {1, 2}) {
        add_int8<simd::native_arch>(row_of(s, "packed", m, threads), int8_scaling::e8m0);
        add_int8<simd::native_arch>(row_of(s, "packed", m, threads), int8_scaling::row);
        if (m == 96) continue;
        add_int8<simd::native_arch>(row_of(s, "packed", m, threads), int8_scaling::residual2);
        add_int8<simd::native_arch>(row_of(s, "packed", m, threads), int8_scaling::residual3);
        add_f32<simd::native_arch>(row_of(s, "packed", m, threads));
        add_f32<simd::native_arch>(row_of(s, "view", m, threads));
        add_dense(s, m, false, threads);
      }
      if constexpr (!std::is_void_v<avx2_arch>)
        if (m != 96) {
          add_f32<avx2_arch>(row_of(s, "packed", m, 1));
          for (const auto scaling : {int8_scaling::e8m0, int8_scaling::residual2, int8_scaling::residual3})
            add_int8<avx2_arch>(row_of(s, "packed", m, 1), scaling);
        }
    }
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, add_rows); }

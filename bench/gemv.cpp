// bench/gemv.cpp -- one token: what of the machine's reading speed is left when weights are decoded and multiplied.
// SPDX-License-Identifier: Apache-2.0
//
// hot: one matrix again and again, in the second- or third-level cache. cold: 512 MiB of matrices in turn. GB/s is 17
// bytes per 32 weights. `sgemv` reads dense f32 weights.
#include "dense.hpp"
#include "products.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::bench;

void add_rows() {
  const auto row_of = [](const shape& s, const char* weights, bool cold, int threads) {
    return row{"gemv", "", "", weights, s.n, s.k, 1, cold ? "cold" : "hot", "", threads};
  };
  for (const shape& s : layer_shapes())
    for (const bool cold : {false, true}) {
      for (const int threads : {1, 2}) {
        for (const char* weights : {"packed", "view"}) {
          for (const auto scaling : {int8_scaling::e8m0, int8_scaling::residual2, int8_scaling::residual3})
            add_int8<simd::native_arch>(row_of(s, weights, cold, threads), scaling);
          add_f32<simd::native_arch>(row_of(s, weights, cold, threads));
        }
        add_dense(s, 1, cold, threads);
      }
      if constexpr (!std::is_void_v<avx2_arch>)
        for (const char* weights : {"packed", "view"}) {
          add_f32<avx2_arch>(row_of(s, weights, cold, 1));
          for (const auto scaling : {int8_scaling::e8m0, int8_scaling::residual2, int8_scaling::residual3})
            add_int8<avx2_arch>(row_of(s, weights, cold, 1), scaling);
        }
    }
  if (!chosen.smoke)  // in the second-level cache
    add_int8<simd::native_arch>(row_of({1024, 1024}, "packed", false, 1), int8_scaling::e8m0);
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, add_rows); }

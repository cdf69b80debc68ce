// src/model/loops_avx2.cpp -- loops.hpp compiled for AVX2 (tools/CMakeLists.txt); for others nothing is compiled here.
// SPDX-License-Identifier: Apache-2.0
#if defined(MXFP4_MODEL_AVX2)

#include "model/loops.hpp"
#include "model/loops_text.hpp"
#include "mxfp4/kernel/moe.hpp"

namespace mxfp4::model {

namespace {

void activate_avx2(float* gate, const float* up, std::int64_t count, const moe_options& options) {
  const std::int64_t whole = count / 16 * 16;
  kernel::activate<simd::native_arch>(gate, up, whole, options);
  float g[16] = {}, u[16] = {};
  if (whole == count) return;
  const auto bytes = static_cast<std::size_t>(count - whole) * sizeof(float);
  __builtin_memcpy(g, gate + whole, bytes);
  __builtin_memcpy(u, up + whole, bytes);
  kernel::activate<simd::native_arch>(g, u, 16, options);
  __builtin_memcpy(gate + whole, g, bytes);
}

}  // namespace

const loop_table loops_avx2 = {
    panel_product<8, 12, 8, 4, 1>, tile_product<8, 12>, 12,         few_panels<8, std::uint32_t>,
    few_panels<8, float>,          widen_panel<8>,      softmax<8>, activate_avx2};

}  // namespace mxfp4::model

#endif

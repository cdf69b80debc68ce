// tests/cuda/fragments.support.cuh -- a warp, or four, try every intrinsic that the emulator takes from a document.
// SPDX-License-Identifier: Apache-2.0
//
// gpu_test --capture writes what hardware gives; emulator.tensor_core.test.cpp asks the emulator for the same. The
// numbers are small integers where sums are rounded, and any bits elsewhere.
#pragma once

#include <cstdint>
#include <vector>

#include "mxfp4/cuda/device/launch.cuh"
#include "support/random.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::test {

inline constexpr int fragment_inputs = 32;   ///< words of a lane
inline constexpr int fragment_outputs = 48;  ///< likewise; zeros where the target lacks the instruction

/// Words 0-3 a, 4-5 b as pairs of bf16, 6-11 as pairs of f16, 12-17 as e4m3, 18-21 as e2m1 containers, 22-23 scales,
/// the rest any bits; all without NaN.
inline std::vector<std::uint32_t> fragment_input() {
  mxfp4::test::splitmix random(2026);
  const auto integer = [&](int bits, auto encode) {
    std::uint32_t word = 0;
    for (int at = 0; at < 32; at += bits) word |= static_cast<std::uint32_t>(encode(random.in(-6, 6))) << at;
    return word;
  };
  std::vector<std::uint32_t> in;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < fragment_inputs; ++i) {
      if (i < 6) in.push_back(integer(16, [](int v) { return encode_bf16(static_cast<float>(v)); }));
      else if (i < 12) in.push_back(integer(16, [](int v) { return encode_f16(static_cast<float>(v)); }));
      else if (i < 18) in.push_back(integer(8, [](int v) { return encode_e4m3(static_cast<float>(v)); }));
      else if (i < 22) in.push_back(random.bits() & 0x3C3C3C3Cu);
      else if (i < 24) in.push_back(0x7F7F7F7Fu + (random.bits() & 0x03030303u));
      else in.push_back(random.bits() & 0xBFFFBFFFu);
    }
  return in;
}

template <class Target>
struct capture_fragments {
  static constexpr int threads = 32;
  static constexpr int blocks_per_processor = 1;
  static constexpr int shared_bytes = 512;
  struct arguments {
    const std::uint32_t* in;  ///< [lane][fragment_inputs]
    std::uint32_t* out;       ///< [lane][fragment_outputs]
  };
  static MXFP4_DEVICE void run(const arguments& arguments) {
    using namespace device;
    std::uint32_t in[fragment_inputs], out[fragment_outputs]{};
    MXFP4_UNROLL
    for (int i = 0; i < fragment_inputs; ++i) in[i] = load(arguments.in + lane_index() * fragment_inputs + i);
    const auto keep = [&out](int at, const float(&d)[4]) {
      for (int i = 0; i < 4; ++i) out[at + i] = mxfp4::detail::float_bits(d[i]);
    };
    float bf16_sum[4] = {1, 2, 3, 4}, f16_sum[4] = {1, 2, 3, 4}, e4m3_sum[4] = {1, 2, 3, 4},
          scaled_sum[4] = {1, 2, 3, 4};
    mma_bf16(bf16_sum, {in[0], in[1], in[2], in[3]}, {in[4], in[5]});
    keep(0, bf16_sum);
    mma_f16(f16_sum, {in[6], in[7], in[8], in[9]}, {in[10], in[11]});
    keep(4, f16_sum);
    if constexpr (Target::e4m3_mma) {
      mma_e4m3(e4m3_sum, {in[12], in[13], in[14], in[15]}, {in[16], in[17]});
      keep(8, e4m3_sum);
    }
    if constexpr (Target::block_scaled_mma) {
      mma_e2m1_e4m3<2, 1>(scaled_sum, {in[18], in[19], in[20], in[21]}, {in[16], in[17]}, in[22], in[23]);
      keep(12, scaled_sum);
    }

    auto* const shared = reinterpret_cast<std::uint32_t*>(shared_memory());
    for (int i = 0; i < 4; ++i) store_shared(shared + 4 * lane_index() + i, in[24 + i]);
    warp_barrier();
    std::uint32_t four[4], two[2];
    ldmatrix_x4(four, shared + 4 * lane_index());
    for (int i = 0; i < 4; ++i) out[16 + i] = four[i];
    ldmatrix_x4_trans(four, shared + 4 * lane_index());
    for (int i = 0; i < 4; ++i) out[20 + i] = four[i];
    ldmatrix_x2(two, shared + 4 * (lane_index() % 16));
    for (int i = 0; i < 2; ++i) out[24 + i] = two[i];

    out[26] = permute_bytes(in[28], in[29], in[30]);
    out[27] = multiply_bf16x2(in[28], 0x7E803F00u);  // any bf16 by 2^126 and by 0.5: overflow, subnormals
    out[28] = multiply_f16x2(in[29] & 0xBBFFBBFFu, 0x74003555u);
    float low = 0, high = 0;
    convert_f16x2_f32x2(in[30] & 0xBBFFBBFFu, low, high);
    out[29] = mxfp4::detail::float_bits(low);
    out[30] = mxfp4::detail::float_bits(high);
    out[31] = convert_f32x2_f16x2(mxfp4::detail::float_from_bits(in[31]), low * 1.0001f);
    if constexpr (Target::e2m1_convert) {
      convert_e2m1x8_f16(in[28], four);
      for (int i = 0; i < 4; ++i) out[32 + i] = four[i];
      const float x[8] = {0.25f, -0.75f, 1.25f, low, high, -0.0f, 5.0f, mxfp4::detail::float_from_bits(in[31])};
      out[36] = convert_f32x8_e2m1(x);
    }
    if constexpr (Target::e4m3_convert) {
      const float x[4] = {low, high, 0x1.8p-9f, mxfp4::detail::float_from_bits(in[31])};
      out[37] = convert_f32x4_e4m3(x);
    }
    const auto lane = static_cast<std::uint32_t>(lane_index());
    out[38] = shuffle_xor(lane, 5);
    out[39] = shuffle(lane, (lane_index() * 7) % 32);
    out[40] = shuffle_up(lane, 3);
    out[41] = ballot((in[28] & 1u) != 0);
    out[42] = warp_max(in[28]);
    out[43] = warp_add(in[28]);
    MXFP4_UNROLL
    for (int i = 0; i < fragment_outputs; ++i) store(arguments.out + lane_index() * fragment_outputs + i, out[i]);
  }
};

inline constexpr int wgmma_inputs = 56;   ///< words of a thread
inline constexpr int wgmma_outputs = 96;  ///< likewise

/// Words 0-3 a as pairs of bf16, 4-7 as pairs of f16, 8-39 b as pairs of bf16, 40-55 as pairs of f16.
inline std::vector<std::uint32_t> wgmma_input() {
  mxfp4::test::splitmix random(2027);
  std::vector<std::uint32_t> in;
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < wgmma_inputs; ++i) {
      const bool is_bf16 = i < 4 || (i >= 8 && i < 40);
      std::uint32_t word = 0;
      for (int half = 0; half < 2; ++half) {
        const auto v = static_cast<float>(random.in(-6, 6));
        word |= static_cast<std::uint32_t>(is_bf16 ? std::uint32_t(encode_bf16(v)) : std::uint32_t(encode_f16(v)))
                << (16 * half);
      }
      in.push_back(word);
    }
  return in;
}

/// One warp group: 64 x 16 x 128 of bf16, then 64 x 16 x 64 of f16, from the second and the last 16 columns of rows of
/// 128 bytes that hold b as it comes, swizzled or not.
template <class Target>
struct capture_wgmma {
  static constexpr bool compiled = Target::wgmma;
  static constexpr int threads = 128;
  static constexpr int blocks_per_processor = 1;
  static constexpr int shared_bytes = 24 * 1024;
  using arguments = typename capture_fragments<Target>::arguments;
  static MXFP4_DEVICE void run(const arguments& arguments) {
    using namespace device;
    const std::uint32_t* const in = arguments.in + thread_index() * wgmma_inputs;
    std::uint32_t* const out = arguments.out + thread_index() * wgmma_outputs;
    auto* const shared = reinterpret_cast<word4*>(shared_memory());
    for (int i = 0; i < 12; ++i) {  // 128 rows of bf16, then 64 rows of f16
      const int at = i < 8 ? thread_index() * 8 + i : 1024 + thread_index() * 4 + i - 8;
      store_shared(shared + at, load(reinterpret_cast<const word4*>(in + 8) + i));
    }
    async_proxy_fence();
    block_barrier();
    const shared_operand rows = shared_operand::at(shared_address(shared), operand_order::swizzled_128, 1024);
    std::uint32_t a[2][4];
    float wide[64], narrow[32];
    MXFP4_UNROLL
    for (int i = 0; i < 4; ++i) {
      a[0][i] = load(in + i);
      a[1][i] = load(in + 4 + i);
    }
    MXFP4_UNROLL
    for (int i = 0; i < 64; ++i) wide[i] = static_cast<float>(i);
    MXFP4_UNROLL
    for (int i = 0; i < 32; ++i) narrow[i] = 1e9f;
    wgmma_fence(a, wide, narrow);
    wgmma_bf16<true>(wide, a[0], rows.advanced(32));
    wgmma_f16<false>(narrow, a[1], rows.advanced(16 * 1024 + 96));
    wgmma_commit();
    wgmma_wait<0>(wide, narrow);
    MXFP4_UNROLL
    for (int i = 0; i < 64; ++i) store(out + i, mxfp4::detail::float_bits(wide[i]));
    MXFP4_UNROLL
    for (int i = 0; i < 32; ++i) store(out + 64 + i, mxfp4::detail::float_bits(narrow[i]));
  }
};

}  // namespace mxfp4::cuda::test

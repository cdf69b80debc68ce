// tests/support/peers.hpp -- which recipe answers to which recorded peer, and where a peer's own answer is not defined.
// SPDX-License-Identifier: Apache-2.0
//
// Everything here is done on bits, so that flags.body.cpp can use it under any floating-point option.
#pragma once

#include <cstdint>
#include <cstring>
#include <ostream>
#include <type_traits>

#include "mxfp4/format/block.hpp"

namespace mxfp4::test {

/// What is looked at in a block to decide whether the peer's result is stable.
struct block_facts {
  int nans = 0;
  int infinities = 0;
  std::uint32_t amax = 0;  ///< f32 bits, NaN left out; 0 for f16 inputs, whose peers need none
  std::uint8_t peer_scale = 0;
  bool valid = true;  ///< the recording says that all 32 codes are real
};

/// Which part of a recorded block has to be matched.
struct stable_part {
  bool scale, codes;
};
using stability = stable_part (*)(const block_facts&);

inline stable_part stable_everywhere(const block_facts&) { return {true, true}; }
/// Results for NaN and infinity go through undefined integer conversions.
inline stable_part stable_if_finite(const block_facts& f) {
  const bool finite = f.nans == 0 && f.infinities == 0;
  return {finite, finite};
}
/// torchao writes garbage codes under its NaN scale.
inline stable_part stable_codes_unless_nan_scale(const block_facts& f) { return {true, f.peer_scale != 255}; }
/// ggml converts a negative float to an unsigned char for amax in (0, 2^-125).
inline stable_part stable_scale_if_not_tiny(const block_facts& f) {
  return {f.amax == 0 || f.amax >= 0x01000000u, true};
}
/// microxcaling: the recording marks blocks whose elements are no FP4 values.
inline stable_part stable_codes_if_valid(const block_facts& f) { return {true, f.valid}; }
/// MLX: the maximum of a block with some NaN depends on the order of the reduction.
inline stable_part stable_unless_several_nans(const block_facts& f) {
  const bool stable = f.nans <= 1 || f.nans == block_size;
  return {stable, stable};
}

/// MLX on the CPU: a negative float becomes an unsigned char from `Zero` on, where amax / 6 is no longer zero, to
/// `Last`; NaN and infinity do too.
template <std::uint32_t Zero, std::uint32_t Last>
stable_part stable_if_finite_and_not_tiny(const block_facts& f) {
  const bool stable = f.nans == 0 && f.infinities == 0 && (f.amax < Zero || f.amax > Last);
  return {stable, stable};
}
/// nncf: a block with NaN depends on the order of its reduction, and the byte just above 1.5 * 2^k on the processor.
inline stable_part stable_without_nan_and_above_six(const block_facts& f) {
  const std::uint32_t mantissa = f.amax & 0x7FFFFFu;
  const bool stable = f.nans == 0 && (mantissa <= 0x400000u || mantissa > 0x400060u);
  return {stable, stable};
}
/// Quark makes code 6 of an infinite weight, AutoRound 0: from 1.75 * 2^127 on, and within 44 ulps of 2^128.
template <std::uint32_t End>
stable_part stable_codes_below(const block_facts& f) {
  const bool finite = f.nans == 0 && f.infinities == 0;
  return {finite, finite && f.amax < End};
}

/// How many blocks of a set are compared, and how many were wrong.
struct comparison {
  int scales = 0, codes = 0;  ///< compared
  int wrong_scales = 0, wrong_codes = 0;
  int first_wrong = -1;  ///< block index

  friend bool operator==(const comparison&, const comparison&) = default;
  friend std::ostream& operator<<(std::ostream& out, const comparison& c) {
    return out << c.scales << " scales compared, " << c.wrong_scales << " wrong; codes of " << c.codes
               << " blocks compared, " << c.wrong_codes << " wrong; the first wrong block is " << c.first_wrong;
  }
};

template <class T>
block_facts facts_of(const std::uint8_t* input) {
  block_facts facts;
  for (int i = 0; i < block_size; ++i) {
    std::uint32_t magnitude = 0, infinity = 0x7F800000u;
    if constexpr (std::is_same_v<T, float>) {
      std::memcpy(&magnitude, input + 4 * i, 4);
      magnitude &= 0x7FFFFFFFu;
    } else {
      std::uint16_t half = 0;
      std::memcpy(&half, input + 2 * i, 2);
      magnitude = half & 0x7FFFu;
      if (std::is_same_v<T, bf16>) magnitude <<= 16;
      else infinity = 0x7C00u;
    }
    facts.nans += magnitude > infinity ? 1 : 0;
    facts.infinities += magnitude == infinity ? 1 : 0;
    if (!std::is_same_v<T, f16> && magnitude <= infinity && magnitude > facts.amax) facts.amax = magnitude;
  }
  return facts;
}

/// One set of recorded blocks; `valid` may be null.
struct recorded {
  const std::uint8_t* input;
  const std::uint8_t* scale;
  const std::uint8_t* packed;
  const std::uint8_t* valid;
  int blocks;
};

template <class Recipe, class T>
comparison compare(const recorded& set, stability stable) {
  comparison result;
  for (int b = 0; b < set.blocks; ++b) {
    const std::uint8_t* input = set.input + b * block_size * static_cast<int>(sizeof(T));
    T x[block_size];
    std::memcpy(x, input, sizeof x);
    const block ours = encode_block<Recipe>(x);

    block_facts facts = facts_of<T>(input);
    facts.peer_scale = set.scale[b];
    facts.valid = set.valid == nullptr || set.valid[b] != 0;
    const stable_part part = stable(facts);
    const bool wrong_scale = part.scale && static_cast<std::uint8_t>(ours.scale) != set.scale[b];
    const bool wrong_codes =
        part.codes && std::memcmp(ours.codes, set.packed + b * block_code_bytes, block_code_bytes) != 0;
    result.scales += part.scale ? 1 : 0;
    result.codes += part.codes ? 1 : 0;
    result.wrong_scales += wrong_scale ? 1 : 0;
    result.wrong_codes += wrong_codes ? 1 : 0;
    if (result.first_wrong < 0 && (wrong_scale || wrong_codes)) result.first_wrong = b;
  }
  return result;
}

/// A recording: its file name, the type of its input, our recipe, and how many blocks are compared in each set.
struct peer {
  const char* name;
  const char* input;
  comparison (*run)(const recorded&, stability);
  stability stable;
  bool has_valid;
  int dev_scales, dev_codes, examples_scales, examples_codes;
};

inline constexpr int dev_blocks = 2014;
inline constexpr int examples_blocks = 35;

// clang-format off
inline constexpr peer peers[] = {
    {"compressed_tensors_cpu_f32", "f32", compare<recipe::compressed_tensors, float>, stable_if_finite, false, 1918, 1918, 32, 32},
    {"compressed_tensors_cpu_bf16", "bf16", compare<recipe::compressed_tensors, bf16>, stable_if_finite, false, 1912, 1912, 31, 31},
    {"compressed_tensors_cpu_f16", "f16", compare<recipe::compressed_tensors, f16>, stable_if_finite, false, 1258, 1258, 28, 28},
    {"torchao_floor_f32", "f32", compare<recipe::torchao_floor, float>, stable_codes_unless_nan_scale, false, 2014, 1918, 35, 32},
    {"torchao_floor_bf16", "bf16", compare<recipe::torchao_floor, bf16>, stable_codes_unless_nan_scale, false, 2014, 1912, 35, 31},
    {"torchao_ceil_f32", "f32", compare<recipe::torchao_ceil, float>, stable_codes_unless_nan_scale, false, 2014, 1918, 35, 32},
    {"torchao_even_f32", "f32", compare<recipe::torchao_even, float>, stable_codes_unless_nan_scale, false, 2014, 1894, 35, 30},
    {"torchao_even_bf16", "bf16", compare<recipe::torchao_even, bf16>, stable_codes_unless_nan_scale, false, 2014, 1894, 35, 30},
    {"torchao_rceil_f32", "f32", compare<recipe::torchao_rceil, float>, stable_codes_unless_nan_scale, false, 2014, 1918, 35, 32},
    {"torchao_rceil_bf16", "bf16", compare<recipe::torchao_rceil, bf16>, stable_codes_unless_nan_scale, false, 2014, 1912, 35, 31},
    {"microxcaling_cpp_nearest", "f32", compare<recipe::microxcaling_nearest, float>, stable_codes_if_valid, true, 2014, 1918, 35, 32},
    {"microxcaling_cpp_even", "f32", compare<recipe::microxcaling_even, float>, stable_codes_if_valid, true, 2014, 1918, 35, 32},
    {"microxcaling_py_nearest", "f32", compare<recipe::microxcaling_py_nearest, float>, stable_codes_if_valid, true, 2014, 1918, 35, 32},
    {"microxcaling_py_even", "f32", compare<recipe::microxcaling_py_even, float>, stable_codes_if_valid, true, 2014, 1918, 35, 32},
    {"modelopt_f32", "f32", compare<recipe::modelopt, float>, stable_if_finite, false, 1918, 1918, 32, 32},
    {"modelopt_bf16", "bf16", compare<recipe::modelopt, bf16>, stable_if_finite, false, 1912, 1912, 31, 31},
    {"ggml_ref", "f32", compare<recipe::ggml, float>, stable_scale_if_not_tiny, false, 1958, 2014, 29, 35},
    {"ik_llama", "f32", compare<recipe::ggml, float>, stable_scale_if_not_tiny, false, 1958, 2014, 29, 35},
    {"mlx_metal_src", "f32", compare<recipe::mlx_metal_0_32_1, float>, stable_unless_several_nans, false, 1999, 1999, 35, 35},
    {"triton_kernels_round_up_f32", "f32", compare<recipe::triton_up, float>, stable_everywhere, false, 2014, 2014, 35, 35},
    {"triton_kernels_round_up_bf16", "bf16", compare<recipe::triton_up, bf16>, stable_everywhere, false, 2014, 2014, 35, 35},
    {"triton_kernels_round_down_f32", "f32", compare<recipe::triton_down, float>, stable_everywhere, false, 2014, 2014, 35, 35},
    {"triton_kernels_legacy_ties_away_round_up_f32", "f32", compare<recipe::triton_legacy, float>, stable_everywhere, false, 2014, 2014, 35, 35},
    {"cuda_host_rceil_mulrcp6_nosat", "f32", compare<recipe::cuda_rceil, float>, stable_everywhere, false, 2014, 2014, 35, 35},
    {"cuda_host_rceil_div6_satfinite", "f32", compare<recipe::cuda_rceil_satfinite, float>, stable_everywhere, false, 2014, 2014, 35, 35},
};

/// The same on the set `selected`, by newer releases: the last two columns are not used.
inline constexpr peer selected_peers[] = {
    {"mlx_f32", "f32", compare<recipe::mlx, float>, stable_if_finite_and_not_tiny<4, 0x00C00000u>, false, 224, 224, 0, 0},
    {"mlx_bf16", "bf16", compare<recipe::mlx, bf16>, stable_if_finite_and_not_tiny<0x40000u, 0x00C30000u>, false, 224, 224, 0, 0},
    {"mlx_f16", "f16", compare<recipe::mlx, f16>, stable_if_finite, false, 149, 149, 0, 0},
    {"mlx_0_32_1_f32", "f32", compare<recipe::mlx_0_32_1, float>, stable_if_finite_and_not_tiny<4, 0x0107C500u>, false, 224, 224, 0, 0},
    {"mlx_metal_f32", "f32", compare<recipe::mlx_metal, float>, stable_unless_several_nans, false, 255, 255, 0, 0},
    {"quark_f32", "f32", compare<recipe::quark, float>, stable_codes_below<0x7F600000u>, false, 234, 228, 0, 0},
    {"quark_bf16", "bf16", compare<recipe::quark, bf16>, stable_codes_below<0x7F600000u>, false, 232, 228, 0, 0},
    {"quark_f16", "f16", compare<recipe::quark, f16>, stable_if_finite, false, 149, 149, 0, 0},
    {"auto_round_f32", "f32", compare<recipe::auto_round, float>, stable_codes_below<0x7F7FFFD4u>, false, 234, 232, 0, 0},
    {"auto_round_bf16", "bf16", compare<recipe::auto_round, bf16>, stable_codes_below<0x7F7FFFD4u>, false, 232, 232, 0, 0},
    {"auto_round_f16", "f16", compare<recipe::auto_round, f16>, stable_if_finite, false, 149, 149, 0, 0},
    {"nncf_f32", "f32", compare<recipe::nncf, float>, stable_without_nan_and_above_six, false, 245, 245, 0, 0},
};
// clang-format on

inline constexpr int selected_blocks = 256;

}  // namespace mxfp4::test

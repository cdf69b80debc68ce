// tools/mxfp4/recipe_notes.hpp -- what `mxfp4 recipes` says of each recipe; format/recipe.hpp says more.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "mxfp4/recipe.hpp"

namespace mxfp4::tools {

/// s is the block's scale, amax its largest magnitude, floor(x) = 2^floor(log2 x), ceil(x) = 2^ceil(log2 x).
struct recipe_note {
  recipe_id id;
  const char* peer;
  const char* version;    ///< release or commit of the peer whose bytes were recorded
  const char* recorded;   ///< the day, or that by which it had been done: tests/vectors/README.md says how
  const char* scale;      ///< formula of s
  const char* ties;       ///< which way a midpoint between two codes goes
  const char* zero;       ///< what sign a zero gets
  const char* nonfinite;  ///< a block with NaN or infinity
  const char* losses;     ///< finite weights that come out worse than rounding explains
};

inline constexpr const char* nan_block_note = "the block is NaN: byte 255, codes 0";
inline constexpr const char* recorded_first = "by 2026-11-23";
inline constexpr const char* recorded_now = "2026-11-28";
inline constexpr const char* floor_note = "amax in (6s, 8s) saturates to 6s";

inline constexpr std::array<recipe_note, recipe_count> recipe_notes = {{
    {recipe_id::ocp, "OCP MX v1.0, section 6.3; this library's default", "v1.0; its bytes are those of torchao_floor",
     recorded_first, "floor(amax) / 4", "to even", "kept", nan_block_note, floor_note},
    {recipe_id::compressed_tensors, "compressed-tensors on the CPU (llm-compressor, vLLM), in the type of the input",
     "ac8e2ba8, after 0.18.0; 0.20.0 the same", recorded_first,
     "floor(amax, rounded up to a power of two from 1.75 * 2^k on) / 4", "to even",
     "-0 is +0; what rounds to zero keeps its sign unless x / s underflows", nan_block_note,
     "amax in (6s, 7s) saturates to 6s; blocks with amax >= 1.75 * 2^127 (f16: >= 57344, and < 1.5 * 2^-15) become "
     "zeros"},
    {recipe_id::torchao_floor, "torchao FLOOR",
     "36027d82; 0.18.0 halves blocks under byte 0, and makes 253 of infinity", recorded_first, "floor(amax) / 4",
     "to even", "kept", nan_block_note, floor_note},
    {recipe_id::torchao_ceil, "torchao CEIL", "36027d82; 0.18.0 halves blocks under byte 0, and makes 253 of infinity",
     recorded_first, "ceil(amax) / 4", "to even", "kept", nan_block_note, "none"},
    {recipe_id::torchao_even, "torchao EVEN",
     "36027d82; 0.18.0 halves blocks under byte 0, and makes 253 of infinity and of amax >= 1.75 * 2^127",
     recorded_first, "floor(amax, rounded up to a power of two from 1.75 * 2^k on) / 4", "to even", "kept",
     nan_block_note, "amax in (6s, 7s) saturates to 6s; blocks with amax >= 1.75 * 2^127 become NaN"},
    {recipe_id::torchao_rceil, "torchao RCEIL, CUTLASS",
     "36027d82; 0.18.0 takes log2 in float (as modelopt does), makes zeros of blocks under byte 0, and 254 of infinity",
     recorded_first, "ceil(amax / 6)", "to even", "kept", nan_block_note, "none"},
    {recipe_id::microxcaling_nearest, "microxcaling in C++ and CUDA, round=nearest", "7bc41952", recorded_first,
     "floor(amax) / 4", "away from zero", "always +0", nan_block_note, floor_note},
    {recipe_id::microxcaling_even, "microxcaling in C++ and CUDA, round=even", "7bc41952", recorded_first,
     "floor(amax) / 4", "to even", "always +0", nan_block_note, floor_note},
    {recipe_id::microxcaling_py_nearest, "microxcaling in Python, round=nearest", "7bc41952", recorded_first,
     "floor(amax) / 4, up to 44 ulps below a power of two count as it", "away from zero",
     "-0 is +0; what rounds to zero keeps its sign unless x / s underflows", nan_block_note,
     "amax in (6s, 8s) saturates to 6s; x = s * (0.25 - 2^-26) becomes 0.5s"},
    {recipe_id::microxcaling_py_even, "microxcaling in Python, round=even", "7bc41952", recorded_first,
     "floor(amax) / 4, up to 44 ulps below a power of two count as it", "to even",
     "-0 is +0; what rounds to zero keeps its sign unless x / s underflows", nan_block_note,
     "amax in (6s, 8s) saturates to 6s; x = s * (0.25 - 2^-26) becomes 0.5s, while 0.25s becomes 0"},
    {recipe_id::modelopt, "ModelOpt MXFP4QTensor", "a2fbac7b", recorded_first,
     "ceil(amax / 6), up to 33 ulps above 1.5 * 2^k count as it", "toward zero", "+0 and -0 are -0", nan_block_note,
     "none"},
    {recipe_id::ggml, "ggml (llama.cpp) and ik_llama, reference quantiser", "ggml d99724f2, ik_llama.cpp 8337e4cd",
     recorded_first, "floor(amax) / 4, up to 44 ulps below a power of two count as it", "toward zero", "always +0",
     "NaN becomes 0; a block with an infinity becomes zeros, byte 0",
     "amax in (6s, 8s) saturates to 6s; a block with amax < 2^-125 becomes zeros; within 44 ulps of 2^128 the largest "
     "codes are avoided"},
    {recipe_id::mlx, "MLX on the CPU, in the type of the input", "0.32.2", recorded_now,
     "ceil(amax / 6); a block of zeros has byte 127", "toward zero", "always +0", nan_block_note,
     "none; its own byte for amax <= 1.5 * 2^-126 wraps to one near 255, here it is 0"},
    {recipe_id::triton_up, "triton_kernels (gpt-oss) ROUND_UP", "018a674f", recorded_first,
     "ceil(amax / 6), at least 2^-126", "to even", "kept",
     "a NaN is 6s under byte 0, infinity makes byte 255; finite values become zeros",
     "a block with amax < 2^-147 becomes zeros"},
    {recipe_id::triton_down, "triton_kernels ROUND_DOWN", "018a674f", recorded_first, "floor(amax) / 4", "to even",
     "kept", "byte 255; finite values become zeros",
     "amax in (6s, 8s) saturates to 6s; a block with amax < 2^-124 becomes zeros"},
    {recipe_id::triton_legacy, "older triton_kernels, as vendored by Quark: ROUND_UP", "as vendored by Quark 1d27b558",
     recorded_first, "ceil(amax / 6), at least 2^-126", "away from zero", "kept",
     "a NaN is 6s under byte 0, infinity makes byte 255; finite values become zeros",
     "a block with amax < 2^-147 becomes zeros"},
    {recipe_id::cuda_rceil, "CUDA's cvt.rp(amax * fl(1/6)) and cvt.rn(x / s)", "13.0", recorded_first, "ceil(amax / 6)",
     "to even", "kept", "byte 255, codes 7", "none"},
    {recipe_id::cuda_rceil_satfinite, "CUDA's cvt.rp.satfinite(amax / 6) and cvt.rn(x / s)", "13.0", recorded_first,
     "ceil(amax / 6)", "to even", "kept", "a NaN makes byte 255, codes 7; an infinity is 6s under byte 254", "none"},
    {recipe_id::min_mse, "none: the least squared error", "none", "none",
     "the best of floor(amax) / 8, / 4 and / 2; the larger in a tie", "to even", "kept", nan_block_note,
     "none: never a larger error of a block than any other recipe"},
    {recipe_id::mlx_0_32_1, "MLX on the CPU, float; bf16 and f16 are taken for float", "0.32.1", recorded_now,
     "2^round(log2(amax / 6)), ties to an even exponent; a block of zeros has byte 127", "toward zero", "always +0",
     nan_block_note, "amax in (6s, 8.49s) saturates to 6s; in bf16 and f16 its own byte may differ near 8.49s"},
    {recipe_id::mlx_metal, "MLX, Metal kernels", "0.32.2", recorded_now, "ceil(amax / 6)", "to even", "kept",
     "NaN becomes 6s; with an infinity the byte is 255", "none"},
    {recipe_id::mlx_metal_0_32_1, "MLX, Metal kernels", "846d1762; 0.32.1 has the same source", recorded_first,
     "2^round(log2(amax / 6))", "to even", "kept", "NaN becomes 6s; with an infinity the byte is 255",
     "amax in (6s, 8.49s) saturates to 6s"},
    {recipe_id::quark, "AMD Quark, OCP_MXFP4Spec", "0.13", recorded_now,
     "floor(amax, rounded up to a power of two from 1.75 * 2^k on) / 4; byte 1 at least, 254 from 1.75 * 2^127 on",
     "to even", "always +0", nan_block_note,
     "amax in (6s, 7s) saturates to 6s; a block with amax < 1.75 * 2^-125 is read back as twice itself; with amax >= "
     "1.75 * 2^127 as infinity"},
    {recipe_id::auto_round, "AutoRound, to nearest, without its search of the scale", "0.16.1", recorded_now,
     "floor(amax) / 4, up to 44 ulps below a power of two count as it; a block of zeros has byte 126", "to even",
     "-0 is +0; what rounds to zero keeps its sign unless x / s underflows", nan_block_note,
     "amax in (6s, 8s) saturates to 6s; x = s * (0.25 - 2^-26) becomes 0.5s, while 0.25s becomes 0"},
    {recipe_id::nncf, "nncf compress_weights on OpenVINO, tensors of 10000 weights and more",
     "nncf 3.4.0, openvino 2026.4.1", recorded_now, "ceil(max(amax, 2^-23) / 6)", "to even", "kept",
     "a NaN makes byte 255, codes 7; an infinity is 6s under byte 254",
     "no byte is below 102: a block with amax < 2^-23 loses bits, below 2^-27 all; its own byte within 96 ulps above "
     "1.5 * 2^k depends on the processor"},
}};

}  // namespace mxfp4::tools
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
  const char* scale;      ///< formula of s
  const char* ties;       ///< which way a midpoint between two codes goes
  const char* zero;       ///< what sign a zero gets
  const char* nonfinite;  ///< a block with NaN or infinity
  const char* losses;     ///< finite weights that come out worse than rounding explains
};

inline constexpr const char* nan_block_note = "the block is NaN: byte 255, codes 0";
inline constexpr const char* floor_note = "amax in (6s, 8s) saturates to 6s";

inline constexpr std::array<recipe_note, recipe_count> recipe_notes = {{
    {recipe_id::ocp, "OCP MX v1.0, section 6.3; this library's default", "floor(amax) / 4", "to even", "kept",
     nan_block_note, floor_note},
    {recipe_id::compressed_tensors, "compressed-tensors on the CPU (llm-compressor, vLLM), in the type of the input",
     "floor(amax, rounded up to a power of two from 1.75 * 2^k on) / 4", "to even",
     "-0 is +0; what rounds to zero keeps its sign unless x / s underflows", nan_block_note,
     "amax in (6s, 7s) saturates to 6s; blocks with amax >= 1.75 * 2^127 (f16: >= 57344, and < 1.5 * 2^-15) become "
     "zeros"},
    {recipe_id::torchao_floor, "torchao FLOOR", "floor(amax) / 4", "to even", "kept", nan_block_note, floor_note},
    {recipe_id::torchao_ceil, "torchao CEIL", "ceil(amax) / 4", "to even", "kept", nan_block_note, "none"},
    {recipe_id::torchao_even, "torchao EVEN, Quark", "floor(amax, rounded up to a power of two from 1.75 * 2^k on) / 4",
     "to even", "kept", nan_block_note,
     "amax in (6s, 7s) saturates to 6s; blocks with amax >= 1.75 * 2^127 become NaN"},
    {recipe_id::torchao_rceil, "torchao RCEIL, CUTLASS", "ceil(amax / 6)", "to even", "kept", nan_block_note, "none"},
    {recipe_id::microxcaling_nearest, "microxcaling in C++ and CUDA, round=nearest", "floor(amax) / 4",
     "away from zero", "always +0", nan_block_note, floor_note},
    {recipe_id::microxcaling_even, "microxcaling in C++ and CUDA, round=even", "floor(amax) / 4", "to even",
     "always +0", nan_block_note, floor_note},
    {recipe_id::microxcaling_py_nearest, "microxcaling in Python, round=nearest",
     "floor(amax) / 4, up to 44 ulps below a power of two count as it", "away from zero",
     "-0 is +0; what rounds to zero keeps its sign unless x / s underflows", nan_block_note,
     "amax in (6s, 8s) saturates to 6s; x = s * (0.25 - 2^-26) becomes 0.5s"},
    {recipe_id::microxcaling_py_even, "microxcaling in Python, round=even",
     "floor(amax) / 4, up to 44 ulps below a power of two count as it", "to even",
     "-0 is +0; what rounds to zero keeps its sign unless x / s underflows", nan_block_note,
     "amax in (6s, 8s) saturates to 6s; x = s * (0.25 - 2^-26) becomes 0.5s, while 0.25s becomes 0"},
    {recipe_id::modelopt, "ModelOpt MXFP4QTensor", "ceil(amax / 6), up to 33 ulps above 1.5 * 2^k count as it",
     "toward zero", "+0 and -0 are -0", nan_block_note, "none"},
    {recipe_id::ggml, "ggml (llama.cpp) and ik_llama, reference quantiser",
     "floor(amax) / 4, up to 44 ulps below a power of two count as it", "toward zero", "always +0",
     "NaN becomes 0; a block with an infinity becomes zeros, byte 0",
     "amax in (6s, 8s) saturates to 6s; a block with amax < 2^-125 becomes zeros; within 44 ulps of 2^128 the largest "
     "codes are avoided"},
    {recipe_id::mlx, "MLX, Metal kernels", "2^round(log2(amax / 6))", "to even", "kept",
     "NaN becomes 6s; with an infinity the byte is 255", "amax in (6s, 8.49s) saturates to 6s"},
    {recipe_id::triton_up, "triton_kernels (gpt-oss) ROUND_UP", "ceil(amax / 6), at least 2^-126", "to even", "kept",
     "a NaN is 6s under byte 0, infinity makes byte 255; finite values become zeros",
     "a block with amax < 2^-147 becomes zeros"},
    {recipe_id::triton_down, "triton_kernels ROUND_DOWN", "floor(amax) / 4", "to even", "kept",
     "byte 255; finite values become zeros",
     "amax in (6s, 8s) saturates to 6s; a block with amax < 2^-124 becomes zeros"},
    {recipe_id::triton_legacy, "older triton_kernels, as vendored by Quark: ROUND_UP",
     "ceil(amax / 6), at least 2^-126", "away from zero", "kept",
     "a NaN is 6s under byte 0, infinity makes byte 255; finite values become zeros",
     "a block with amax < 2^-147 becomes zeros"},
    {recipe_id::cuda_rceil, "CUDA's cvt.rp(amax * fl(1/6)) and cvt.rn(x / s)", "ceil(amax / 6)", "to even", "kept",
     "byte 255, codes 7", "none"},
    {recipe_id::cuda_rceil_satfinite, "CUDA's cvt.rp.satfinite(amax / 6) and cvt.rn(x / s)", "ceil(amax / 6)",
     "to even", "kept", "a NaN makes byte 255, codes 7; an infinity is 6s under byte 254", "none"},
    {recipe_id::min_mse, "none: the least squared error",
     "the best of floor(amax) / 8, / 4 and / 2; the larger in a tie", "to even", "kept", nan_block_note,
     "none: never a larger error of a block than any recipe above"},
}};

}  // namespace mxfp4::tools

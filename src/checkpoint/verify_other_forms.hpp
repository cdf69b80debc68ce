// src/checkpoint/verify_other_forms.hpp -- is the quantization_config of another program true of what is stored?
// SPDX-License-Identifier: Apache-2.0
//
//   quant_method       stored as                                        what is looked at
//   fp8                FP8 in blocks (convert --to block-fp8), or       weight_block_size; modules_to_not_convert
//                      FP8 and MXFP4 of DeepSeek-V4                     names what is not FP8 alone; expert_dtype
//   quark              MXFP4 of Quark                                   dtype, group_size, scale_format; exclude
//   auto-round         MXFP4 of compressed-tensors                      bits, group_size, data_type
//   modelopt           MXFP4 of ModelOpt                                quant_algo
//
// Sources: transformers 5.24 (fp8), AMD Quark 0.13, AutoRound 0.16, ModelOpt 0.47 as they write their configs.
#pragma once

#include "checkpoint/verification.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// Does quantization_config name one of these programs?
[[nodiscard]] bool is_of_another_program(const verification& v);

void check_other_config(verification& v);

}  // namespace mxfp4::checkpoint

// mxfp4/checkpoint/stored_tensor.hpp -- the tensors of a checkpoint as a reader means them: parts put together again.
// SPDX-License-Identifier: Apache-2.0
//
//   storage    parts                                                                     one tensor X [.., rows, cols]
//   mxfp4      X_packed U8 [.., rows, cols / 2], X_scale U8 [.., rows, cols / 32]        of compressed-tensors
//              X_blocks U8 [experts, rows, cols / 32, 16], X_scales U8 [.., cols / 32]   of gpt-oss
//              X U8 [.., rows, cols / 2], X_scale U8 [.., rows, cols / 32]               of Quark, ModelOpt
//              P.weight I8 [.., rows, cols / 2], P.scale F8_E8M0 [.., rows, cols / 32]   of DeepSeek-V4
//   fp8        X F8_E4M3, X_scale F32 [.., ceil(rows / 128), ceil(cols / 128)]           of compressed-tensors
//              X F8_E4M3, X_scale_inv F32, the same shape                                of DeepSeek-style checkpoints
//              and with scales of other types, for a tensor, a row, or other blocks
//   plain      X                                                                         anything else
//
// The parts may lie in different files. What has a part's name but does not fit is plain, with the reason.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/checkpoint/scale_grid.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// How a weight is stored: as it is, as codes and scales, or as FP8 with scales.
enum class storage : std::uint8_t { plain, mxfp4, fp8 };

/// Under which names and types the codes and scales of MXFP4 are stored. The bytes are the same in all but ggml's,
/// which holds both in one tensor of a GGUF file. compressed_tensors is AutoRound's too, quark is ModelOpt's.
enum class weight_form : std::uint8_t { compressed_tensors, gpt_oss, quark, deepseek_v4, ggml };

/// A weight, whatever it is made of.
struct stored_tensor {
  std::string name;                                    ///< X
  storage kind = storage::plain;                       ///< how it is stored
  std::vector<std::int64_t> shape;                     ///< of X: in weights, not in bytes
  const checkpoint_tensor* data = nullptr;             ///< codes, or the tensor itself
  const checkpoint_tensor* scale = nullptr;            ///< of mxfp4 and fp8
  std::string problem;                                 ///< why a part has no partner; empty where nothing is wrong
  weight_form form = weight_form::compressed_tensors;  ///< of mxfp4
  scale_grid fp8_grid = {};                            ///< of fp8

  [[nodiscard]] const char* type_name() const noexcept;  ///< "MXFP4", or that of the data
  /// With its scales.
  [[nodiscard]] std::uint64_t bytes() const noexcept;
  /// Weights: the product of the shape.
  [[nodiscard]] std::int64_t elements() const noexcept;
};

/// In the order of the checkpoint's tensors. Points into the reader.
[[nodiscard]] std::vector<stored_tensor> stored_tensors(const checkpoint_reader& checkpoint);

}  // namespace mxfp4::checkpoint

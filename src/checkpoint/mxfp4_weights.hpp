// src/checkpoint/mxfp4_weights.hpp -- the MXFP4 weights of a checkpoint, in whichever form, read by rows.
// SPDX-License-Identifier: Apache-2.0
//
//   form                tensors of the weight X [.., rows, cols]                                        found in
//   compressed_tensors  X_packed U8 [.., rows, cols / 2], X_scale U8 [.., rows, cols / 32]              safetensors
//   gpt_oss             X_blocks U8 [E, rows, cols / 32, 16], X_scales U8 [E, rows, cols / 32]          safetensors
//   quark               X U8 [.., rows, cols / 2], X_scale U8 [.., rows, cols / 32]                     safetensors
//   deepseek_v4         P.weight I8 [.., rows, cols / 2], P.scale F8_E8M0 [.., rows, cols / 32]         safetensors
//   ggml                X MXFP4 [.., rows, cols], blocks of 17 bytes                                    GGUF
//
// The bytes of all but the last are the same; those of ggml hold the same codes in another order. No form interprets a
// byte, so what passes from one to another and back is unchanged; but readers differ in what code 8 and scale byte 255
// mean (mxfp4/format/dialect.hpp): ggml reads -0 as +0 and byte 255 as 2^128. One block of ggml is not passed on: of
// weights below 2^-125 gguf's writer makes scale byte 255 over codes 0, which is zero to ggml and NaN to others. It
// becomes scale byte 0 over codes 0.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/fp8_tiles.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/checkpoint/stored_tensor.hpp"
#include "mxfp4/checkpoint/tensor_job.hpp"
#include "mxfp4/io/gguf_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

struct mxfp4_weight {
  std::string name;  ///< X
  weight_form form = weight_form::compressed_tensors;
  std::vector<std::int64_t> shape;             ///< [.., rows, cols], cols a multiple of 32
  read_function codes;                         ///< ggml: whole blocks
  read_function scales;                        ///< not in ggml
  std::shared_ptr<std::int64_t> cleaned = {};  ///< ggml: counts the zero blocks with scale byte 255 that were read

  [[nodiscard]] std::int64_t cols() const noexcept { return shape.back(); }
  [[nodiscard]] std::int64_t rows() const noexcept;  ///< of all matrices in the stack
};

/// A tensor that is not part of such a weight.
struct plain_tensor {
  io::tensor_info info;
  read_function read;
};

struct narrow_count;  // narrow_weights.hpp

struct weight_list {
  std::vector<mxfp4_weight> weights;
  std::vector<plain_tensor> others;
  std::shared_ptr<std::int64_t> cleaned = std::make_shared<std::int64_t>(0);  ///< that of all weights
};

/// In the order of the checkpoint. The list reads through the reader, which must outlive it.
/// @throws file_error for a *_packed or *_blocks of which the scales are missing or do not fit.
[[nodiscard]] weight_list find_weights(const checkpoint_reader& checkpoint);
/// @param narrow  counts the tensors of Q8_0, which are BF16 in the list.
[[nodiscard]] weight_list find_weights(const io::gguf_reader& file, narrow_count& narrow);

/// Every step-th row of a weight: one matrix of a stack, or every other row of it.
class weight_rows {
 public:
  weight_rows() = default;
  /// @param weight  must outlive this.
  weight_rows(const mxfp4_weight& weight, std::int64_t first, std::int64_t step, std::int64_t rows)
      : weight_(&weight), first_(first), step_(step), rows_(rows) {}

  [[nodiscard]] static weight_rows all(const mxfp4_weight& weight) { return {weight, 0, 1, weight.rows()}; }

  [[nodiscard]] const mxfp4_weight& weight() const noexcept { return *weight_; }
  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return weight_->cols(); }

  /// Whole rows or a part of one: two weights in a code byte, the low nibble first, and a scale byte for 32 weights.
  void read(const fp8_tile& tile, std::vector<std::uint8_t>& codes, std::vector<std::uint8_t>& scales) const;

 private:
  const mxfp4_weight* weight_ = nullptr;
  std::int64_t first_ = 0, step_ = 1, rows_ = 0;
};

/// `count` rows of `row_bytes` bytes each, the first one at row `first` and the others `step` apart.
void read_rows(const read_function& read, std::int64_t row_bytes, std::int64_t first, std::int64_t step,
               std::int64_t count, std::span<std::byte> out);

}  // namespace mxfp4::checkpoint

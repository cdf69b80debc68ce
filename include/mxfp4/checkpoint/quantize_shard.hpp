// mxfp4/checkpoint/quantize_shard.hpp -- the tensors of one output file, from plan to bytes, by a pipeline.
// SPDX-License-Identifier: Apache-2.0
//
//   read, in order  -->  encode, in parallel  -->  append, in order      a few slabs of 1 MiB or less are under way
//
// Memory does not depend on the size of tensors, files or checkpoint, but for the block scales of one FP8 tensor, a
// 4096th of its size. The bytes do not depend on the number of threads, nor does the error, which is summed up in the
// order of the slabs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "mxfp4/checkpoint/code_source.hpp"
#include "mxfp4/checkpoint/plan.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/core/version.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/io/safetensors_writer.hpp"
#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/tensor/call_options.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What was lost in one matrix.
struct matrix_statistics {
  std::size_t tensor = 0;       ///< index in the plan
  std::int64_t matrix = -1;     ///< of a stack [matrices, rows, cols]; -1 for [rows, cols]
  error_statistics statistics;  ///< what was lost of it
  code_costs costs = {};        ///< where a code_source chose the codes
  /// Where it did: the hash of what the recipe alone would have made of the output tensor with the codes.
  std::string plain_codes = {};
  std::string plain_scales = {};  ///< and of the one with the scales
};

/// How quantize_shard is run.
struct shard_options {
  recipe_id recipe = recipe_id::compressed_tensors;  ///< whose bytes
  on_nonfinite nonfinite = on_nonfinite::refuse;     ///< what becomes of NaN and infinity in the weights
  int threads = 0;                                   ///< 0: as many as the machine has
  const code_source* codes = nullptr;                ///< prepared; of the weights that it has the recipe makes none
  /// After each slab, in order: bytes of the input that it took, and its error.
  std::function<void(std::uint64_t, const error_statistics&)> on_slab = [](std::uint64_t, const error_statistics&) {};
  /// After each tensor, in order; no statistics where it was not quantised.
  std::function<void(const planned_tensor&, std::span<const matrix_statistics>)> on_tensor =
      [](const planned_tensor&, std::span<const matrix_statistics>) {};
  /// After each piece that was appended, in order: the output tensor's name and the bytes as they stand in the file.
  std::function<void(std::string_view, std::span<const std::byte>)> on_bytes = [](std::string_view,
                                                                                  std::span<const std::byte>) {};
};

/// Writes what the plan makes of some tensors; `out` has their outputs and is left to the caller to commit.
/// @param plan     of in.tensors(), in their order.
/// @param tensors  indices into both, in the order in which they shall be read.
/// @return one entry for each matrix that was quantised, in that order.
/// An error for what cannot be read or written, and for a weight that is not finite where that is refused.
[[nodiscard]] io::file_result<std::vector<matrix_statistics>> quantize_shard(const checkpoint_reader& in,
                                                                             const quantization_plan& plan,
                                                                             std::span<const std::size_t> tensors,
                                                                             io::safetensors_writer& out,
                                                                             const shard_options& options);

/// Bytes of the input that become `tensor`, with the block scales it consumes.
[[nodiscard]] std::uint64_t input_bytes(const quantization_plan& plan, const planned_tensor& tensor);

}  // namespace mxfp4::checkpoint

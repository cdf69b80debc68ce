// src/checkpoint/encode_shard.hpp -- quantize_shard, to wherever the bytes shall go.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "mxfp4/checkpoint/quantize_shard.hpp"
#include "mxfp4/checkpoint/tensor_job.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// quantize_shard with a function in the place of the file: called with the pieces of the output tensors, in order, by
/// one thread at a time.
/// @throws file_error as quantize_shard returns.
std::vector<matrix_statistics> encode_shard(const checkpoint_reader& in, const quantization_plan& plan,
                                            std::span<const std::size_t> tensors, const append_function& out,
                                            const shard_options& options);

}  // namespace mxfp4::checkpoint

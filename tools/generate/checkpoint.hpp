// tools/generate/checkpoint.hpp -- a whole checkpoint directory in the shape of MiniMax-M2, from nothing.
// SPDX-License-Identifier: Apache-2.0
//
// Every name and type of the published model, in dimensions of one's choice, and what makes its directory hard to read:
//   - shards are counted from 0, one number is missing, and "of" counts the missing one too;
//   - the first shard ends between a weight and its block scales;
//   - leftover.safetensors holds a name of the model again, in another shape;
//   - there are other files, one of them in a folder, and a README that describes the source.
// The bytes depend on the options alone.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/minimax_m2.hpp"

namespace mxfp4::tools {

struct checkpoint_options {
  checkpoint::minimax_m2_shape
      shape;       ///< fp8: linear layers in F8_E4M3 with block scales, or in BF16 with the same values
  int shards = 3;  ///< from 1 on; only several have an index
  std::uint64_t seed = 1;
};

/// @param directory  is created; an existing one must be empty.
/// @return  bytes of tensor data.  @throws file_error.
std::uint64_t generate_checkpoint(const std::string& directory, const checkpoint_options& options);

}  // namespace mxfp4::tools

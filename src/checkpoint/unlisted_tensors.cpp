// src/checkpoint/unlisted_tensors.cpp -- see unlisted_tensors.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/unlisted_tensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

std::string unlisted_warning(const checkpoint_reader& checkpoint) {
  std::size_t count = 0;
  std::string first;
  for (const checkpoint_tensor& t : checkpoint.unlisted_tensors())
    if (checkpoint.find(t.info->name) == nullptr && count++ == 0)
      first = io::quote_name(t.info->name) + " in " + io::quote_name(checkpoint.shards()[t.shard]);
  if (count == 0) return {};
  return first + (count > 1 ? " and " + std::to_string(count - 1) + " more tensors" : "") +
         " of files that the index names: not in the index, and not taken over";
}

}  // namespace mxfp4::checkpoint

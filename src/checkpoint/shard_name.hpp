// src/checkpoint/shard_name.hpp -- "model-00002-of-00130.safetensors", as the ecosystem numbers the files of a model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>

#include "mxfp4/checkpoint/reader.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// @param i  from 0. One file alone is "model.safetensors".
[[nodiscard]] inline std::string shard_name(std::size_t i, std::size_t count) {
  if (count == 1) return single_file_name;
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, count);
  return name;
}

}  // namespace mxfp4::checkpoint

// src/checkpoint/reader_json.hpp -- the JSON of a checkpoint as documents, which the public reader hands out as text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "mxfp4/checkpoint/reader.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// config.json in its own order; null for a single file and where there is none.
/// @throws io::file_error naming the file where it is not a JSON object.
[[nodiscard]] nlohmann::ordered_json read_config(const checkpoint_reader& checkpoint);

/// What the index says in "metadata"; null without an index.
[[nodiscard]] nlohmann::json read_index_metadata(const checkpoint_reader& checkpoint);

}  // namespace mxfp4::checkpoint

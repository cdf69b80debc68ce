// src/checkpoint/reader_json.hpp -- what a checkpoint_reader gives as text, as documents.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "mxfp4/checkpoint/reader.hpp"

namespace mxfp4::checkpoint {

/// config.json in its own order; null for a single file and where there is none. @throws file_error naming the file.
[[nodiscard]] nlohmann::ordered_json read_config(const checkpoint_reader& checkpoint);

/// What the index says in "metadata"; null without an index.
[[nodiscard]] nlohmann::json index_metadata(const checkpoint_reader& checkpoint);

}  // namespace mxfp4::checkpoint

// src/checkpoint/sealed_json.hpp -- JSON files that carry the hash of their own text.
// SPDX-License-Identifier: Apache-2.0
//
//   {"format": ..., ...,          the body: what the object says, up to its last value
//   "hash": "<32 digits>"         of the body's bytes (content_hash.hpp)
//   }
//
// The end is fixed to the byte, so that every bit of the file is covered.
#pragma once

#include <string>

#include "checkpoint/statistics_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What follows a body whose hash that is.
[[nodiscard]] std::string seal(const std::string& hash);

/// A sealed file's text. @param indent  as ordered_json::dump takes it.
[[nodiscard]] std::string sealed_text(const ordered_json& object, int indent = -1);

/// Why `text` is not what was sealed, as a sentence's end; empty where it is.
[[nodiscard]] std::string broken_seal(const std::string& text);

/// @throws file_error naming `path` where `text`, a result's report, is not what was sealed.
void require_seal(const std::string& text, const std::string& path);

/// What a sealed file says, without the hash. @throws file_error where it was changed, or cannot be read.
[[nodiscard]] ordered_json read_sealed(const std::string& path);

}  // namespace mxfp4::checkpoint

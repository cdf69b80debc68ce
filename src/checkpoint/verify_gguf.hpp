// src/checkpoint/verify_gguf.hpp -- verify of a GGUF file: structure, scale bytes, and what llama.cpp asks for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "mxfp4/checkpoint/verify.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// @param path  a .gguf file, of a split one any part.
/// @throws file_error for what is no whole GGUF, and for options that ask for a comparison.
[[nodiscard]] verify_report verify_gguf(const std::string& path, const verify_options& options);

}  // namespace mxfp4::checkpoint

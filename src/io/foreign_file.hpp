// src/io/foreign_file.hpp -- what a file is that is not what it should be.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

inline constexpr std::size_t foreign_file_bytes = 64;  ///< of the beginning, which are enough to tell

struct foreign_file {
  const char* kind;    ///< "a pointer of Git LFS, ..."
  const char* advice;  ///< where the file that is wanted comes from
};

/// By the first bytes of a file; nullptr for what is not known.
[[nodiscard]] const foreign_file* find_foreign_file(std::string_view begin) noexcept;

/// What a GGUF file says of its model, as the end of "is a GGUF file": " of the architecture 'qwen2'"; nothing where it
/// says nothing, cannot be read, or is another file.
[[nodiscard]] std::string architecture_of_gguf(const std::string& path);

/// What Git leaves in the place of a file that Git LFS did not download; of any name.
[[nodiscard]] bool is_lfs_pointer(std::string_view begin) noexcept;

}  // namespace mxfp4::io

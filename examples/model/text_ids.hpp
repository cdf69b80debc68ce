// examples/model/text_ids.hpp -- text <-> tokens.
// SPDX-License-Identifier: Apache-2.0
//
// A vocabulary of 256 is bytes. Any other wants its tokens as numbers: decimal, separated by blanks, commas or lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mxfp4::tools {

inline constexpr std::int64_t byte_vocabulary = 256;

[[nodiscard]] std::vector<std::int64_t> ids_of_bytes(std::string_view text);

/// @param where  begins the messages.  @throws file_error for a word that is not a number, naming it and its place.
[[nodiscard]] std::vector<std::int64_t> ids_of_numbers(std::string_view text, const std::string& where);

/// A token as it is shown: the byte, or the number and a blank.
[[nodiscard]] std::string shown(std::int64_t id, std::int64_t vocabulary);

}  // namespace mxfp4::tools

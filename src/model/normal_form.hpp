// src/model/normal_form.hpp -- is a text in Unicode's normal form C?
// SPDX-License-Identifier: Apache-2.0
//
// Tokenizers of Qwen bring texts into that form first. Nearly all texts are in it, which a look at each character and
// at the order of marks shows: the quick check of Unicode Standard Annex 15. What it cannot answer counts as no.
#pragma once

#include <cstddef>
#include <string_view>

namespace mxfp4::model {

/// The byte of the first character that is not, or perhaps not, in NFC; text.size() where there is none.
/// @param text  valid UTF-8.
[[nodiscard]] std::size_t first_perhaps_not_nfc(std::string_view text);

}  // namespace mxfp4::model

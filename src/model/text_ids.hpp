// src/model/text_ids.hpp -- text <-> tokens.
// SPDX-License-Identifier: Apache-2.0
//
//   DIR/tokenizer.json          is what its model reads and writes
//   none, a vocabulary of 256   bytes
//   none, any other             numbers alone: decimal, separated by blanks, commas or lines
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.hpp"
#include "model/tokenizer.hpp"
#include "mxfp4/checkpoint/reader.hpp"

namespace mxfp4::model {

class text_tokens {
 public:
  /// @throws file_error for a tokenizer.json that is not understood, and where there is none and tokens are not bytes.
  text_tokens(const checkpoint::checkpoint_reader& checkpoint, const model_config& config);

  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text) const;
  [[nodiscard]] std::string decode(std::int64_t id) const;  ///< the bytes of one token

 private:
  std::optional<tokenizer> tokenizer_;  // none: bytes
};

/// The tokens that end a text: eos_token_id of generation_config.json, else of config.json; none where neither has any.
/// @throws file_error for a file that is not JSON, and for what is no token.
[[nodiscard]] std::vector<std::int64_t> end_of_text_ids(const checkpoint::checkpoint_reader& checkpoint);

/// @param where  begins the messages.  @throws file_error for a word that is not a number, naming it and its place.
[[nodiscard]] std::vector<std::int64_t> ids_of_numbers(std::string_view text, const std::string& where);

}  // namespace mxfp4::model

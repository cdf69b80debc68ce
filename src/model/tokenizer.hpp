// src/model/tokenizer.hpp -- a Hugging Face tokenizer.json: BPE of bytes, as most families have it, or of characters.
// SPDX-License-Identifier: Apache-2.0
//
//   text --> added tokens out of it --> pieces, by regular expressions --> bytes --> merged by rank --> ids
//        --> between the tokens that begin and end every text
//
//   with byte_fallback (Llama 2, Mixtral): blanks become U+2581 --> characters, those that are no tokens as bytes
//        --> merged
//
// Understood: model BPE (merges as strings or pairs, ignore_merges); of bytes: pre-tokenizers Split (Isolated, or
// Removed and inverted), ByteLevel and sequences of them, post-processors ByteLevel and TemplateProcessing, decoder
// ByteLevel, normalizer NFC for text that is in that form; with byte_fallback: normalizers Prepend and Replace,
// pre-tokenizer Metaspace, the decoder that undoes these; added tokens. Anything else is refused by its name, never
// passed over: tokens that are nearly right are worse than none. Not added: what a chat template adds.
// Source: huggingface/tokenizers 0.23; the tests compare ids with its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/pattern.hpp"

namespace mxfp4::model {

inline constexpr std::string_view blank_character = "\xE2\x96\x81";  ///< U+2581, a blank of BPE with byte_fallback

class tokenizer {
 public:
  /// @throws file_error naming the file, the key and its value, for what is malformed or not understood.
  [[nodiscard]] static tokenizer load(const std::string& path);

  /// @throws file_error for text that is not UTF-8, or not in NFC where the model wants that, naming the byte.
  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text) const;

  /// The bytes of one token, which may be part of a character. @throws file_error for an id that is none.
  [[nodiscard]] const std::string& decode(std::int64_t id) const;
  /// A text from its beginning: without the blank that encode put before it.
  [[nodiscard]] std::string decode(std::span<const std::int64_t> ids) const;

 private:
  struct split {
    pattern separator;
    bool matches_only = false;  ///< what lies between matches is dropped, else it is a piece too
  };
  struct merge {
    std::int64_t rank = 0, id = 0;
  };
  struct added_token {
    std::string text;
    std::int64_t id = 0;
  };
  struct reader;  // of the file

  /// Tokens that are cut out of the text before anything else: the leftmost, of those the longest.
  class cutter {
   public:
    void add(added_token token);
    /// The first occurrence from `begin` on; its id is -1 where there is none.
    struct occurrence {
      std::size_t begin = 0, end = 0;
      std::int64_t id = -1;
    };
    [[nodiscard]] occurrence find(std::string_view text, std::size_t begin) const;

   private:
    std::vector<added_token> by_first_byte_[256];  // each longest first
  };

  /// When a blank is put before a text, or a part of it that stands between added tokens.
  enum class prefix : std::uint8_t { never, first_part, each_part };

  void encode_without_added(std::string_view text, std::vector<std::int64_t>& ids) const;
  void encode_piece(std::string_view piece, std::vector<std::int64_t>& ids) const;
  void encode_characters(std::string_view text, bool first, std::vector<std::int64_t>& ids) const;
  [[nodiscard]] bool is_whole(std::string_view piece, std::vector<std::int64_t>& ids) const;
  void merge_symbols(const std::vector<std::int64_t>& from, std::vector<std::int64_t>& ids) const;

  std::vector<split> splits_;
  cutter raw_, normalized_;  ///< the first are looked for in the whole text, the second in what is left of it
  std::vector<std::int64_t> begin_, end_;  ///< of every text
  bool ignore_merges_ = false, nfc_ = false;
  bool characters_ = false;                       ///< BPE of characters, with byte_fallback; the next five are of that
  bool prepend_ = false, replace_ = false;        ///< of the normalizer, in this order
  bool metaspace_ = false, split_words_ = false;  ///< of the pre-tokenizer
  bool strip_ = false;                            ///< the decoder drops a blank at the beginning
  prefix prefix_ = prefix::never;                 ///< of Metaspace
  std::int64_t byte_ids_[256]{};
  std::unordered_map<std::string, std::int64_t> ids_;  ///< by the bytes of the token; of characters: as it is written
  std::unordered_map<std::uint64_t, merge> merges_;    ///< by the ids of the pair
  std::unordered_map<std::int64_t, std::string> bytes_;
};

}  // namespace mxfp4::model

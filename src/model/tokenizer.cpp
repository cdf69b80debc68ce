// src/model/tokenizer.cpp -- see tokenizer.hpp; the file is read by tokenizer_json.cpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer.hpp"

#include <algorithm>
#include <queue>

#include "io/utf8.hpp"
#include "model/normal_form.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;
namespace {

constexpr std::uint64_t key_of(std::int64_t left, std::int64_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
}

}  // namespace

void tokenizer::cutter::add(added_token token) {
  std::vector<added_token>& same = by_first_byte_[static_cast<unsigned char>(token.text[0])];
  const auto longer = [&](const added_token& other) { return other.text.size() >= token.text.size(); };
  same.insert(std::ranges::find_if_not(same, longer), std::move(token));
}

tokenizer::cutter::occurrence tokenizer::cutter::find(std::string_view text, std::size_t begin) const {
  for (; begin < text.size(); ++begin)
    for (const added_token& token : by_first_byte_[static_cast<unsigned char>(text[begin])])
      if (text.substr(begin).starts_with(token.text)) return {begin, begin + token.text.size(), token.id};
  return {text.size(), text.size(), -1};
}

std::vector<std::int64_t> tokenizer::encode(std::string_view text) const {
  if (const std::size_t bad = utf8::first_error(text); bad != text.size())
    throw file_error({.value = "the text is not UTF-8 at its byte " + std::to_string(bad), .expected = "UTF-8"});
  if (const std::size_t other = nfc_ ? first_perhaps_not_nfc(text) : text.size(); other != text.size())
    throw file_error({.value = "the text may not be in Unicode's normal form C at its byte " + std::to_string(other),
                      .expected = "a text in NFC, which this model's tokens are of",
                      .advice = "bring it into that form, or give the tokens as numbers"});
  std::vector<std::int64_t> ids = begin_;
  for (std::size_t begin = 0; begin < text.size();) {
    const cutter::occurrence outer = raw_.find(text, begin);
    const std::string_view part = text.substr(begin, outer.begin - begin);
    for (std::size_t at = 0; at < part.size();) {
      const cutter::occurrence inner = normalized_.find(part, at);
      const std::string_view plain = part.substr(at, inner.begin - at);
      if (characters_) encode_characters(plain, begin + at == 0, ids);
      else encode_without_added(plain, ids);
      if (inner.id >= 0) ids.push_back(inner.id);
      at = inner.end;
    }
    if (outer.id >= 0) ids.push_back(outer.id);
    begin = outer.end;
  }
  ids.insert(ids.end(), end_.begin(), end_.end());
  return ids;
}

void tokenizer::encode_without_added(std::string_view text, std::vector<std::int64_t>& ids) const {
  std::vector<std::string_view> pieces{text}, next;
  for (const split& s : splits_) {
    next.clear();
    for (const std::string_view piece : pieces) {
      std::size_t done = 0;
      const auto keep = [&](std::size_t begin, std::size_t end) {
        if (begin < end) next.push_back(piece.substr(begin, end - begin));
      };
      for (const auto [begin, end] : s.separator.matches(piece)) {
        if (!s.matches_only) keep(done, begin);
        keep(begin, end);
        done = end;
      }
      if (!s.matches_only) keep(done, piece.size());
    }
    pieces.swap(next);
  }
  for (const std::string_view piece : pieces) encode_piece(piece, ids);
}

bool tokenizer::is_whole(std::string_view piece, std::vector<std::int64_t>& ids) const {
  if (!ignore_merges_) return false;
  const auto whole = ids_.find(std::string(piece));
  if (whole != ids_.end()) ids.push_back(whole->second);
  return whole != ids_.end();
}

void tokenizer::encode_piece(std::string_view piece, std::vector<std::int64_t>& ids) const {
  if (is_whole(piece, ids)) return;
  std::vector<std::int64_t> symbols(piece.size());
  std::ranges::transform(piece, symbols.begin(), [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; });
  merge_symbols(symbols, ids);
}

/// @param first  whether the text begins here.
void tokenizer::encode_characters(std::string_view text, bool first, std::vector<std::int64_t>& ids) const {
  if (text.empty()) return;
  std::string spelled = prepend_ ? std::string(blank_character) : std::string();
  for (const char c : text) {
    if (c == ' ' && (replace_ || metaspace_)) spelled += blank_character;
    else spelled += c;
  }
  const bool begins = prefix_ == prefix::each_part || (prefix_ == prefix::first_part && first);
  if (begins && !spelled.starts_with(blank_character)) spelled.insert(0, blank_character);
  const auto encode_word = [&](std::string_view word) {
    if (is_whole(word, ids)) return;
    std::vector<std::int64_t> symbols;
    for (std::size_t at = 0; at < word.size();) {
      const std::string_view character = word.substr(at, utf8::decode(word, at).bytes);
      if (const auto found = ids_.find(std::string(character)); found != ids_.end()) symbols.push_back(found->second);
      else
        for (const char c : character) symbols.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      at += character.size();
    }
    merge_symbols(symbols, ids);
  };
  std::string_view rest = spelled;
  while (split_words_ && !rest.empty()) {
    const std::size_t next = std::min(rest.find(blank_character, 1), rest.size());
    encode_word(rest.substr(0, next));
    rest.remove_prefix(next);
  }
  if (!rest.empty()) encode_word(rest);
}

/// The pair of least rank is merged, of equals the leftmost, until no pair has a rank. A list of symbols and a heap of
/// pairs: long pieces take n log n.
void tokenizer::merge_symbols(const std::vector<std::int64_t>& from, std::vector<std::int64_t>& ids) const {
  constexpr std::size_t none = ~std::size_t{0};
  struct symbol {
    std::int64_t id;  // -1: merged into the one before
    std::size_t before, after;
  };
  struct candidate {
    std::int64_t rank;
    std::size_t left;
    std::int64_t left_id, right_id;  // stale where these have changed
    bool operator>(const candidate& o) const { return rank != o.rank ? rank > o.rank : left > o.left; }
  };
  std::vector<symbol> symbols(from.size());
  std::priority_queue<candidate, std::vector<candidate>, std::greater<>> candidates;
  const auto consider = [&](std::size_t left) {
    if (left == none || symbols[left].after == none) return;
    const std::int64_t a = symbols[left].id, b = symbols[symbols[left].after].id;
    if (const auto found = merges_.find(key_of(a, b)); found != merges_.end())
      candidates.push({found->second.rank, left, a, b});
  };
  for (std::size_t i = 0; i < from.size(); ++i)
    symbols[i] = {from[i], i == 0 ? none : i - 1, i + 1 == from.size() ? none : i + 1};
  for (std::size_t i = 0; i + 1 < from.size(); ++i) consider(i);
  while (!candidates.empty()) {
    const candidate best = candidates.top();
    candidates.pop();
    symbol& left = symbols[best.left];
    if (left.id != best.left_id || left.after == none || symbols[left.after].id != best.right_id) continue;
    symbol& right = symbols[left.after];
    left.id = merges_.at(key_of(best.left_id, best.right_id)).id;
    left.after = right.after;
    right.id = -1;
    if (left.after != none) symbols[left.after].before = best.left;
    consider(left.before);
    consider(best.left);
  }
  for (const symbol& s : symbols)
    if (s.id >= 0) ids.push_back(s.id);
}

const std::string& tokenizer::decode(std::int64_t id) const {
  const auto found = bytes_.find(id);
  if (found == bytes_.end()) throw file_error({.value = "token " + std::to_string(id) + " is none of the tokenizer's"});
  return found->second;
}

std::string tokenizer::decode(std::span<const std::int64_t> ids) const {
  std::string text;
  for (const std::int64_t id : ids) text += decode(id);
  if (strip_ && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

}  // namespace mxfp4::model

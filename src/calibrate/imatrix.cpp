// src/calibrate/imatrix.cpp -- see imatrix.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/imatrix.hpp"

#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>
#include <variant>

#include "mxfp4/io/byte_order.hpp"
#include "mxfp4/io/error.hpp"
#include "mxfp4/io/file.hpp"
#include "mxfp4/io/gguf_file.hpp"

namespace mxfp4::calibrate {

using namespace io;

namespace {

constexpr std::string_view sums_suffix = ".in_sum2", counts_suffix = ".counts";

constexpr const char* make_again = "make the file again with llama-imatrix";

void require_squares(const imatrix_entry& entry, const std::string& path, const std::string& name) {
  for (const float x : entry.squares)
    if (!std::isfinite(x) || x < 0)
      throw file_error({.file = path,
                        .tensor = name,
                        .value = "has a mean square of " + std::to_string(x),
                        .expected = "finite numbers from 0 on",
                        .advice = make_again});
}

[[nodiscard]] std::vector<float> read_floats(const gguf_reader& file, const gguf_tensor& t) {
  if (t.type != ggml_type::f32)
    throw file_error({.file = file.path(),
                      .tensor = t.name,
                      .value = std::string("is ") + ggml_type_name(t.type),
                      .expected = "F32",
                      .advice = make_again});
  std::vector<float> numbers(static_cast<std::size_t>(t.bytes / sizeof(float)));
  file.read(t, 0, std::as_writable_bytes(std::span(numbers))).value();
  swap_if_big_endian(std::span(numbers));
  return numbers;
}

/// A 32-bit number; 0 where there is none.
[[nodiscard]] std::int64_t integer_of(const gguf_reader& file, std::string_view key) {
  const gguf_pair* const pair = file.header().find(key);
  const std::uint64_t* const value = pair == nullptr ? nullptr : std::get_if<std::uint64_t>(&pair->value);
  if (value == nullptr) return 0;
  if (*value > std::numeric_limits<std::uint32_t>::max() / 2)
    throw file_error({.file = file.path(),
                      .value = quote_name(key) + " is " + std::to_string(*value),
                      .expected = "at most 2147483647",
                      .advice = make_again});
  return static_cast<std::int64_t>(*value);
}

[[nodiscard]] imatrix read_gguf(const std::string& path) {
  const gguf_reader file = gguf_reader::open(path).value();
  const std::string* const type = file.header().find_string("general.type");
  if (type == nullptr || *type != "imatrix")
    throw file_error({.file = path,
                      .value = "is a GGUF file whose general.type is " +
                               (type == nullptr ? std::string("not there") : "\"" + *type + "\""),
                      .expected = "\"imatrix\"",
                      .advice = "name the file that llama-imatrix wrote"});
  imatrix found;
  found.chunks = integer_of(file, "imatrix.chunk_count");
  found.chunk_size = integer_of(file, "imatrix.chunk_size");
  for (const gguf_tensor& t : file.header().tensors) {
    if (!t.name.ends_with(sums_suffix)) continue;
    const std::string name = t.name.substr(0, t.name.size() - sums_suffix.size());
    const gguf_tensor* const counted = file.find(name + std::string(counts_suffix));
    imatrix_entry entry;
    entry.squares = read_floats(file, t);
    const std::vector<float> counts = counted == nullptr ? std::vector<float>() : read_floats(file, *counted);
    if (counts.empty() || entry.squares.size() % counts.size() != 0)
      throw file_error({.file = path,
                        .tensor = t.name,
                        .value = "has " + std::to_string(entry.squares.size()) + " sums for " +
                                 std::to_string(counts.size()) + " counts",
                        .expected = "a row of sums for each count",
                        .advice = make_again});
    const std::size_t cols = entry.squares.size() / counts.size();
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (!(counts[i] >= 0) || counts[i] > 0x1p53f)
        throw file_error({.file = path,
                          .tensor = name + std::string(counts_suffix),
                          .value = "has " + std::to_string(counts[i]),
                          .expected = "numbers of tokens",
                          .advice = make_again});
      entry.counts.push_back(std::llround(counts[i]));
      for (std::size_t c = i * cols; c < (i + 1) * cols; ++c)
        entry.squares[c] = entry.counts[i] > 0 ? entry.squares[c] / static_cast<float>(entry.counts[i]) : 0.0f;
    }
    require_squares(entry, path, name);
    found.entries.emplace(name, std::move(entry));
  }
  return found;
}

/// Numbers and names of a .dat file, one after the other.
class dat_reader {
 public:
  explicit dat_reader(const std::string& path) : file_(input_file::open(path).value()) {}

  [[nodiscard]] bool at_end() const { return at_ == file_.size(); }
  /// @param what  that it is the number of, for the message.
  [[nodiscard]] std::int64_t count(const char* what) {
    std::vector<std::int32_t> number(1);
    read(std::span(number), what);
    if (number[0] < 0) fail(std::to_string(number[0]) + " as " + what);
    return number[0];
  }
  [[nodiscard]] std::string text(std::int64_t bytes) {
    require(static_cast<std::uint64_t>(bytes), "a name");
    std::string name(static_cast<std::size_t>(bytes), '\0');
    file_.read(at_, std::as_writable_bytes(std::span(name))).value();
    at_ += name.size();
    return name;
  }
  [[nodiscard]] std::vector<float> floats(std::int64_t count) {
    require(static_cast<std::uint64_t>(count) * sizeof(float), "its numbers");
    std::vector<float> numbers(static_cast<std::size_t>(count));
    read(std::span(numbers), "its numbers");
    return numbers;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw file_error({.file = file_.path(),
                      .value = "is no importance matrix: it has " + what + " at byte " + std::to_string(at_),
                      .expected = "a file of llama-imatrix, GGUF or .dat",
                      .advice = make_again});
  }

 private:
  void require(std::uint64_t bytes, const char* what) const {
    if (bytes > file_.size() - at_) fail("an end instead of " + std::string(what));
  }
  template <class T>
  void read(std::span<T> out, const char* what) {
    require(out.size_bytes(), what);
    file_.read(at_, std::as_writable_bytes(out)).value();
    swap_if_big_endian(out);
    at_ += out.size_bytes();
  }

  input_file file_;
  std::uint64_t at_ = 0;
};

[[nodiscard]] imatrix read_dat(const std::string& path) {
  dat_reader file(path);
  imatrix found;
  const std::int64_t entries = file.count("the number of entries");
  if (entries == 0) file.fail("no entries");
  for (std::int64_t i = 0; i < entries; ++i) {
    const std::string name = file.text(file.count("the length of a name"));
    const std::int64_t calls = file.count("a number of calls"), numbers = file.count("the number of its numbers");
    imatrix_entry entry;
    entry.squares = file.floats(numbers);
    if (calls > 0)
      for (float& x : entry.squares) x /= static_cast<float>(calls);
    require_squares(entry, path, name);
    if (!found.entries.emplace(name, std::move(entry)).second) file.fail(quote_name(name) + " twice");
  }
  if (file.at_end()) return found;
  found.chunks = file.count("the number of chunks");
  if (!file.at_end()) static_cast<void>(file.text(file.count("the length of the text's name")));
  if (!file.at_end()) file.fail("more");
  return found;
}

[[nodiscard]] bool begins_as_gguf(const std::string& path) {
  constexpr std::string_view magic = "GGUF";
  const input_file file = input_file::open(path).value();
  std::string begin(magic.size(), '\0');
  if (file.size() < begin.size()) return false;
  file.read(0, std::as_writable_bytes(std::span(begin))).value();
  return begin == magic;
}

/// The number in front of the next '.', which both are cut off `text`; -1 where there is none below 2^31.
[[nodiscard]] std::int64_t cut_number(std::string_view& text) {
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data() + text.size() || *end != '.' || value < 0 ||
      value > std::numeric_limits<std::int32_t>::max())
    return -1;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  return value;
}

struct name_pair {
  std::string_view ours, theirs;
};

/// In a layer, behind self_attn.; an expert's or a feed-forward block's.
constexpr name_pair attention_names[] = {{"q_proj", "attn_q"},
                                         {"k_proj", "attn_k"},
                                         {"v_proj", "attn_v"},
                                         {"o_proj", "attn_output"},
                                         {"q_a_proj", "attn_q_a"},
                                         {"q_b_proj", "attn_q_b"},
                                         {"kv_a_proj_with_mqa", "attn_kv_a_mqa"},
                                         {"kv_b_proj", "attn_kv_b"}};
constexpr name_pair feed_forward_names[] = {
    {"gate_proj", "ffn_gate"}, {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"},   {"w1", "ffn_gate"},
    {"w3", "ffn_up"},          {"w2", "ffn_down"},    {"gate_up_proj", "ffn_gate"}};  // both halves have one input

[[nodiscard]] std::string find_name(std::span<const name_pair> names, std::string_view part) {
  for (const name_pair& n : names)
    if (n.ours == part) return std::string(n.theirs);
  return {};
}

}  // namespace

imatrix read_imatrix(const std::string& path) {
  imatrix found = begins_as_gguf(path) ? read_gguf(path) : read_dat(path);
  if (found.entries.empty())
    throw file_error({.file = path, .value = "has no entries", .expected = "sums of squares", .advice = make_again});
  return found;
}

imatrix_place imatrix_place_of(const std::string& weight) {
  constexpr std::string_view layers = "model.layers.", end = ".weight", experts = ".experts", first = "experts";
  std::string_view rest = weight;
  if (!rest.starts_with(layers)) return {};
  rest.remove_prefix(layers.size());
  const std::int64_t layer = cut_number(rest);
  if (layer < 0) return {};
  if (rest.ends_with(end)) rest.remove_suffix(end.size());
  const std::size_t dot = rest.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view part = rest.substr(dot + 1);
  std::string_view block = rest.substr(0, dot);
  std::int64_t expert = 0;
  std::string name;
  if (block == "self_attn") {
    name = find_name(attention_names, part);
  } else if (block == "mlp") {
    name = find_name(feed_forward_names, part);
  } else if (block.ends_with(".shared_experts") || block.ends_with(".shared_expert")) {
    name = find_name(feed_forward_names, part);
    if (!name.empty()) name += "_shexp";
  } else if (const std::size_t at = block.find(experts); at != std::string_view::npos || block.starts_with(first)) {
    const std::string_view number = block.substr(at == std::string_view::npos ? first.size() : at + experts.size());
    if (!number.empty()) {
      const std::string with_dot = std::string(number.substr(1)) + ".";
      std::string_view digits = with_dot;
      expert = cut_number(digits);
      if (number[0] != '.' || expert < 0 || !digits.empty()) return {};
    }
    name = find_name(feed_forward_names, part);
    if (!name.empty()) name += "_exps";
  }
  if (name.empty()) return {};
  return {"blk." + std::to_string(layer) + "." + name + ".weight", expert};
}

}  // namespace mxfp4::calibrate

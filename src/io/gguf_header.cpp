// src/io/gguf_header.cpp -- types and sizes, and the header as it is written.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <bit>
#include <unordered_set>
#include <utility>

#include "io/guarded.hpp"
#include "mxfp4/format/nibble.hpp"
#include "mxfp4/io/byte_order.hpp"
#include "mxfp4/io/gguf.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

constexpr std::array<const char*, gguf_type_count> type_names = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                                 "bool", "string", "array", "u64", "i64", "f64"};

constexpr std::int64_t q8_0_block_bytes = 2 + block_size;  // of 32 weights too

struct ggml_type_row {
  ggml_type type;
  const char* name;
  std::optional<dtype> same;
};
constexpr std::array<ggml_type_row, 10> ggml_types = {{
    {ggml_type::f32, "F32", dtype::f32},
    {ggml_type::f16, "F16", dtype::f16},
    {ggml_type::q8_0, "Q8_0", std::nullopt},
    {ggml_type::i8, "I8", dtype::i8},
    {ggml_type::i16, "I16", dtype::i16},
    {ggml_type::i32, "I32", dtype::i32},
    {ggml_type::i64, "I64", dtype::i64},
    {ggml_type::f64, "F64", dtype::f64},
    {ggml_type::bf16, "BF16", dtype::bf16},
    {ggml_type::mxfp4, "MXFP4", std::nullopt},
}};

[[nodiscard]] const ggml_type_row& row_of(ggml_type type) noexcept {
  return *std::find_if(ggml_types.begin(), ggml_types.end(), [&](const ggml_type_row& r) { return r.type == type; });
}

class header_writer {
 public:
  void number(std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) text_ += static_cast<char>(value >> (8 * i) & 0xFF);
  }
  void u32(std::uint64_t value) { number(value, 4); }
  void u64(std::uint64_t value) { number(value, 8); }
  void string(const std::string& s) {
    u64(s.size());
    text_ += s;
  }
  void raw(const char* bytes) { text_ += bytes; }
  void pad(std::uint64_t alignment) { text_.resize(padded(text_.size(), alignment)); }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

void write_pair(header_writer& out, const gguf_pair& pair, const std::string& file) {
  const auto wrong = [&] {
    throw file_error(
        {.file = file,
         .value = "key " + quote_name(pair.key) + ": the value cannot be written as " + gguf_type_name(pair.type),
         .expected = "a string, a u32, an f32, a boolean, or an array of strings or i32"});
  };
  out.string(pair.key);
  out.u32(static_cast<std::uint32_t>(pair.type));
  if (pair.type == gguf_type::array) {
    const auto begin_array = [&out](gguf_type type, std::size_t size) {
      out.u32(static_cast<std::uint32_t>(type));
      out.u64(size);
    };
    if (const auto* texts = std::get_if<std::vector<std::string>>(&pair.value)) {
      begin_array(gguf_type::string, texts->size());
      for (const std::string& text : *texts) out.string(text);
    } else if (const auto* numbers = std::get_if<std::vector<std::int32_t>>(&pair.value)) {
      begin_array(gguf_type::i32, numbers->size());
      for (const std::int32_t n : *numbers) out.u32(static_cast<std::uint32_t>(n));
    } else {
      wrong();
    }
    return;
  }
  if (pair.type == gguf_type::string && std::holds_alternative<std::string>(pair.value))
    out.string(std::get<std::string>(pair.value));
  else if (pair.type == gguf_type::u32 && std::holds_alternative<std::uint64_t>(pair.value))
    out.u32(std::get<std::uint64_t>(pair.value));
  else if (pair.type == gguf_type::f32 && std::holds_alternative<double>(pair.value))
    out.u32(std::bit_cast<std::uint32_t>(static_cast<float>(std::get<double>(pair.value))));
  else if (pair.type == gguf_type::boolean && std::holds_alternative<bool>(pair.value))
    out.number(std::get<bool>(pair.value) ? 1 : 0, 1);
  else wrong();
}

}  // namespace

const char* gguf_type_name(gguf_type type) noexcept { return type_names[static_cast<std::size_t>(type)]; }
const char* ggml_type_name(ggml_type type) noexcept { return row_of(type).name; }

std::optional<ggml_type> find_ggml_type(std::uint32_t number) noexcept {
  for (const ggml_type_row& r : ggml_types)
    if (static_cast<std::uint32_t>(r.type) == number) return r.type;
  return std::nullopt;
}

std::optional<ggml_type> ggml_type_of(dtype type) noexcept {
  for (const ggml_type_row& r : ggml_types)
    if (r.same == type) return r.type;
  return std::nullopt;
}

std::optional<dtype> safetensors_type_of(ggml_type type) noexcept { return row_of(type).same; }

const gguf_pair* gguf_header::find(std::string_view key) const noexcept {
  const auto found = std::find_if(pairs.begin(), pairs.end(), [&](const gguf_pair& p) { return p.key == key; });
  return found == pairs.end() ? nullptr : &*found;
}

const std::string* gguf_header::find_string(std::string_view key) const noexcept {
  const gguf_pair* pair = find(key);
  return pair == nullptr ? nullptr : std::get_if<std::string>(&pair->value);
}

file_result<std::uint64_t> gguf_alignment(const gguf_header& header, const std::string& file) {
  const gguf_pair* pair = header.find(gguf_alignment_key);
  if (pair == nullptr) return gguf_default_alignment;
  if (pair->type != gguf_type::u32)
    return file_error(
        {.file = file,
         .value = std::string("key '") + gguf_alignment_key + "' is of type " + gguf_type_name(pair->type),
         .expected = "u32"});
  const std::uint64_t value = std::get<std::uint64_t>(pair->value);
  if (!std::has_single_bit(value))
    return file_error({.file = file,
                       .value = std::string("key '") + gguf_alignment_key + "' is " + std::to_string(value),
                       .expected = "a power of two"});
  return value;
}

file_result<std::uint64_t> gguf_tensor_bytes(ggml_type type, const std::vector<std::int64_t>& shape) {
  if (shape.size() > gguf_dimension_limit)
    return file_error({.value = "has " + std::to_string(shape.size()) + " dimensions",
                       .expected = "at most " + std::to_string(gguf_dimension_limit),
                       .advice = "GGUF holds none of more: keep the model in safetensors, or convert its text part"});
  const std::optional<dtype> same = safetensors_type_of(type);
  if (same) return tensor_bytes(*same, shape);
  if (shape.empty() || shape.back() % block_size != 0)
    return file_error({.value = "shape " + shape_text(shape) + " of " + ggml_type_name(type),
                       .expected = "rows whose length is a multiple of 32"});
  std::vector<std::int64_t> blocks = shape;  // as bytes: one more factor, so that the overflow check sees it
  blocks.back() /= block_size;
  blocks.push_back(type == ggml_type::mxfp4 ? block_bytes : q8_0_block_bytes);
  return tensor_bytes(dtype::u8, blocks);
}

file_result<std::string> format_gguf_header(gguf_header& header, const std::string& file) {
  return guarded([&] {
    header_writer out;
    header.alignment = gguf_alignment(header, file).value();
    out.raw("GGUF");
    out.u32(3);
    out.u64(header.tensors.size());
    out.u64(header.pairs.size());
    for (const gguf_pair& pair : header.pairs) write_pair(out, pair, file);
    std::unordered_set<std::string_view> names;
    std::uint64_t end = 0;
    for (gguf_tensor& t : header.tensors) {
      if (t.name.size() > gguf_name_limit)
        throw file_error(
            {.file = file,
             .tensor = t.name,
             .value = "the name has " + std::to_string(t.name.size()) + " bytes",
             .expected = "at most " + std::to_string(gguf_name_limit) + ", which is what ggml's reader takes"});
      if (!names.insert(t.name).second)
        throw file_error({.file = file, .tensor = t.name, .value = "is there twice", .expected = "once"});
      t.bytes = value_at(gguf_tensor_bytes(t.type, t.shape), file, t.name);
      t.begin = end;
      end += padded(t.bytes, header.alignment);
      out.string(t.name);
      out.u32(t.shape.size());
      for (auto n = t.shape.rbegin(); n != t.shape.rend(); ++n) out.u64(static_cast<std::uint64_t>(*n));
      out.u32(static_cast<std::uint32_t>(t.type));
      out.u64(t.begin);
    }
    out.pad(header.alignment);
    return out.take();
  });
}

}  // namespace mxfp4::io

// mxfp4/io/gguf.hpp -- what a GGUF file, version 3, says about itself.
// SPDX-License-Identifier: Apache-2.0
//
//   "GGUF" | version u32 = 3 | tensors u64 | pairs u64
//   pairs:    key, type u32, value           a string is its length u64 and its bytes; an array its element type u32,
//                                            its length u64 and its elements
//   tensors:  name, dimensions u32, ne[dimensions] u64, type u32, offset u64
//   padding to general.alignment (a u32 among the pairs, 32 where it is absent), then the data; each tensor is padded
//   too
//
// Little-endian. ne[0] is the dimension that lies contiguously, so ne is a shape reversed: stacked experts [E, rows,
// cols] are ne = {cols, rows, E}. A row of MXFP4 (type 39) is cols / 32 blocks of 17 bytes: layout::ggml.
// The reader is strict, like that of safetensors, and believes no count before the file can hold that many.
// Source: ggml docs/gguf.md; what ggml's own reader (src/gguf.cpp at 067d44f) accepts; type sizes: ggml-common.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Types of values, numbered as in the file.
enum class gguf_type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
inline constexpr std::uint32_t gguf_type_count = 13;  ///< enumerators of gguf_type

/// As the format's text calls it: "uint32".
[[nodiscard]] const char* gguf_type_name(gguf_type type) noexcept;

/// Of an array that is read only what it consists of is kept: those in a model hold its vocabulary, and nothing here
/// asks for it.
struct gguf_array {
  gguf_type type = gguf_type::u8;  ///< of the elements
  std::uint64_t size = 0;          ///< elements

  friend bool operator==(const gguf_array&, const gguf_array&) = default;
};

/// A key and its value.
struct gguf_pair {
  std::string key;                  ///< "general.architecture"
  gguf_type type = gguf_type::u32;  ///< of the value, as it stands in the file
  /// Integers widened. The last two are arrays to be written, of strings and of i32.
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string, gguf_array, std::vector<std::string>,
               std::vector<std::int32_t>>
      value;
};

/// The types of tensors that safetensors has too, MXFP4, and Q8_0: 32 I8 behind an F16 that they are multiplied with,
/// 34 bytes. Numbers as in the file.
enum class ggml_type : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q8_0 = 8,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  bf16 = 30,
  mxfp4 = 39,
};

/// As ggml calls it: "MXFP4".
[[nodiscard]] const char* ggml_type_name(ggml_type type) noexcept;
/// The type with this number; nullopt for one that is not read here.
[[nodiscard]] std::optional<ggml_type> find_ggml_type(std::uint32_t number) noexcept;
[[nodiscard]] std::optional<ggml_type> ggml_type_of(dtype type) noexcept;         ///< nullopt where ggml has none
[[nodiscard]] std::optional<dtype> safetensors_type_of(ggml_type type) noexcept;  ///< nullopt: MXFP4, Q8_0

/// Where a tensor lies.
struct gguf_tensor {
  std::string name;                 ///< at most gguf_name_limit bytes
  ggml_type type = ggml_type::f32;  ///< of its elements or blocks
  std::vector<std::int64_t> shape;  ///< rows before columns, as everywhere here: ne reversed
  std::uint64_t begin = 0;          ///< bytes, from the start of the data
  std::uint64_t bytes = 0;          ///< of its data, without padding
};

inline constexpr std::size_t gguf_name_limit = 63;      ///< bytes of a tensor's name; ggml has 64 with the final zero
inline constexpr std::size_t gguf_dimension_limit = 4;  ///< of a tensor
inline constexpr std::uint64_t gguf_default_alignment = 32;             ///< bytes, where the header names none
inline constexpr const char* gguf_alignment_key = "general.alignment";  ///< names another one

/// All but the data.
struct gguf_header {
  std::vector<gguf_pair> pairs;                      ///< in the order of the file
  std::vector<gguf_tensor> tensors;                  ///< in the order of their data
  std::uint64_t alignment = gguf_default_alignment;  ///< bytes: each tensor begins at a multiple of it

  [[nodiscard]] const gguf_pair* find(std::string_view key) const noexcept;  ///< nullptr where there is none
  /// The string of a key; nullptr where there is none, or it is of another type.
  [[nodiscard]] const std::string* find_string(std::string_view key) const noexcept;
};

/// Bytes that a tensor takes; an error for 2^63 bits or more, a row of MXFP4 or Q8_0 that is not whole blocks, and more
/// than four dimensions.
file_result<std::uint64_t> gguf_tensor_bytes(ggml_type type, const std::vector<std::int64_t>& shape);

/// What general.alignment says, 32 where it is absent; an error for anything but a power of two in a u32.
file_result<std::uint64_t> gguf_alignment(const gguf_header& header, const std::string& file);

/// `bytes`, rounded up to a multiple of `alignment`.
[[nodiscard]] constexpr std::uint64_t padded(std::uint64_t bytes, std::uint64_t alignment) noexcept {
  return bytes + (alignment - bytes % alignment) % alignment;
}

/// The beginning of the file: magic, pairs and tensors, padded to the alignment. Fills in the alignment, and begin and
/// bytes of the tensors in their order. Values are strings, u32, f32, booleans, arrays of strings and of i32.
/// An error, for the file called `file`, for a name that is too long or there twice, and as gguf_tensor_bytes.
file_result<std::string> format_gguf_header(gguf_header& header, const std::string& file);

}  // namespace mxfp4::io

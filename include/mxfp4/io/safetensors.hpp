// mxfp4/io/safetensors.hpp -- what a safetensors file says about itself.
// SPDX-License-Identifier: Apache-2.0
//
//   byte 0         8                                     8 + N
//        +---------+------------------------------------+--------------------------- ... --+
//        | N, u64  | JSON header, N bytes, maybe padded | tensor data, no gap, no overlap  |
//        +---------+------------------------------------+--------------------------- ... --+
//   header: {"__metadata__": {string: string}, "<name>": {"dtype", "shape", "data_offsets": [begin, end)}, ...}
//
// The reader is strict: whatever the format forbids is an error, for a file that two readers understand differently is
// worth nothing. Source: huggingface/safetensors, README.md and safetensors/src/tensor.rs at 24b0b28.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// In the format's own order: files are written with the last one first, so that data is aligned.
enum class dtype : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};
inline constexpr int dtype_count = 22;  ///< enumerators of dtype

[[nodiscard]] const char* dtype_name(dtype type) noexcept;  ///< as in the file: "F8_E4M3"
[[nodiscard]] int dtype_bits(dtype type) noexcept;          ///< per element
/// The type with this name in a file; nullopt for one that the format does not have.
[[nodiscard]] std::optional<dtype> find_dtype(std::string_view name) noexcept;

/// Where a tensor lies.
struct tensor_info {
  std::string name;                  ///< unique in its file
  dtype type = dtype::u8;            ///< of its elements
  std::vector<std::int64_t> shape;   ///< [] for a scalar
  std::uint64_t begin = 0, end = 0;  ///< bytes, from the start of the data

  /// Of its data.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return end - begin; }
  [[nodiscard]] std::int64_t elements() const noexcept;  ///< 1 for a scalar, whose shape is []
};

[[nodiscard]] std::string shape_text(const std::vector<std::int64_t>& shape);  ///< "[1536, 3072]"

/// What __metadata__ holds: texts by name.
using metadata = std::map<std::string, std::string>;

/// All but the data.
struct safetensors_header {
  std::vector<tensor_info> tensors;  ///< in the order of their data
  std::optional<metadata> extra;     ///< __metadata__
};

inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;  ///< bytes; the format's own limit

/// Bytes that a tensor takes; an error if that is not a whole number, or 2^63 bits or more.
file_result<std::uint64_t> tensor_bytes(dtype type, const std::vector<std::int64_t>& shape);

/// The header `text`, of a file with `data_bytes` bytes after it, which errors call `file`. An error for anything the
/// format forbids.
file_result<safetensors_header> parse_header(std::string_view text, std::uint64_t data_bytes, const std::string& file);

/// Length and header as they stand in a file, padded with blanks to a multiple of 8. begin and end must be set.
[[nodiscard]] std::string format_header(const safetensors_header& header);

}  // namespace mxfp4::io

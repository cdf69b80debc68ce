// mxfp4/io/safetensors_reader.hpp -- a safetensors file, checked when opened, then read in pieces.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/file.hpp"
#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Holds the header, never the data.
class safetensors_reader {
 public:
  /// An error for a file that cannot be read or is not exactly what the format says.
  [[nodiscard]] static file_result<safetensors_reader> open(const std::string& path);

  /// As it was given.
  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  /// Of the whole file.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_.size(); }
  [[nodiscard]] std::int64_t modified() const noexcept { return file_.modified(); }  ///< ns since 1970
  [[nodiscard]] std::int64_t changed() const noexcept { return file_.changed(); }    ///< see input_file
  /// XXH3, 128 bits, of the bytes in front of the data: 32 hexadecimal digits.
  [[nodiscard]] const std::string& header_hash() const noexcept { return header_hash_; }
  file_result<void> require_unchanged() const { return file_.require_unchanged(); }  ///< see input_file
  /// What the file says of its tensors.
  [[nodiscard]] const safetensors_header& header() const noexcept { return header_; }
  [[nodiscard]] const tensor_info* find(std::string_view name) const;  ///< nullptr where there is none

  /// Bytes [offset, offset + bytes.size()) of a tensor of this file, as they are.
  file_result<void> read(const tensor_info& tensor, std::uint64_t offset, std::span<std::byte> bytes) const;

 private:
  explicit safetensors_reader(const std::string& path);

  input_file file_;
  std::uint64_t data_begin_ = 0;
  std::string header_hash_;
  safetensors_header header_;
  std::unordered_map<std::string_view, const tensor_info*> by_name_;
};

}  // namespace mxfp4::io

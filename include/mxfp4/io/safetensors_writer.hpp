// mxfp4/io/safetensors_writer.hpp -- a safetensors file, written in pieces, complete or not there.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/file.hpp"
#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// The header needs names, types and shapes only, so it is written first. Then each tensor is appended to in pieces;
/// different tensors may take turns, and nothing but the header is held in memory.
/// Order of the data: dtype, the last of the enumeration first, then name, as the format's own writer has it.
class safetensors_writer {
 public:
  /// @param tensors  begin and end are ignored; they follow from the order.
  /// @param stop      asked before each piece that is written.
  /// @param existing  what becomes of a file that is there.
  /// An error for a duplicate name, a shape that overflows, a file that cannot be created.
  [[nodiscard]] static file_result<safetensors_writer> create(const std::string& path, std::vector<tensor_info> tensors,
                                                              std::optional<metadata> extra, stop_function stop = {},
                                                              existing_file existing = existing_file::replace);

  /// With the places of the tensors filled in.
  [[nodiscard]] const safetensors_header& header() const noexcept { return header_; }
  /// Of the whole file, when it is complete.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept;
  [[nodiscard]] const std::string& header_hash() const noexcept { return header_hash_; }  ///< see safetensors_reader

  /// The next bytes of the tensor called `name`, as they shall stand in the file.
  file_result<void> append(std::string_view name, std::span<const std::byte> bytes);

  /// Gives the file its name; an error where a tensor is not complete; the file does not appear then.
  file_result<void> commit();

 private:
  safetensors_writer(const std::string& path, std::vector<tensor_info> tensors, std::optional<metadata> extra,
                     stop_function stop, existing_file existing);

  output_file file_;
  safetensors_header header_;
  std::uint64_t data_begin_ = 0;
  std::string header_hash_;
  std::vector<std::uint64_t> written_;  // bytes of each tensor
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace mxfp4::io

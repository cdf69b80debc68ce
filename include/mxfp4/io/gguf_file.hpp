// mxfp4/io/gguf_file.hpp -- a GGUF file, checked when opened and read in pieces; written in pieces, complete or
// not there.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/file.hpp"
#include "mxfp4/io/gguf.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Holds the header, never the data.
class gguf_reader {
 public:
  /// An error for a file that cannot be read or is not exactly what the format says, and for tensors of a type that
  /// safetensors has not (ggml's other block formats).
  [[nodiscard]] static file_result<gguf_reader> open(const std::string& path);

  /// As it was given.
  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  /// Of the whole file.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_.size(); }
  file_result<void> require_unchanged() const { return file_.require_unchanged(); }  ///< see input_file
  /// What the file says of itself and its tensors.
  [[nodiscard]] const gguf_header& header() const noexcept { return header_; }
  [[nodiscard]] const gguf_tensor* find(std::string_view name) const;  ///< nullptr where there is none

  /// Bytes [offset, offset + bytes.size()) of a tensor of this file, as they are.
  file_result<void> read(const gguf_tensor& tensor, std::uint64_t offset, std::span<std::byte> bytes) const;

 private:
  explicit gguf_reader(const std::string& path);

  input_file file_;
  std::uint64_t data_begin_ = 0;
  gguf_header header_;
  std::unordered_map<std::string_view, const gguf_tensor*> by_name_;
};

/// The header is written first, then each tensor is appended to in pieces; different tensors may take turns.
class gguf_writer {
 public:
  /// @param header  begin and bytes of its tensors are ignored; they follow from the order.
  /// @param existing  what becomes of a file that is there.
  /// An error as format_gguf_header, and for a file that cannot be created.
  [[nodiscard]] static file_result<gguf_writer> create(const std::string& path, gguf_header header,
                                                       stop_function stop = {},
                                                       existing_file existing = existing_file::replace);

  /// With the places of the tensors filled in.
  [[nodiscard]] const gguf_header& header() const noexcept { return header_; }
  /// Of the whole file, when it is complete.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_bytes_; }

  /// The next bytes of the tensor called `name`, as they shall stand in the file.
  file_result<void> append(std::string_view name, std::span<const std::byte> bytes);

  /// Gives the file its name; an error where a tensor is not complete; the file does not appear then.
  file_result<void> commit();

 private:
  gguf_writer(const std::string& path, gguf_header header, stop_function stop, existing_file existing);

  output_file file_;
  gguf_header header_;
  std::uint64_t data_begin_ = 0, file_bytes_ = 0;
  std::vector<std::uint64_t> written_;  // bytes of each tensor
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace mxfp4::io

// src/io/safetensors_reader.cpp -- the fixed part of the file in front of the header, and ranges of data.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/safetensors_reader.hpp"

#include <algorithm>
#include <array>

#include "io/content_hash.hpp"
#include "io/foreign_file.hpp"
#include "io/guarded.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

file_result<safetensors_reader> safetensors_reader::open(const std::string& path) {
  return guarded([&] { return safetensors_reader(path); });
}

safetensors_reader::safetensors_reader(const std::string& path) : file_(input_file::open(path).value()) {
  constexpr std::uint64_t length_bytes = 8;
  std::string begin(std::min<std::uint64_t>(file_.size(), foreign_file_bytes), '\0');
  file_.read(0, std::as_writable_bytes(std::span(begin))).value();
  if (const foreign_file* foreign = find_foreign_file(begin))
    throw file_error({.file = path,
                      .value = std::string("is ") + foreign->kind + architecture_of_gguf(path),
                      .expected = "a safetensors file",
                      .advice = foreign->advice});
  if (file_.size() < length_bytes)
    throw file_error({.file = path,
                      .value = "holds " + std::to_string(file_.size()) + " bytes",
                      .expected = "at least 8, the length of a header",
                      .advice = "this is not a safetensors file"});
  std::array<std::byte, length_bytes> length{};
  file_.read(0, length).value();
  const std::uint64_t header_bytes = load_u64(length);
  if (header_bytes > safetensors_header_limit)
    throw file_error({.file = path,
                      .value = "the header's length is " + std::to_string(header_bytes),
                      .expected = "at most " + std::to_string(safetensors_header_limit),
                      .advice = "this is not a safetensors file"});
  if (header_bytes > file_.size() - length_bytes)
    throw file_error({.file = path,
                      .value = "the header's length is " + std::to_string(header_bytes) + ", the file holds " +
                               std::to_string(file_.size() - length_bytes) + " bytes behind it",
                      .advice = "the file was truncated"});
  std::string text(header_bytes, '\0');
  file_.read(length_bytes, std::as_writable_bytes(std::span(text))).value();
  data_begin_ = length_bytes + header_bytes;
  content_hash hash;
  hash.add(length);
  hash.add(text);
  header_hash_ = hash.text();
  header_ = parse_header(text, file_.size() - data_begin_, path).value();
  for (const tensor_info& t : header_.tensors) by_name_.emplace(t.name, &t);
}

const tensor_info* safetensors_reader::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

file_result<void> safetensors_reader::read(const tensor_info& tensor, std::uint64_t offset,
                                           std::span<std::byte> bytes) const {
  if (offset > tensor.bytes() || bytes.size() > tensor.bytes() - offset)
    return file_error({.file = path(),
                       .tensor = tensor.name,
                       .value = "read of " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset),
                       .expected = "to stay within " + std::to_string(tensor.bytes())});
  return file_.read(data_begin_ + tensor.begin + offset, bytes);
}

}  // namespace mxfp4::io

// src/io/safetensors_writer.cpp -- order, offsets, header; then every tensor at its place.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/safetensors_writer.hpp"

#include <algorithm>
#include <utility>

#include "io/content_hash.hpp"
#include "io/guarded.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

file_result<safetensors_writer> safetensors_writer::create(const std::string& path, std::vector<tensor_info> tensors,
                                                           std::optional<metadata> extra, stop_function stop,
                                                           existing_file existing) {
  return guarded(
      [&] { return safetensors_writer(path, std::move(tensors), std::move(extra), std::move(stop), existing); });
}

safetensors_writer::safetensors_writer(const std::string& path, std::vector<tensor_info> tensors,
                                       std::optional<metadata> extra, stop_function stop, existing_file existing)
    : file_(output_file::create(path, std::move(stop), existing).value()),
      header_{std::move(tensors), std::move(extra)},
      written_(header_.tensors.size()) {
  std::sort(header_.tensors.begin(), header_.tensors.end(), [](const tensor_info& a, const tensor_info& b) {
    return a.type != b.type ? a.type > b.type : a.name < b.name;
  });
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) {
    tensor_info& t = header_.tensors[i];
    if (t.name == "__metadata__")
      throw file_error(
          {.file = path, .tensor = t.name, .value = "this name is the format's own", .expected = "another"});
    if (!by_name_.emplace(t.name, i).second)
      throw file_error({.file = path, .tensor = t.name, .value = "is there twice", .expected = "once"});
    t.begin = end;
    t.end = end += value_at(tensor_bytes(t.type, t.shape), path, t.name);
  }
  const std::string text = format_header(header_);
  if (text.size() - 8 > safetensors_header_limit)
    throw file_error({.file = path,
                      .value = "the header would have " + std::to_string(text.size() - 8) + " bytes",
                      .expected = "at most " + std::to_string(safetensors_header_limit),
                      .advice = "split the file"});
  data_begin_ = text.size();
  header_hash_ = hash_of(text);
  file_.write(0, std::as_bytes(std::span(text))).value();
}

std::uint64_t safetensors_writer::file_bytes() const noexcept {
  return data_begin_ + (header_.tensors.empty() ? 0 : header_.tensors.back().end);
}

file_result<void> safetensors_writer::append(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end())
    return file_error({.file = file_.path(), .tensor = std::string(name), .value = "is not in the header"});
  const tensor_info& t = header_.tensors[found->second];
  std::uint64_t& written = written_[found->second];
  if (bytes.size() > t.bytes() - written)
    return file_error({.file = file_.path(),
                       .tensor = std::string(name),
                       .value = std::to_string(written + bytes.size()) + " bytes were written",
                       .expected = std::to_string(t.bytes())});
  auto done = file_.write(data_begin_ + t.begin + written, bytes);
  if (done) written += bytes.size();
  return done;
}

file_result<void> safetensors_writer::commit() {
  for (std::size_t i = 0; i < written_.size(); ++i)
    if (const tensor_info& t = header_.tensors[i]; written_[i] != t.bytes())
      return file_error({.file = file_.path(),
                         .tensor = t.name,
                         .value = std::to_string(written_[i]) + " bytes were written",
                         .expected = std::to_string(t.bytes())});
  return file_.commit();
}

}  // namespace mxfp4::io

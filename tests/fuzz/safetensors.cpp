// tests/fuzz/safetensors.cpp -- any bytes as a safetensors file: accepted and consistent, or refused with a message.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "memory_file.hpp"
#include "mxfp4/io/safetensors_reader.hpp"

namespace {

using namespace mxfp4::io;
using mxfp4::test::memory_file, mxfp4::test::require;

void check_accepted(const safetensors_reader& reader, std::size_t file_size) {
  std::uint64_t end = 0;
  for (const tensor_info& tensor : reader.header().tensors) {
    require(tensor.begin == end && tensor.end >= tensor.begin);  // no gap, no overlap
    require(tensor.bytes() == tensor_bytes(tensor.type, tensor.shape).value());
    require(reader.find(tensor.name) == &tensor);
    end = tensor.end;
    std::vector<std::byte> bytes(tensor.bytes());
    reader.read(tensor, 0, bytes).value();
    require(static_cast<std::uint64_t>(tensor.elements()) * static_cast<std::uint64_t>(dtype_bits(tensor.type)) ==
            8 * tensor.bytes());
    std::byte beyond{};
    try {
      reader.read(tensor, tensor.bytes(), {&beyond, 1}).value();
      require(false);
    } catch (const file_error&) {
    }
  }
  require(end <= file_size);
  const std::string text = format_header(reader.header());  // what we write, we read as the same
  const safetensors_header again = parse_header(std::string_view(text).substr(8), end, "again").value();
  require(again.tensors.size() == reader.header().tensors.size() && again.extra == reader.header().extra);
  for (std::size_t i = 0; i < again.tensors.size(); ++i) {
    const tensor_info &a = again.tensors[i], &b = reader.header().tensors[i];
    require(a.name == b.name && a.type == b.type && a.shape == b.shape && a.begin == b.begin && a.end == b.end);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const memory_file file;
  try {
    check_accepted(safetensors_reader::open(file.hold(data, size)).value(), size);
  } catch (const file_error& e) {
    require(std::string_view(e.what()).size() > 10);
  }
  return 0;
}

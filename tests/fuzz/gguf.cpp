// tests/fuzz/gguf.cpp -- any bytes as a GGUF file: accepted and consistent, or refused with a message.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "memory_file.hpp"
#include "mxfp4/io/gguf_file.hpp"

namespace {

using namespace mxfp4::io;
using mxfp4::test::memory_file, mxfp4::test::require;

void check_accepted(const gguf_reader& reader, std::size_t file_size) {
  std::uint64_t bytes = 0;
  for (const gguf_tensor& tensor : reader.header().tensors) {
    require(tensor.begin >= bytes && tensor.begin % reader.header().alignment == 0);
    require(tensor.bytes == gguf_tensor_bytes(tensor.type, tensor.shape).value());
    require(reader.find(tensor.name) == &tensor);
    bytes = tensor.begin + tensor.bytes;
    require(bytes <= file_size);
    std::vector<std::byte> data(tensor.bytes);
    reader.read(tensor, 0, data).value();
    std::byte beyond{};
    try {
      reader.read(tensor, tensor.bytes, {&beyond, 1}).value();
      require(false);
    } catch (const file_error&) {
    }
  }
  gguf_header again = reader.header();  // the same tensors in the same order have the same places
  std::erase_if(again.pairs, [](const gguf_pair& p) { return p.key != gguf_alignment_key; });
  require(format_gguf_header(again, "again").value().size() % again.alignment == 0);
  for (std::size_t i = 0; i < again.tensors.size(); ++i)
    require(again.tensors[i].begin == reader.header().tensors[i].begin &&
            again.tensors[i].bytes == reader.header().tensors[i].bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const memory_file file;
  try {
    check_accepted(gguf_reader::open(file.hold(data, size)).value(), size);
  } catch (const file_error& e) {
    require(std::string_view(e.what()).size() > 10);
  }
  return 0;
}

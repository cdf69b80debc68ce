// What a program does first with mxfp4::io: write a safetensors file and a GGUF file, read them again, be refused one.
#include <array>
#include <cstdio>
#include <cstring>
#include <span>

#include "mxfp4/io/gguf_file.hpp"
#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

using namespace mxfp4::io;

int main() {
  const std::array<std::byte, 4> data{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  safetensors_writer out =
      safetensors_writer::create("x.safetensors", {{"x", dtype::u8, {2, 2}}}, metadata{{"format", "pt"}}).value();
  out.append("x", data).value();
  out.commit().value();
  const safetensors_reader in = safetensors_reader::open("x.safetensors").value();
  std::array<std::byte, 4> back{};
  in.read(*in.find("x"), 0, back).value();
  if (back != data) return std::puts("the bytes of x differ"), 1;

  gguf_header header;
  header.tensors = {{"x", ggml_type::i8, {2, 2}}};
  gguf_writer ggml = gguf_writer::create("x.gguf", header).value();
  ggml.append("x", data).value();
  ggml.commit().value();
  const gguf_reader again = gguf_reader::open("x.gguf").value();
  again.read(*again.find("x"), 0, back).value();
  if (back != data) return std::puts("the bytes of x in GGUF differ"), 1;

  try {
    const safetensors_reader refused = safetensors_reader::open("x.gguf").value();
  } catch (const file_error& error) {
    return std::puts(error.what()), std::strstr(error.what(), "x.gguf") == nullptr ? 1 : 0;
  }
  return std::puts("a GGUF file was read as safetensors"), 1;
}

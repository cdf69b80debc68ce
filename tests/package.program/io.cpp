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
  safetensors_writer out("x.safetensors", {{"x", dtype::u8, {2, 2}}}, metadata{{"format", "pt"}});
  out.append("x", data);
  out.commit();
  const safetensors_reader in("x.safetensors");
  std::array<std::byte, 4> back{};
  in.read(*in.find("x"), 0, back);
  if (back != data) return std::puts("the bytes of x differ"), 1;

  gguf_header header;
  header.tensors = {{"x", ggml_type::i8, {2, 2}}};
  gguf_writer ggml("x.gguf", header);
  ggml.append("x", data);
  ggml.commit();
  const gguf_reader again("x.gguf");
  again.read(*again.find("x"), 0, back);
  if (back != data) return std::puts("the bytes of x in GGUF differ"), 1;

  try {
    const safetensors_reader refused("x.gguf");
  } catch (const file_error& error) {
    return std::puts(error.what()), std::strstr(error.what(), "x.gguf") == nullptr ? 1 : 0;
  }
  return std::puts("a GGUF file was read as safetensors"), 1;
}

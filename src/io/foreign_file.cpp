// src/io/foreign_file.cpp -- see foreign_file.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "io/foreign_file.hpp"

#include <array>

#include "mxfp4/io/error.hpp"
#include "mxfp4/io/gguf_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

struct known_begin {
  std::string_view begin;
  foreign_file file;
};

constexpr std::string_view lfs_pointer = "version https://git-lfs";

constexpr const char* save_as_safetensors =
    "load the model with transformers and write it with save_pretrained, which makes .safetensors files";

constexpr std::array<known_begin, 8> known = {{
    {lfs_pointer,
     {"a pointer of Git LFS, which stands for the file that was not downloaded", "fetch it: git lfs pull"}},
    {"GGUF", {"a GGUF file", "mxfp4 convert reads those with MXFP4 tensors; quantise from the .safetensors files"}},
    {"PK\x03\x04", {"an archive of PyTorch (.bin, .pt)", save_as_safetensors}},
    {"\x80\x02", {"a pickle of Python (.bin, .pt)", save_as_safetensors}},
    {"\x80\x04", {"a pickle of Python (.bin, .pt)", save_as_safetensors}},
    {"\x89HDF", {"an HDF5 file", save_as_safetensors}},
    {"<!DOCTYPE", {"a web page", "download the file itself"}},
    {"<html", {"a web page", "download the file itself"}},
}};

}  // namespace

const foreign_file* find_foreign_file(std::string_view begin) noexcept {
  // A safetensors file: the length of its header is below 2^32, and its low bytes may be any of these; then the header.
  if (begin.size() > 8 && begin.substr(4, 5) == std::string_view("\0\0\0\0{", 5)) return nullptr;
  for (const known_begin& k : known)
    if (begin.starts_with(k.begin)) return &k.file;
  return nullptr;
}

std::string architecture_of_gguf(const std::string& path) {
  const file_result<gguf_reader> file = gguf_reader::open(path);
  const std::string* const name = file ? file->header().find_string("general.architecture") : nullptr;
  return name == nullptr ? std::string() : " of the architecture " + quote_name(*name);
}

bool is_lfs_pointer(std::string_view begin) noexcept { return begin.starts_with(lfs_pointer); }

}  // namespace mxfp4::io

// src/checkpoint/unmarked_pair.cpp -- see unmarked_pair.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/unmarked_pair.hpp"

#include <string_view>

#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

std::optional<unmarked_pair> find_unmarked_pair(const tensor_info& codes, const find_function& find) {
  constexpr std::string_view weight_suffix = ".weight";
  const bool quark = codes.type == dtype::u8;
  if ((!quark && codes.type != dtype::i8) || (codes.shape.size() != 2 && codes.shape.size() != 3)) return std::nullopt;
  if (codes.shape.back() % block_code_bytes != 0) return std::nullopt;
  const tensor_info* scales = nullptr;
  if (quark) {
    scales = find(codes.name + scale_suffix);
    if (find(codes.name + scale_suffix + "_2") != nullptr) return std::nullopt;
  } else if (codes.name.ends_with(weight_suffix)) {
    scales = find(codes.name.substr(0, codes.name.size() - weight_suffix.size()) + ".scale");
  }
  if (scales == nullptr || scales->type != (quark ? dtype::u8 : dtype::f8_e8m0)) return std::nullopt;
  std::vector<std::int64_t> expected = codes.shape;
  expected.back() /= block_code_bytes;
  if (scales->shape != expected) return std::nullopt;
  return unmarked_pair{quark ? weight_form::quark : weight_form::deepseek_v4, scales};
}

}  // namespace mxfp4::checkpoint

// src/checkpoint/unmarked_pair.cpp -- see unmarked_pair.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/unmarked_pair.hpp"

#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

std::optional<unmarked_pair> find_unmarked_pair(const tensor_info& codes, const find_function& find) {
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

void require_fp4(const std::vector<mxfp4_weight>& weights, const nlohmann::ordered_json& config,
                 const std::string& where) {
  const auto quark = json_member_or_null(json_member_or_null(config, "quantization_config"), "global_quant_config");
  const auto weight = json_member_or_null(quark, "weight");
  std::string type = json_text_member(weight, "dtype");
  if (type == "mx") type = json_text_member(weight, "mx_element_dtype");
  if (type.empty() || type == "fp4") return;
  for (const mxfp4_weight& w : weights)
    if (w.form == weight_form::quark)
      throw file_error({.file = where,
                        .tensor = w.name,
                        .value = "is of type " + quote_name(type) + " by Quark's config",
                        .expected = "'fp4'",
                        .advice = "dequantise it with the program that wrote it"});
}

}  // namespace mxfp4::checkpoint

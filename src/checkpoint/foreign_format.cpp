// src/checkpoint/foreign_format.cpp -- see foreign_format.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/foreign_format.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "checkpoint/family.hpp"
#include "io/foreign_file.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/quantize.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

struct known_format {
  const char* text;
  codes_are use;
};

/// What holds codes under this name and type, whatever config.json says; nullopt for none.
[[nodiscard]] std::optional<known_format> format_of(const tensor_info& t,
                                                    const std::unordered_set<std::string_view>& names) {
  const std::string_view name = t.name;
  const auto has = [&](std::string_view suffix, std::string_view other) {
    return name.ends_with(suffix) &&
           names.contains(std::string(name.substr(0, name.size() - suffix.size())) + std::string(other));
  };
  if (t.type == dtype::f4) return known_format{"F4, four bits in a type of safetensors", codes_are::refused};
  if (t.type == dtype::f6_e2m3 || t.type == dtype::f6_e3m2)
    return known_format{"F6, six bits in a type of safetensors", codes_are::refused};
  if (name.ends_with(".qweight")) return known_format{"GPTQ or AWQ", codes_are::refused};
  if (name.find(".weight.quant_state.") != std::string_view::npos || has(".weight", ".weight.absmax"))
    return known_format{"bitsandbytes", codes_are::refused};
  if (name.ends_with(".SCB") || has(".weight", ".SCB"))
    return known_format{"bitsandbytes' LLM.int8()", codes_are::refused};
  if (name.ends_with("_packed") && t.type == dtype::i32) {
    if (has("_packed", "_zero_point") || has("_packed", "_g_idx"))
      return known_format{"integers of compressed-tensors (pack-quantized) with zero points or activation order",
                          codes_are::refused};
    return known_format{"integers of compressed-tensors (pack-quantized)", codes_are::dequantized};
  }
  if (name.ends_with("_packed") && t.type == dtype::u8)
    return has("_packed", "_global_scale") ? known_format{"NVFP4 of compressed-tensors", codes_are::dequantized}
                                           : known_format{"MXFP4 of compressed-tensors", codes_are::mxfp4};
  if (t.type == dtype::u8 && has("_blocks", "_scales")) return known_format{"MXFP4 of gpt-oss", codes_are::mxfp4};
  if (t.type == dtype::u8 && has(".weight", ".weight_scale_2"))
    return known_format{"NVFP4 of ModelOpt", codes_are::dequantized};
  if (t.type == dtype::u8 && has(".weight", ".weight_scale"))
    return known_format{"MXFP4 of Quark or ModelOpt", codes_are::mxfp4};
  if (t.type == dtype::i8 && has(".weight", ".scale")) return known_format{"MXFP4 of DeepSeek-V4", codes_are::mxfp4};
  if (t.type == dtype::i8 && has(".weight", ".weight_scale")) {
    if (has(".weight", ".weight_zero_point") || has(".weight", ".weight_g_idx"))
      return known_format{"INT8 of compressed-tensors (int-quantized) with zero points or activation order",
                          codes_are::refused};
    return known_format{"INT8 of compressed-tensors (int-quantized)", codes_are::dequantized};
  }
  if (t.type == dtype::u32 && has(".weight", ".scales")) return known_format{"MLX", codes_are::refused};
  if (t.type == dtype::f8_e5m2) return known_format{"FP8 without block scales", codes_are::refused};
  return std::nullopt;
}

/// What no model computes with: integers, and numbers of eight bits or fewer, which need scales.
[[nodiscard]] bool is_code_type(dtype type, bool with_fp8) {
  switch (type) {
    case dtype::boolean:
    case dtype::f16:
    case dtype::bf16:
    case dtype::f32:
    case dtype::f64:
    case dtype::c64:
      return false;
    case dtype::f8_e4m3:
    case dtype::f8_e5m2:
    case dtype::f8_e4m3fnuz:
    case dtype::f8_e5m2fnuz:
      return with_fp8;
    case dtype::f8_e8m0:  // a scale
      return false;
    default:
      return true;
  }
}

/// A weight or codes of one by its name, and no buffer that GGUF calls X.weight (blk.0.ffn_gate_tid2eid.weight).
[[nodiscard]] bool is_code_name(const tensor_info& t) {
  constexpr std::string_view weight = ".weight";
  constexpr std::array<std::string_view, 4> buffers = {"_ids", "mask", "_index", "tid2eid"};
  constexpr std::array<std::string_view, 8> codes = {"weight", "W_q",   "_data",   "_packed",
                                                     "codes",  "_proj", "_blocks", "_quantized"};
  std::string_view name = t.name;
  const auto ends = [&name](std::string_view ending) { return name.ends_with(ending); };
  if (std::any_of(codes.begin(), codes.end(), ends) || is_expert_weight(t.name, t.shape.size())) {
    if (name.ends_with(weight)) name.remove_suffix(weight.size());
    return std::none_of(buffers.begin(), buffers.end(), ends);
  }
  return false;
}

[[nodiscard]] std::string unknown_codes_text(const tensor_info& t) {
  return std::string(dtype_name(t.type)) + " " + shape_text(t.shape) + ", codes of a format that is not known";
}

/// "config.json (odd), config.json: text_config (fp8)": where it and its parts tell of a quantization, and of which.
[[nodiscard]] std::string places_of_quantization(const ordered_json& config, const std::string& place) {
  std::string places;
  if (!config.is_object()) return places;
  for (const auto& [key, value] : config.items()) {
    std::string found;
    if (key == "quantization_config" && value.is_object()) {
      const std::string method = json_text_member(value, "quant_method");
      found = place + (method.empty() ? "" : " (" + method + ")");
    } else if (value.is_object()) {
      found = places_of_quantization(value, place + (place.ends_with(".json") ? ": " : ".") + key);
    }
    if (!found.empty()) places += (places.empty() ? "" : ", ") + found;
  }
  return places;
}

/// What config.json calls it.
[[nodiscard]] std::string name_in(const ordered_json& config) {
  if (!config.is_object()) return {};
  const auto found = config.find("quantization_config");
  if (found == config.end()) return {};
  const std::string method = json_text_member(*found, "quant_method"), format = json_text_member(*found, "format");
  if (method.empty()) return {};
  return "; config.json calls it " + method + (format.empty() ? "" : ", " + format);
}

}  // namespace

foreign_weights find_foreign_weights(const std::vector<tensor_info>& tensors, const ordered_json& config) {
  std::unordered_set<std::string> names;
  std::unordered_set<std::string_view> views;
  const auto is_judged = [](const tensor_info& t) { return t.type != dtype::f8_e4m3; };
  for (const tensor_info& t : tensors)
    if (is_judged(t)) views.insert(*names.insert(t.name).first);
  foreign_weights first;
  for (const tensor_info& t : tensors) {
    const std::optional<known_format> format = is_judged(t) ? format_of(t, views) : std::nullopt;
    if (!format || (!first.tensor.empty() && format->use != codes_are::refused)) continue;
    first = {t.name, format->text + name_in(config), format->use};
    if (format->use == codes_are::refused) break;
  }
  return first;
}

const tensor_info* find_unknown_codes(const std::vector<tensor_info>& tensors, bool with_fp8) {
  std::unordered_set<std::string_view> names;
  for (const tensor_info& t : tensors) names.insert(t.name);
  for (const tensor_info& t : tensors)
    if (t.shape.size() >= 2 && is_code_type(t.type, with_fp8) && is_code_name(t) && !format_of(t, names)) return &t;
  return nullptr;
}

foreign_weights find_codes(const std::vector<tensor_info>& tensors, const ordered_json& config) {
  foreign_weights found = find_foreign_weights(tensors, config);
  if (!found.tensor.empty() && found.use == codes_are::refused) return found;
  if (const tensor_info* t = find_unknown_codes(tensors, false))
    return {t->name, unknown_codes_text(*t) + name_in(config), codes_are::refused};
  return found;
}

std::string way_to_weights(codes_are use) {
  switch (use) {
    case codes_are::dequantized:
      return "mxfp4 dequantize makes BF16 of it, which can be quantised";
    case codes_are::mxfp4:
      return "mxfp4 dequantize makes BF16 of it, which can be quantised, mxfp4 convert another form of MXFP4";
    case codes_are::refused:
      break;
  }
  return "dequantise it with the program that wrote it, and quantise the result";
}

std::string untold_quantization(const std::vector<tensor_info>& tensors, const ordered_json& config,
                                const std::vector<std::string>& files) {
  const auto is_fp8 = [](const tensor_info& t) { return t.type == dtype::f8_e4m3 || t.type == dtype::f8_e5m2; };
  if (std::any_of(tensors.begin(), tensors.end(), is_fp8)) return {};
  std::string told = places_of_quantization(config, "config.json");
  for (const std::string& file : files)
    if (describes_quantization(file) && file != report_file_name) told += (told.empty() ? "" : ", ") + file;
  if (told.empty()) return {};
  return told + " tells of a quantization, and no tensor is quantised: the result does not tell of it";
}

void require_no_unknown_codes(const std::vector<tensor_info>& tensors, bool with_fp8, const std::string& where) {
  if (const tensor_info* t = find_unknown_codes(tensors, with_fp8))
    throw not_readable(where, t->name, unknown_codes_text(*t));
}

file_error not_readable(const std::string& where, const std::string& tensor, const std::string& format) {
  return file_error(
      {.file = where,
       .tensor = tensor,
       .value = "is " + format,
       .expected = "MXFP4, FP8 with scales, symmetric INT4 or INT8 of compressed-tensors, NVFP4, or weights",
       .advice = "dequantise it with the program that wrote it"});
}

void require_weights(const std::vector<tensor_info>& tensors, const ordered_json& config,
                     const std::string& directory) {
  if (const foreign_weights found = find_codes(tensors, config); !found.tensor.empty())
    throw file_error({.file = directory,
                      .tensor = found.tensor,
                      .value = "is quantised already: " + found.format,
                      .expected = "weights in F32, F16, BF16 or FP8 with scales",
                      .advice = way_to_weights(found.use)});
}

bool describes_quantization(const std::string& file) {
  constexpr std::array<std::string_view, 5> names = {report_file_name, "hf_quant_config.json", "quantize_config.json",
                                                     "quant_config.json", "quantization_config.json"};
  return std::find(names.begin(), names.end(), file) != names.end();
}

bool is_weights_file(const std::string& name) {
  constexpr std::array<const char*, 9> endings = {
      ".safetensors", ".safetensors.index.json", ".bin.index.json", ".gguf", ".pt", ".pth", ".h5", ".msgpack", ".onnx"};
  return std::any_of(endings.begin(), endings.end(), [&](const char* e) { return name.ends_with(e); }) ||
         (name.starts_with("pytorch_model") && name.ends_with(".bin"));
}

file_error no_safetensors(const std::string& folder, const std::string& file) {
  return file_error({.file = folder,
                     .value = "holds weights as " + quote_name(file) + architecture_of_gguf(folder + "/" + file) +
                              " and no .safetensors file",
                     .expected = "safetensors",
                     .advice = file.ends_with(".gguf")
                                   ? "mxfp4 convert reads a GGUF file with MXFP4 tensors; quantise from the original"
                                   : "load the model with transformers and write it with save_pretrained"});
}

}  // namespace mxfp4::checkpoint

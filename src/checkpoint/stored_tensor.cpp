// src/checkpoint/stored_tensor.cpp -- see stored_tensor.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/stored_tensor.hpp"

#include <optional>
#include <string_view>
#include <unordered_set>

#include "checkpoint/family.hpp"
#include "checkpoint/fp8_scales.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/unmarked_pair.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using shape_type = std::vector<std::int64_t>;

/// What is wrong with the scales of a tensor; empty for nothing.
[[nodiscard]] std::string why_no_scales(const checkpoint_tensor* scale, const std::string& name, dtype type,
                                        const shape_type& shape) {
  if (scale == nullptr) return "there is no " + quote_name(name);
  if (scale->info->type != type || scale->info->shape != shape)
    return quote_name(name) + " is " + described(*scale->info) + ", expected " + dtype_name(type) + " " +
           shape_text(shape);
  return {};
}

/// A tensor called X_packed.
[[nodiscard]] stored_tensor mxfp4_or_plain(const checkpoint_reader& checkpoint, const checkpoint_tensor& packed) {
  const tensor_info& t = *packed.info;
  stored_tensor s{t.name, storage::plain, t.shape, &packed, nullptr, ""};
  if (t.type != dtype::u8) {
    s.problem = std::string("is ") + dtype_name(t.type) + ", expected U8 codes";
  } else if (t.shape.size() != 2 && t.shape.size() != 3) {
    s.problem = "is " + std::to_string(t.shape.size()) + "-D, expected a matrix or a stack of them";
  } else if (t.shape.back() % block_code_bytes != 0) {
    s.problem = "has " + std::to_string(t.shape.back()) + " columns, expected a multiple of 16";
  } else {
    const std::string name = t.name.substr(0, t.name.rfind(packed_suffix));
    const checkpoint_tensor* scale = checkpoint.find(name + scale_suffix);
    shape_type expected = t.shape;
    expected.back() /= block_code_bytes;
    s.problem = why_no_scales(scale, name + scale_suffix, dtype::u8, expected);
    if (s.problem.empty()) {
      s.name = name;
      s.kind = storage::mxfp4;
      s.shape.back() *= 2;
      s.scale = scale;
    }
  }
  return s;
}

/// A tensor called X_blocks: a stack as gpt-oss has it, the codes of a row in blocks of 16 bytes.
[[nodiscard]] stored_tensor blocks_or_plain(const checkpoint_reader& checkpoint, const checkpoint_tensor& blocks) {
  const tensor_info& t = *blocks.info;
  stored_tensor s{t.name, storage::plain, t.shape, &blocks, nullptr, ""};
  if (t.type != dtype::u8) return s;
  if (t.shape.size() != 4 || t.shape[3] != block_code_bytes) {
    s.problem = "is " + described(t) + ", expected U8 [experts, rows, columns / 32, 16]";
    return s;
  }
  const std::string name = t.name.substr(0, t.name.rfind(blocks_suffix));
  const checkpoint_tensor* scale = checkpoint.find(name + scales_suffix);
  s.problem = why_no_scales(scale, name + scales_suffix, dtype::u8, {t.shape.begin(), t.shape.end() - 1});
  if (!s.problem.empty()) return s;
  s.name = name;
  s.kind = storage::mxfp4;
  s.form = weight_form::gpt_oss;
  s.shape = {t.shape[0], t.shape[1], t.shape[2] * block_size};
  s.scale = scale;
  return s;
}

[[nodiscard]] find_function infos_of(const checkpoint_reader& checkpoint) {
  return [&checkpoint](const std::string& name) -> const tensor_info* {
    const checkpoint_tensor* t = checkpoint.find(name);
    return t == nullptr ? nullptr : t->info;
  };
}

/// What config.json says of blocks of FP8; whoever asks for the config is told what is wrong with it.
[[nodiscard]] std::optional<scale_grid> block_size_of(const checkpoint_reader& checkpoint) {
  plan_options options;
  try {
    read_model(read_config(checkpoint), options);
  } catch (const file_error&) {
    return std::nullopt;
  }
  return options.fp8_grid;
}

[[nodiscard]] stored_tensor unmarked_or_plain(const checkpoint_reader& checkpoint, const checkpoint_tensor& tensor) {
  const tensor_info& t = *tensor.info;
  stored_tensor s{t.name, storage::plain, t.shape, &tensor, nullptr, ""};
  const std::optional<unmarked_pair> pair = find_unmarked_pair(t, infos_of(checkpoint));
  if (!pair) return s;
  s.kind = storage::mxfp4;
  s.form = pair->form;
  s.shape.back() *= 2;
  s.scale = checkpoint.find(pair->scales->name);
  return s;
}

[[nodiscard]] stored_tensor fp8_or_plain(const checkpoint_reader& checkpoint, const checkpoint_tensor& tensor,
                                         const std::optional<scale_grid>& block_size) {
  const tensor_info& t = *tensor.info;
  stored_tensor s{t.name, storage::plain, t.shape, &tensor, nullptr, ""};
  if (t.shape.size() != 2 && t.shape.size() != 3) {
    s.problem = "is " + std::to_string(t.shape.size()) + "-D, expected a matrix or a stack of them";
    return s;
  }
  const fp8_scales_result found = find_fp8_scales(t, infos_of(checkpoint), block_size);
  s.problem = found.why;
  if (found.scales != nullptr) {
    s.kind = storage::fp8;
    s.scale = checkpoint.find(found.scales->name);
    s.fp8_grid = found.grid;
  }
  return s;
}

}  // namespace

const char* stored_tensor::type_name() const noexcept {
  return kind == storage::mxfp4 ? "MXFP4" : dtype_name(data->info->type);
}

std::uint64_t stored_tensor::bytes() const noexcept {
  return data->info->bytes() + (scale != nullptr ? scale->info->bytes() : 0);
}

std::int64_t stored_tensor::elements() const noexcept {
  return data->info->elements() * (kind == storage::mxfp4 ? 2 : 1);
}

std::vector<stored_tensor> stored_tensors(const checkpoint_reader& checkpoint) {
  std::vector<stored_tensor> found;
  std::unordered_set<const tensor_info*> scales;
  const std::optional<scale_grid> block_size = block_size_of(checkpoint);
  for (const checkpoint_tensor& t : checkpoint.tensors()) {
    const std::string_view name = t.info->name;
    if (name.size() > std::string_view(packed_suffix).size() && name.ends_with(packed_suffix))
      found.push_back(mxfp4_or_plain(checkpoint, t));
    else if (name.size() > std::string_view(blocks_suffix).size() && name.ends_with(blocks_suffix))
      found.push_back(blocks_or_plain(checkpoint, t));
    else if (t.info->type == dtype::f8_e4m3) found.push_back(fp8_or_plain(checkpoint, t, block_size));
    else found.push_back(unmarked_or_plain(checkpoint, t));
    if (found.back().scale != nullptr) scales.insert(found.back().scale->info);
  }
  std::erase_if(found, [&scales](const stored_tensor& s) { return scales.contains(s.data->info); });
  return found;
}

}  // namespace mxfp4::checkpoint

// src/checkpoint/mxfp4_weights.cpp -- pairs by name, type and shape; rows at a distance; ggml's blocks taken apart.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/mxfp4_weights.hpp"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "checkpoint/ggml_blocks.hpp"
#include "checkpoint/narrow_weights.hpp"
#include "checkpoint/unmarked_pair.hpp"
#include "mxfp4/core/e8m0.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using shape_type = std::vector<std::int64_t>;

/// How the two tensors of a form are called and shaped.
struct pair_form {
  weight_form form;
  const char* codes_suffix;
  const char* scales_suffix;
  std::size_t code_dimensions;  // at the end, that hold the codes of a row
};
constexpr pair_form pair_forms[] = {
    {weight_form::compressed_tensors, "_packed", "_scale", 1},
    {weight_form::gpt_oss, "_blocks", "_scales", 2},
};

[[nodiscard]] const pair_form* form_of(const tensor_info& codes, const find_function& find) {
  for (const pair_form& f : pair_forms)
    if (codes.name.ends_with(f.codes_suffix) && codes.type == dtype::u8) {
      const std::string name = codes.name.substr(0, codes.name.size() - std::string_view(f.codes_suffix).size());
      return find(name + "_global_scale") != nullptr ? nullptr : &f;  // NVFP4 has one
    }
  return nullptr;
}

/// The weight's shape; nullopt where codes of this form do not have such a shape.
[[nodiscard]] std::optional<shape_type> weight_shape(const pair_form& f, const shape_type& codes) {
  if (codes.size() < 1 + f.code_dimensions) return std::nullopt;
  shape_type shape(codes.begin(), codes.end() - static_cast<std::ptrdiff_t>(f.code_dimensions - 1));
  if (f.form == weight_form::gpt_oss) {
    if (codes.back() != block_code_bytes || shape.size() != 3) return std::nullopt;
    shape.back() *= block_size;
  } else {
    if (codes.back() % block_code_bytes != 0 || shape.size() > 3) return std::nullopt;
    shape.back() *= 2;
  }
  return shape;
}

[[nodiscard]] read_function reader_of(const checkpoint_reader& checkpoint, const checkpoint_tensor& tensor) {
  return [&checkpoint, tensor](std::uint64_t offset, std::span<std::byte> bytes) {
    checkpoint.read(tensor, offset, bytes).value();
  };
}

/// Scale byte 255 over codes of zero becomes 0 over 0. @return how many blocks.
[[nodiscard]] std::int64_t clean_zero_blocks(std::span<std::uint8_t> codes, std::span<std::uint8_t> scales) {
  constexpr unsigned magnitudes = 0x77;  // of both codes of a byte
  std::int64_t cleaned = 0;
  for (std::size_t b = 0; b < scales.size(); ++b) {
    const auto block = codes.subspan(b * block_code_bytes, block_code_bytes);
    if (scales[b] != static_cast<std::uint8_t>(e8m0::nan) ||
        std::any_of(block.begin(), block.end(), [](std::uint8_t byte) { return (byte & magnitudes) != 0; }))
      continue;
    scales[b] = 0;
    std::fill(block.begin(), block.end(), std::uint8_t{0});
    ++cleaned;
  }
  return cleaned;
}

[[nodiscard]] std::int64_t product(const shape_type& shape, std::size_t count) noexcept {
  std::int64_t n = 1;
  for (std::size_t i = 0; i < count; ++i) n *= shape[i];
  return n;
}

}  // namespace

std::int64_t mxfp4_weight::rows() const noexcept { return product(shape, shape.size() - 1); }

weight_list find_weights(const checkpoint_reader& checkpoint) {
  weight_list list;
  std::unordered_set<const tensor_info*> scales_found;
  std::vector<checkpoint_tensor> others;
  const find_function infos = [&checkpoint](const std::string& name) -> const tensor_info* {
    const checkpoint_tensor* t = checkpoint.find(name);
    return t == nullptr ? nullptr : t->info;
  };
  for (const checkpoint_tensor& t : checkpoint.tensors()) {
    const pair_form* form = form_of(*t.info, infos);
    if (form == nullptr) {
      if (const std::optional<unmarked_pair> pair = find_unmarked_pair(*t.info, infos)) {
        shape_type shape = t.info->shape;
        shape.back() *= 2;
        scales_found.insert(pair->scales);
        list.weights.push_back({t.info->name, pair->form, std::move(shape), reader_of(checkpoint, t),
                                reader_of(checkpoint, *checkpoint.find(pair->scales->name))});
        continue;
      }
      others.push_back(t);
      continue;
    }
    const std::string& codes = t.info->name;
    const std::string name = codes.substr(0, codes.size() - std::string_view(form->codes_suffix).size());
    const std::optional<shape_type> shape = weight_shape(*form, t.info->shape);
    if (!shape)
      throw file_error(
          {.file = checkpoint.path(),
           .tensor = codes,
           .value = "has the shape " + shape_text(t.info->shape),
           .expected = (form->form == weight_form::gpt_oss ? "[experts, rows, columns / 32, 16]"
                                                           : "[rows, columns / 2] or [experts, rows, columns / 2] with "
                                                             "whole blocks of 16 bytes")});
    shape_type expected = *shape;
    expected.back() /= block_size;
    const checkpoint_tensor* scales = checkpoint.find(name + form->scales_suffix);
    if (scales == nullptr)
      throw file_error({.file = checkpoint.path(),
                        .tensor = codes,
                        .value = "has no " + quote_name(name + form->scales_suffix) + " beside it",
                        .expected = "U8 " + shape_text(expected)});
    if (scales->info->type != dtype::u8 || scales->info->shape != expected)
      throw file_error({.file = checkpoint.path(),
                        .tensor = codes,
                        .value = std::string("its scales are ") + dtype_name(scales->info->type) + " " +
                                 shape_text(scales->info->shape),
                        .expected = "U8 " + shape_text(expected)});
    if (checkpoint.find(name) != nullptr)
      throw file_error({.file = checkpoint.path(),
                        .tensor = codes,
                        .value = "there is " + quote_name(name) + " too",
                        .expected = "one of the two"});
    scales_found.insert(scales->info);
    list.weights.push_back({name, form->form, *shape, reader_of(checkpoint, t), reader_of(checkpoint, *scales)});
  }
  for (const checkpoint_tensor& t : others)
    if (!scales_found.contains(t.info)) list.others.push_back({*t.info, reader_of(checkpoint, t)});
  return list;
}

weight_list find_weights(const gguf_reader& file, narrow_count& narrow) {
  weight_list list;
  for (const gguf_tensor& t : file.header().tensors) {
    const read_function read = [&file, &t](std::uint64_t offset, std::span<std::byte> bytes) {
      file.read(t, offset, bytes).value();
    };
    if (t.type == ggml_type::q8_0) {
      list.others.push_back(widen_q8_0(t.name, t.shape, read));
      ++narrow.integer;
      continue;
    }
    if (t.type != ggml_type::mxfp4) {
      list.others.push_back({{t.name, *safetensors_type_of(t.type), t.shape, 0, t.bytes}, read});
      continue;
    }
    if (t.shape.size() != 2 && t.shape.size() != 3)
      throw file_error({.file = file.path(),
                        .tensor = t.name,
                        .value = "MXFP4 " + shape_text(t.shape),
                        .expected = "a matrix or a stack of matrices"});
    list.weights.push_back({t.name, weight_form::ggml, t.shape, read, {}, list.cleaned});
  }
  return list;
}

void read_rows(const read_function& read, std::int64_t row_bytes, std::int64_t first, std::int64_t step,
               std::int64_t count, std::span<std::byte> out) {
  if (count == 0 || row_bytes == 0) return;
  const auto offset = static_cast<std::uint64_t>(first * row_bytes);
  if (step == 1) return read(offset, out);
  // One read and then a choice: the rows between are another job's, which finds them in the page cache.
  std::vector<std::byte> window(static_cast<std::size_t>(((count - 1) * step + 1) * row_bytes));
  read(offset, window);
  for (std::int64_t r = 0; r < count; ++r)
    std::copy_n(window.data() + r * step * row_bytes, row_bytes, out.data() + r * row_bytes);
}

void weight_rows::read(const fp8_tile& tile, std::vector<std::uint8_t>& codes,
                       std::vector<std::uint8_t>& scales) const {
  const std::int64_t first = first_ + tile.row * step_;
  codes.resize(static_cast<std::size_t>(tile.size() / 2));
  scales.resize(static_cast<std::size_t>(tile.size() / block_size));
  const auto read_tile = [&](const read_function& read, std::int64_t bytes_of_block, std::vector<std::uint8_t>& to) {
    const std::span<std::byte> out = std::as_writable_bytes(std::span(to));
    const std::int64_t row_bytes = cols() / block_size * bytes_of_block;
    if (tile.cols == cols()) return read_rows(read, row_bytes, first, step_, tile.rows, out);
    read(static_cast<std::uint64_t>(first * row_bytes + tile.col / block_size * bytes_of_block), out);
  };
  if (weight_->form != weight_form::ggml) {
    read_tile(weight_->codes, block_code_bytes, codes);
    read_tile(weight_->scales, 1, scales);
    return;
  }
  std::vector<std::uint8_t> blocks(static_cast<std::size_t>(tile.size() / block_size * block_bytes));
  read_tile(weight_->codes, block_bytes, blocks);
  from_ggml_blocks(blocks, codes, scales);
  *weight_->cleaned += clean_zero_blocks(codes, scales);
}

}  // namespace mxfp4::checkpoint

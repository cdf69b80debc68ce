// src/checkpoint/fp8_scales.cpp -- see fp8_scales.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/fp8_scales.hpp"

#include <algorithm>
#include <string_view>

#include "checkpoint/codec.hpp"
#include "checkpoint/exact_fp8.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using shape_type = std::vector<std::int64_t>;

constexpr const char* activation_suffixes[] = {".input_scale", ".activation_scale"};
constexpr std::int64_t mx_block = mxfp4::block_size;  // "block_size" is taken by what config.json says

[[nodiscard]] std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

/// The names that the scales of a weight may have, in the order in which they are looked for.
[[nodiscard]] std::vector<std::string> scale_names(const std::string& weight) {
  std::vector<std::string> names = {weight + fp8_scale_suffix, weight + scale_suffix};
  if (weight.ends_with(weight_suffix))
    names.push_back(weight.substr(0, weight.size() - weight_suffix.size()) + ".scale");
  return names;
}

/// What a scale is for where the scales of a matrix have this shape.
/// @param by_block  they go by the name that is of blocks alone.
[[nodiscard]] std::optional<scale_grid> grid_of(const shape_type& scales, bool bytes, bool by_block, std::int64_t rows,
                                                std::int64_t cols, const std::optional<scale_grid>& block_size) {
  const auto fits = [&](const scale_grid& g) {
    return scales.size() == 2 && scales[0] == ceil_div(rows, g.rows) && scales[1] == ceil_div(cols, g.cols);
  };
  const auto is_one = [](std::int64_t n) { return n == 1; };
  const scale_grid all{std::max<std::int64_t>(rows, 1), std::max<std::int64_t>(cols, 1)}, row{1, all.cols},
      of_32{1, mx_block};
  if (block_size && fits(*block_size)) return block_size;
  if (!block_size && fits({})) return scale_grid{};  // the usual one, where the config names none
  if (bytes && cols % mx_block == 0 && fits(of_32)) return of_32;
  if (scales.size() < 2 ? std::all_of(scales.begin(), scales.end(), is_one) : !by_block && fits(all)) return all;
  if (fits(row) || (scales.size() == 1 && scales[0] == rows)) return row;
  return std::nullopt;
}

}  // namespace

std::string described(const tensor_info& tensor) {
  return std::string(dtype_name(tensor.type)) + " " + shape_text(tensor.shape);
}

fp8_scales_result find_fp8_scales(const tensor_info& weight, const find_function& find,
                                  const std::optional<scale_grid>& block_size) {
  fp8_scales_result result;
  if (weight.shape.size() != 2 && weight.shape.size() != 3) {
    result.why = "F8_E4M3 and " + std::to_string(weight.shape.size()) + "-D, not a matrix";
    return result;
  }
  const tensor_info* found = nullptr;
  const std::vector<std::string> names = scale_names(weight.name);
  for (const std::string& name : names)
    if (found == nullptr) found = find(name);
  if (found == nullptr) {
    result.why = "F8_E4M3 without " + quote_name(names[0]) + " or " + quote_name(names[1]);
    return result;
  }
  const dtype type = found->type;
  const bool bytes = type == dtype::f8_e8m0 || type == dtype::u8;
  const std::int64_t rows = weight.shape[weight.shape.size() - 2], cols = weight.shape.back();
  shape_type of_matrix = found->shape;
  bool is_stack_of = weight.shape.size() == 2;
  if (weight.shape.size() == 3 && of_matrix.size() != 0 && of_matrix[0] == weight.shape[0]) {
    of_matrix.erase(of_matrix.begin());
    is_stack_of = true;
  }
  const bool one = found->elements() == 1;
  const std::optional<scale_grid> grid =
      is_stack_of || one ? grid_of(of_matrix, bytes, found->name.ends_with(fp8_scale_suffix), rows, cols, block_size)
                         : std::nullopt;
  const bool is_of_32 = grid && grid->rows == 1 && grid->cols == mx_block;
  if (!grid || (type != dtype::f32 && type != dtype::bf16 && type != dtype::f16 && !bytes) ||
      (type == dtype::u8 && !is_of_32)) {
    const scale_grid blocks = block_size.value_or(scale_grid{});
    shape_type expected = weight.shape;
    expected[expected.size() - 2] = ceil_div(rows, blocks.rows);
    expected.back() = ceil_div(cols, blocks.cols);
    result.why = "its scales " + quote_name(found->name) + " are " + described(*found) + ", not F32 " +
                 shape_text(expected) + " for blocks of " + std::to_string(blocks.rows) + " x " +
                 std::to_string(blocks.cols) + ", nor one for each row or for all";
    return result;
  }
  result.scales = found;
  result.grid = *grid;
  return result;
}

const tensor_info* fp8_owner_of_scales(const std::string& name, const find_function& find) {
  const auto owner = [&](std::string_view suffix, std::string_view then) -> const tensor_info* {
    if (!name.ends_with(suffix)) return nullptr;
    const tensor_info* t = find(name.substr(0, name.size() - suffix.size()) + std::string(then));
    return t != nullptr && t->type == dtype::f8_e4m3 ? t : nullptr;
  };
  for (const auto& [suffix, then] : {std::pair{std::string_view(fp8_scale_suffix), std::string_view()},
                                     {scale_suffix, ""},
                                     {".scale", weight_suffix}})
    if (const tensor_info* t = owner(suffix, then)) {
      const std::vector<std::string> names = scale_names(t->name);
      const auto first =
          std::find_if(names.begin(), names.end(), [&](const std::string& n) { return find(n) != nullptr; });
      return first != names.end() && *first == name ? t : nullptr;
    }
  return nullptr;
}

std::vector<std::string> fp8_activation_names(const std::string& weight) {
  if (!weight.ends_with(weight_suffix)) return {};
  const std::string module = weight.substr(0, weight.size() - weight_suffix.size());
  std::vector<std::string> names;
  for (const char* suffix : activation_suffixes) names.push_back(module + suffix);
  return names;
}

const tensor_info* fp8_owner_of_activations(const std::string& name, const find_function& find) {
  for (const std::string_view suffix : activation_suffixes) {
    if (!name.ends_with(suffix)) continue;
    const tensor_info* t = find(name.substr(0, name.size() - suffix.size()) + std::string(weight_suffix));
    if (t != nullptr && t->type == dtype::f8_e4m3) return t;
  }
  return nullptr;
}

fp8_scale_reader::fp8_scale_reader(const tensor_info& scales, scale_grid grid, std::int64_t rows, std::int64_t cols)
    : type_(scales.type),
      grid_(grid),
      bands_(ceil_div(rows, grid.rows)),
      across_(ceil_div(cols, grid.cols)),
      rows_(rows),
      cols_(cols),
      coarse_((grid.rows % fp8_block == 0 || grid.rows >= rows) && (grid.cols % fp8_block == 0 || grid.cols >= cols)),
      for_all_(scales.elements() == 1) {}

void fp8_scale_reader::read(const read_function& read, std::int64_t matrix, const fp8_tile& tile,
                            fp8_scale_tile& out) const {
  const auto size = static_cast<std::uint64_t>(dtype_bits(type_)) / 8;
  const std::int64_t first = tile.col / grid_.cols, count = ceil_div(tile.col + tile.cols, grid_.cols) - first;
  const std::int64_t band = tile.row / grid_.rows, bands = ceil_div(tile.row + tile.rows, grid_.rows) - band;
  std::vector<std::byte> bytes(static_cast<std::size_t>(bands * count) * size);
  const auto at = [&](std::int64_t b) {
    return for_all_ ? 0 : static_cast<std::uint64_t>((matrix * bands_ + b) * across_ + first) * size;
  };
  if (count == across_) {
    read(at(band), bytes);
  } else {
    const auto row_bytes = static_cast<std::size_t>(count) * size;
    for (std::int64_t b = 0; b < bands; ++b)
      read(at(band + b), std::span(bytes).subspan(static_cast<std::size_t>(b) * row_bytes, row_bytes));
  }
  std::vector<float> stored(static_cast<std::size_t>(bands * count));
  const auto convert = [&]<class T>(T) {
    std::vector<T> numbers(stored.size());
    std::copy_n(bytes.data(), bytes.size(), std::as_writable_bytes(std::span(numbers)).data());
    swap_if_big_endian(std::span(numbers));
    std::transform(numbers.begin(), numbers.end(), stored.begin(), [](T x) { return mxfp4::decode(x); });
  };
  if (type_ == dtype::f32) convert(float{});
  else if (type_ == dtype::bf16) convert(bf16{});
  else if (type_ == dtype::f16) convert(f16{});
  else convert(e8m0{});
  out.first_col = 0;
  if (!coarse_ || tile.col % fp8_block != 0) {
    out.rows = tile.rows;
    out.cols = count;
    out.rows_each = 1;
    out.cols_each = grid_.cols;
    out.first_col = tile.col - first * grid_.cols;
    out.values.resize(static_cast<std::size_t>(out.rows * out.cols));
    for (std::int64_t r = 0; r < out.rows; ++r)
      std::copy_n(stored.begin() + ((tile.row + r) / grid_.rows - band) * count, count,
                  out.values.begin() + r * out.cols);
    return;
  }
  out.rows = fp8_block_count(tile.rows);
  out.cols = fp8_block_count(tile.cols);
  out.rows_each = out.cols_each = fp8_block;
  out.values.resize(static_cast<std::size_t>(out.rows * out.cols));
  for (std::int64_t r = 0; r < out.rows; ++r)
    for (std::int64_t c = 0; c < out.cols; ++c) {
      const std::int64_t b = (tile.row + r * fp8_block) / grid_.rows - band;
      const std::int64_t k = (tile.col + c * fp8_block) / grid_.cols - first;
      out.values[static_cast<std::size_t>(r * out.cols + c)] = stored[static_cast<std::size_t>(b * count + k)];
    }
}

status widen_fp8_tile(const e4m3* w, const fp8_tile& tile, const fp8_scale_tile& scales, bf16* out) {
  if (scales.is_coarse())
    return codec::widen_fp8({w, tile.rows, tile.cols, tile.cols},
                            {scales.values.data(), scales.rows, scales.cols, scales.cols},
                            {out, tile.rows, tile.cols, tile.cols});
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const float* of_row = scales.values.data() + r * scales.cols;
    for (std::int64_t c = 0; c < tile.cols; ++c)
      out[r * tile.cols + c] = decode_scaled(w[r * tile.cols + c], of_row[(scales.first_col + c) / scales.cols_each]);
  }
  return {};
}

}  // namespace mxfp4::checkpoint

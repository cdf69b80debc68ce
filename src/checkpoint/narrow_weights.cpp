// src/checkpoint/narrow_weights.cpp -- runs of elements cut into tiles, and a few lines of arithmetic for each format.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/narrow_weights.hpp"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include "checkpoint/fp8_scales.hpp"
#include "io/guarded.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/core/e2m1.hpp"
#include "mxfp4/format/nibble.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

/// Writes the weights of a tile of a matrix, element after element.
using tile_function = std::function<void(std::int64_t matrix, const fp8_tile& tile, bf16* out)>;

constexpr std::int64_t run_weights = 1 << 18;  // that are in memory at a time beside the result

/// Reads bytes of a BF16 tensor [.., rows, cols] that `tile_of` computes. Tiles are parts of a row at both ends, and
/// whole rows between them, which never lie across the edge of a band of 128.
[[nodiscard]] read_function reader_of(std::int64_t rows, std::int64_t cols, tile_function tile_of) {
  return [rows, cols, tile_of = std::move(tile_of)](std::uint64_t offset, std::span<std::byte> bytes) {
    std::vector<bf16> numbers(bytes.size() / 2);
    std::int64_t at = static_cast<std::int64_t>(offset / 2);
    bf16* out = numbers.data();
    for (std::int64_t left = std::ssize(numbers); left > 0;) {
      const std::int64_t matrix = at / (rows * cols), row = at / cols % rows, col = at % cols;
      fp8_tile tile{row, 1, col, std::min({cols - col, left, run_weights})};
      if (col == 0 && left >= cols && cols <= run_weights)
        tile.rows = std::min({left / cols, rows - row, fp8_block - row % fp8_block, run_weights / cols});
      tile_of(matrix, tile, out);
      at += tile.size();
      out += tile.size();
      left -= tile.size();
    }
    swap_if_big_endian(std::span(numbers));
    std::copy_n(std::as_bytes(std::span(numbers)).data(), bytes.size(), bytes.data());
  };
}

/// Elements [first, first + count) of a tensor.
template <class T>
[[nodiscard]] std::vector<T> read_elements_at(const plain_tensor& t, std::int64_t first, std::int64_t count) {
  std::vector<T> elements(static_cast<std::size_t>(count));
  t.read(static_cast<std::uint64_t>(first) * sizeof(T), std::as_writable_bytes(std::span(elements)));
  swap_if_big_endian(std::span(elements));
  return elements;
}

/// A format is recognised from what a tensor and its neighbours are called.
class widener {
 public:
  widener(const std::vector<plain_tensor>& others, const std::optional<scale_grid>& block_size,
          const std::string& where)
      : block_size_(block_size), where_(where) {
    for (const plain_tensor& t : others) by_name_.emplace(t.info.name, &t);
  }

  /// The tensor in BF16; nullopt where it is in none of the formats.
  [[nodiscard]] std::optional<plain_tensor> widen(const plain_tensor& t) {
    if (t.info.type == dtype::f8_e4m3) return fp8(t);
    if (t.info.type == dtype::i32 && t.info.name.ends_with(packed_suffix)) return integer(t);
    if (t.info.type == dtype::i8) return whole_integer(t);
    if (t.info.type == dtype::u8) return nvfp4(t);
    return std::nullopt;
  }

  [[nodiscard]] bool is_consumed(const plain_tensor& t) const { return consumed_.contains(&t); }
  [[nodiscard]] const narrow_count& count() const noexcept { return count_; }

 private:
  [[nodiscard]] const plain_tensor* find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }

  [[nodiscard]] plain_tensor bf16_tensor(const std::string& name, const std::vector<std::int64_t>& shape,
                                         tile_function tile_of) const {
    const std::int64_t rows = shape[shape.size() - 2], cols = shape.back();
    const tensor_info info{name, dtype::bf16, shape, 0, value_at(tensor_bytes(dtype::bf16, shape), where_, name)};
    return {info, reader_of(rows, cols, std::move(tile_of))};
  }

  [[nodiscard]] plain_tensor fp8(const plain_tensor& t) {
    // e4m3 scales of NVFP4 are matrices of F8_E4M3 too, and belong to another tensor.
    const fp8_scales_result found = find_fp8_scales(
        t.info, [this](const std::string& name) { return find(name) ? &find(name)->info : nullptr; }, block_size_);
    if (!found.why.empty())
      throw file_error(
          {.file = where_,
           .tensor = t.info.name,
           .value = found.why.starts_with("its ") ? "is F8_E4M3 whose " + found.why.substr(4) : "is " + found.why,
           .expected = "scales that fit"});
    const plain_tensor& scales = *find(found.scales->name);
    consumed_.insert(&scales);
    for (const std::string& name : fp8_activation_names(t.info.name)) consumed_.insert(find(name));
    ++count_.fp8;
    const std::vector<std::int64_t>& shape = t.info.shape;
    const std::int64_t rows = shape[shape.size() - 2], cols = shape.back();
    const fp8_scale_reader reader(scales.info, found.grid, rows, cols);
    return bf16_tensor(t.info.name, shape,
                       [read = t.read, scales = scales.read, reader, rows, cols](std::int64_t matrix,
                                                                                 const fp8_tile& tile, bf16* out) {
                         std::vector<e4m3> w(static_cast<std::size_t>(tile.size()));
                         read(static_cast<std::uint64_t>(matrix * rows * cols + tile.first(cols)),
                              std::as_writable_bytes(std::span(w)));
                         fp8_scale_tile of_tile;
                         reader.read(scales, matrix, tile, of_tile);
                         static_cast<void>(widen_fp8_tile(w.data(), tile, of_tile, out));
                       });
  }

  [[nodiscard]] std::optional<plain_tensor> integer(const plain_tensor& t) {
    const std::string name = t.info.name.substr(0, t.info.name.size() - std::string_view(packed_suffix).size());
    const plain_tensor *scales = find(name + scale_suffix), *shape = find(name + "_shape");
    if (scales == nullptr || shape == nullptr || t.info.shape.size() != 2 || shape->info.elements() != 2)
      return std::nullopt;
    if (find(name + "_zero_point") != nullptr || find(name + "_g_idx") != nullptr) return std::nullopt;
    const dtype type = scales->info.type;
    if (type != dtype::f32 && type != dtype::bf16 && type != dtype::f16) return std::nullopt;
    std::vector<std::int64_t> sizes;
    if (shape->info.type == dtype::i64) {
      sizes = read_elements_at<std::int64_t>(*shape, 0, 2);
    } else if (shape->info.type == dtype::i32) {
      for (const std::int32_t n : read_elements_at<std::int32_t>(*shape, 0, 2)) sizes.push_back(n);
    } else {
      return std::nullopt;
    }
    const std::int64_t rows = sizes[0], cols = sizes[1], words = t.info.shape[1];
    if (rows != t.info.shape[0] || cols <= 0 || words <= 0) return std::nullopt;
    std::int64_t in_word = 0;
    for (const std::int64_t n : {8, 4})
      if (cols % n == 0 && cols / n == words) in_word = n;
    const std::vector<std::int64_t>& s = scales->info.shape;
    const std::int64_t groups = s.size() == 2 && s[0] == rows ? s[1] : 0;
    if (in_word == 0 || groups == 0 || cols % groups != 0) return std::nullopt;
    for (const plain_tensor* part : {scales, shape}) consumed_.insert(part);
    ++count_.integer;
    const std::int64_t group = cols / groups;
    return bf16_tensor(
        name, sizes,
        [t, scales = *scales, words, in_word, groups, group](std::int64_t, const fp8_tile& tile, bf16* out) {
          const bool to_f16 = scales.info.type == dtype::f16;
          const int bits = 32 / static_cast<int>(in_word);
          const std::uint32_t mask = (1u << bits) - 1u;
          const auto offset = static_cast<float>(1u << (bits - 1));
          const std::int64_t first_word = tile.col / in_word, first_group = tile.col / group;
          const std::int64_t word_count = (tile.col + tile.cols - 1) / in_word + 1 - first_word;
          const std::int64_t group_count = (tile.col + tile.cols - 1) / group + 1 - first_group;
          for (std::int64_t r = 0; r < tile.rows; ++r) {
            const auto codes = read_elements_at<std::uint32_t>(t, (tile.row + r) * words + first_word, word_count);
            const auto factors = read_floats(scales, (tile.row + r) * groups + first_group, group_count);
            for (std::int64_t c = 0; c < tile.cols; ++c) {
              const std::int64_t col = tile.col + c;
              const std::uint32_t word = codes[static_cast<std::size_t>(col / in_word - first_word)];
              const std::uint32_t code = word >> (bits * static_cast<int>(col % in_word)) & mask;
              const float product =
                  (static_cast<float>(code) - offset) * factors[static_cast<std::size_t>(col / group - first_group)];
              out[r * tile.cols + c] = encode_bf16(to_f16 ? mxfp4::decode(mxfp4::encode<f16>(product)) : product);
            }
          }
        });
  }

  [[nodiscard]] std::optional<plain_tensor> whole_integer(const plain_tensor& t) {
    const std::string& name = t.info.name;
    const plain_tensor* scales = find(name + scale_suffix);
    if (scales == nullptr || t.info.shape.size() != 2 || t.info.elements() == 0) return std::nullopt;
    if (find(name + "_zero_point") != nullptr || find(name + "_g_idx") != nullptr) return std::nullopt;
    const dtype type = scales->info.type;
    if (type != dtype::f32 && type != dtype::bf16 && type != dtype::f16) return std::nullopt;
    const std::int64_t rows = t.info.shape[0], cols = t.info.shape[1];
    const std::vector<std::int64_t>& s = scales->info.shape;
    const bool is_one = scales->info.elements() == 1;
    const std::int64_t groups = is_one ? 1 : s.size() == 2 && s[0] == rows ? s[1] : 0;
    if (groups == 0 || cols % groups != 0) return std::nullopt;
    consumed_.insert(scales);
    const std::string module = name.substr(0, name.rfind('.'));
    for (const char* suffix : {".input_scale", ".input_zero_point"}) consumed_.insert(find(module + suffix));
    ++count_.integer;
    return bf16_tensor(name, t.info.shape,
                       [t, scales = *scales, is_one, groups, cols, group = cols / groups](
                           std::int64_t, const fp8_tile& tile, bf16* out) {
                         const bool to_f16 = scales.info.type == dtype::f16;
                         const std::int64_t first = tile.col / group;
                         const std::int64_t count = (tile.col + tile.cols - 1) / group + 1 - first;
                         for (std::int64_t r = 0; r < tile.rows; ++r) {
                           const std::int64_t row = tile.row + r;
                           const auto codes = read_elements_at<std::int8_t>(t, row * cols + tile.col, tile.cols);
                           const auto factors = read_floats(scales, is_one ? 0 : row * groups + first, count);
                           for (std::int64_t c = 0; c < tile.cols; ++c) {
                             const float product = static_cast<float>(codes[static_cast<std::size_t>(c)]) *
                                                   factors[static_cast<std::size_t>((tile.col + c) / group - first)];
                             out[r * tile.cols + c] =
                                 encode_bf16(to_f16 ? mxfp4::decode(mxfp4::encode<f16>(product)) : product);
                           }
                         }
                       });
  }

  [[nodiscard]] std::optional<plain_tensor> nvfp4(const plain_tensor& t) {
    constexpr std::int64_t group = 16;  // weights under one e4m3
    const bool packed = t.info.name.ends_with(packed_suffix);
    const std::string name =
        packed ? t.info.name.substr(0, t.info.name.size() - std::string_view(packed_suffix).size()) : t.info.name;
    const plain_tensor *scales = find(name + scale_suffix),
                       *global = find(name + (packed ? "_global_scale" : "_scale_2"));
    if (scales == nullptr || global == nullptr || scales->info.type != dtype::f8_e4m3) return std::nullopt;
    if (t.info.shape.size() != 2 || t.info.shape[1] % (group / 2) != 0) return std::nullopt;
    const std::int64_t rows = t.info.shape[0], cols = 2 * t.info.shape[1], groups = cols / group;
    if (scales->info.shape != std::vector<std::int64_t>{rows, groups} || global->info.elements() != 1 ||
        global->info.type != dtype::f32)
      return std::nullopt;
    for (const plain_tensor* part : {scales, global}) consumed_.insert(part);
    const std::string module = name.substr(0, name.rfind('.'));
    for (const char* suffix : {".input_global_scale", ".input_scale"}) consumed_.insert(find(module + suffix));
    ++count_.nvfp4;
    const float factor = read_floats(*global, 0, 1)[0];
    return bf16_tensor(
        name, {rows, cols},
        [t, scales = *scales, factor, packed, groups, cols](std::int64_t, const fp8_tile& tile, bf16* out) {
          const std::int64_t first_byte = tile.col / 2, first_group = tile.col / group;
          const std::int64_t bytes = (tile.col + tile.cols - 1) / 2 + 1 - first_byte;
          const std::int64_t group_count = (tile.col + tile.cols - 1) / group + 1 - first_group;
          for (std::int64_t r = 0; r < tile.rows; ++r) {
            const auto codes = read_elements_at<std::uint8_t>(t, (tile.row + r) * (cols / 2) + first_byte, bytes);
            const auto of_row = read_elements_at<e4m3>(scales, (tile.row + r) * groups + first_group, group_count);
            for (std::int64_t c = 0; c < tile.cols; ++c) {
              const std::int64_t col = tile.col + c;
              const unsigned byte = codes[static_cast<std::size_t>(col / 2 - first_byte)];
              const unsigned nibble = col % 2 == 0 ? byte & 15u : byte >> 4;
              const auto code = static_cast<e2m1>(!packed && nibble == 8 ? 0u : nibble);
              const float scale = mxfp4::decode(of_row[static_cast<std::size_t>(col / group - first_group)]);
              out[r * tile.cols + c] = encode_bf16(mxfp4::decode(code) * (packed ? scale / factor : scale * factor));
            }
          }
        });
  }

  std::optional<scale_grid> block_size_;
  const std::string& where_;
  std::unordered_map<std::string_view, const plain_tensor*> by_name_;
  std::unordered_set<const plain_tensor*> consumed_;
  narrow_count count_;
};

}  // namespace

std::vector<float> read_floats(const plain_tensor& t, std::int64_t first, std::int64_t count) {
  if (t.info.type == dtype::f32) return read_elements_at<float>(t, first, count);
  std::vector<float> floats(static_cast<std::size_t>(count));
  const auto convert = [&](const auto& numbers) {
    std::transform(numbers.begin(), numbers.end(), floats.begin(), [](auto x) { return mxfp4::decode(x); });
  };
  if (t.info.type == dtype::bf16) convert(read_elements_at<bf16>(t, first, count));
  else convert(read_elements_at<f16>(t, first, count));
  return floats;
}

narrow_count widen_narrow_weights(weight_list& list, const std::optional<scale_grid>& block_size,
                                  const std::string& where) {
  widener all(list.others, block_size, where);
  // Scales may come before their weights, and those of NVFP4 are F8_E4M3 themselves: their weights go first.
  std::unordered_map<const plain_tensor*, plain_tensor> widened;
  for (const bool is_fp8 : {false, true})
    for (const plain_tensor& t : list.others)
      if ((t.info.type == dtype::f8_e4m3) == is_fp8 && !all.is_consumed(t))
        if (std::optional<plain_tensor> found = all.widen(t)) widened.emplace(&t, std::move(*found));
  std::vector<plain_tensor> others;
  for (const plain_tensor& t : list.others) {
    if (all.is_consumed(t)) continue;
    const auto found = widened.find(&t);
    others.push_back(found == widened.end() ? t : std::move(found->second));
  }
  list.others = std::move(others);
  return all.count();
}

plain_tensor widen_q8_0(const std::string& name, const std::vector<std::int64_t>& shape, read_function read) {
  constexpr std::int64_t codes_in_block = 32, bytes_of_block = 34;
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  const std::int64_t cols = shape.back();
  const tensor_info info{name, dtype::bf16, shape, 0, value_at(tensor_bytes(dtype::bf16, shape), {}, name)};
  return {info, reader_of(rows, cols, [read = std::move(read), cols](std::int64_t, const fp8_tile& tile, bf16* out) {
            const std::int64_t begin = tile.first(cols), first = begin / codes_in_block;
            const std::int64_t last = (begin + tile.size() - 1) / codes_in_block;
            std::vector<std::uint8_t> blocks(static_cast<std::size_t>((last + 1 - first) * bytes_of_block));
            read(static_cast<std::uint64_t>(first * bytes_of_block), std::as_writable_bytes(std::span(blocks)));
            for (std::int64_t i = 0; i < tile.size(); ++i) {
              const std::uint8_t* block = blocks.data() + ((begin + i) / codes_in_block - first) * bytes_of_block;
              const float d = mxfp4::decode(static_cast<f16>(block[0] | block[1] << 8));
              out[i] = encode_bf16(
                  static_cast<float>(static_cast<std::int8_t>(block[2 + (begin + i) % codes_in_block])) * d);
            }
          })};
}

}  // namespace mxfp4::checkpoint

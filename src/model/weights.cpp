// src/model/weights.cpp -- see weights.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/weights.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "checkpoint/codec.hpp"
#include "model/kernels.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/elements.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

template <class T>
[[nodiscard]] std::vector<T> read_all(const checkpoint_reader& checkpoint, const checkpoint_tensor& t) {
  std::vector<T> values(static_cast<std::size_t>(t.info->elements()));
  read_elements(checkpoint.shard(t.shard), *t.info, 0, std::span(values)).value();
  return values;
}

[[nodiscard]] const checkpoint_tensor& require_tensor(const checkpoint_reader& checkpoint, const std::string& name,
                                                      const std::vector<std::int64_t>& shape,
                                                      std::initializer_list<dtype> types) {
  const checkpoint_tensor* const t = checkpoint.find(name);
  if (t == nullptr)
    throw file_error({.file = checkpoint.path(), .tensor = name, .value = "is missing", .expected = shape_text(shape)});
  if (t->info->shape != shape)
    throw file_error({.file = checkpoint.path(),
                      .tensor = name,
                      .value = "is " + shape_text(t->info->shape),
                      .expected = shape_text(shape) + ", which follows from config.json"});
  if (std::ranges::find(types, t->info->type) != types.end()) return *t;
  std::string names;
  for (const dtype type : types) names += (names.empty() ? "" : " or ") + std::string(dtype_name(type));
  throw file_error({.file = checkpoint.path(),
                    .tensor = name,
                    .value = std::string("is ") + dtype_name(t->info->type),
                    .expected = names});
}

/// A vector or the embeddings.
[[nodiscard]] const checkpoint_tensor& require_floats(const checkpoint_reader& checkpoint, const std::string& name,
                                                      const std::vector<std::int64_t>& shape) {
  return require_tensor(checkpoint, name, shape, {dtype::f32, dtype::f16, dtype::bf16});
}

template <class T>
void read_narrow(const checkpoint_reader& checkpoint, const checkpoint_tensor& t, std::int64_t first,
                 std::span<float> out) {
  std::vector<T> narrow(out.size());
  read_elements(checkpoint.shard(t.shard), *t.info, first, std::span(narrow)).value();
  std::ranges::transform(narrow, out.begin(), [](T x) { return decode(x); });
}

/// Elements [first, first + out.size()) of such a tensor.
void read_floats(const checkpoint_reader& checkpoint, const checkpoint_tensor& t, std::int64_t first,
                 std::span<float> out) {
  if (t.info->type == dtype::f32) return read_elements(checkpoint.shard(t.shard), *t.info, first, out).value();
  if (t.info->type == dtype::f16) return read_narrow<f16>(checkpoint, t, first, out);
  read_narrow<bf16>(checkpoint, t, first, out);
}

[[nodiscard]] stored_linear find_linear(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t rows,
                                        std::int64_t cols) {
  const std::string weight = name + ".weight", packed = weight + packed_suffix;
  if (checkpoint.find(packed) != nullptr) {
    if (cols % block_size != 0)
      throw file_error({.file = checkpoint.path(),
                        .tensor = packed,
                        .value = "is of a layer with " + std::to_string(cols) + " columns",
                        .expected = "a multiple of 32"});
    return {true, &require_tensor(checkpoint, packed, {rows, cols / 2}, {dtype::u8}),
            &require_tensor(checkpoint, weight + scale_suffix, {rows, cols / block_size}, {dtype::u8})};
  }
  if (checkpoint.find(weight) == nullptr)
    throw file_error({.file = checkpoint.path(),
                      .tensor = weight,
                      .value = "is missing",
                      .expected = "it, or " + quote_name(packed)});
  const checkpoint_tensor& t =
      require_tensor(checkpoint, weight, {rows, cols}, {dtype::f32, dtype::f16, dtype::bf16, dtype::f8_e4m3});
  if (t.info->type != dtype::f8_e4m3) return {false, &t, nullptr};
  const auto blocks_along = [](std::int64_t n) { return (n + fp8_block - 1) / fp8_block; };
  const bool renamed = checkpoint.find(weight + scale_suffix) != nullptr;  // as compressed-tensors has it
  const std::string scales = weight + (renamed ? scale_suffix : fp8_scale_suffix);
  return {false, &t, &require_tensor(checkpoint, scales, {blocks_along(rows), blocks_along(cols)}, {dtype::f32})};
}

/// The tensors of a stack. Scales: of MXFP4.
struct stored_stack {
  const checkpoint_tensor* data;
  const checkpoint_tensor* scales;
  const checkpoint_tensor* bias;
};

[[nodiscard]] stored_stack find_stack(const checkpoint_reader& checkpoint, const stack_place& p) {
  const std::int64_t rows = p.parts * p.rows;
  const auto bias = [&] { return &require_floats(checkpoint, p.name + "_bias", {p.experts, rows}); };
  if (checkpoint.find(p.name + "_blocks") != nullptr) {
    if (p.cols % block_size != 0)
      throw file_error({.file = checkpoint.path(),
                        .tensor = p.name + "_blocks",
                        .value = "is of layers with " + std::to_string(p.cols) + " columns",
                        .expected = "a multiple of 32"});
    const std::int64_t blocks = p.cols / block_size;
    return {&require_tensor(checkpoint, p.name + "_blocks", {p.experts, rows, blocks, block_code_bytes}, {dtype::u8}),
            &require_tensor(checkpoint, p.name + "_scales", {p.experts, rows, blocks}, {dtype::u8}), bias()};
  }
  if (checkpoint.find(p.name) == nullptr)
    throw file_error({.file = checkpoint.path(),
                      .tensor = p.name,
                      .value = "is missing",
                      .expected = "it, or " + quote_name(p.name + "_blocks")});
  return {&require_floats(checkpoint, p.name, {p.experts, p.cols, rows}), nullptr, bias()};
}

using shared_packed = std::shared_ptr<packed_matrix>;

/// Matrices of MXFP4, rows x cols each, whose rows take turns from row `first` of the tensors on.
/// @param packed  what is alone of its owners and has this shape is written over, all else made anew.
void read_packed(const checkpoint_reader& checkpoint, const checkpoint_tensor& codes, const checkpoint_tensor& scales,
                 std::int64_t first, std::int64_t rows, std::int64_t cols, std::span<shared_packed> packed,
                 executor_ref executor) {
  for (shared_packed& p : packed) {
    if (p.use_count() == 1 && p->rows() == rows && p->cols() == cols) continue;
    p.reset();
    auto made = packed_matrix::uninitialized(rows, cols);
    require_ok(made.error(), checkpoint.path(), codes.info->name);
    p = std::make_shared<packed_matrix>(*std::move(made));
  }
  const std::int64_t parts = std::ssize(packed);
  // What is read stays in a near cache until it is packed.
  constexpr std::int64_t bytes_of_a_piece = std::int64_t{128} << 10;
  const std::int64_t code_row = cols / 2, scale_row = cols / block_size, row_of_all = parts * code_row;
  const std::int64_t piece = std::max(bytes_of_a_piece / row_of_all / tile_rows, std::int64_t{1}) * tile_rows;
  executor.run(static_cast<std::size_t>((rows + piece - 1) / piece), [&](std::size_t i) {
    const std::int64_t row = static_cast<std::int64_t>(i) * piece, count = std::min(piece, rows - row);
    const std::int64_t begin = first + parts * row;
    const auto read = [&](const checkpoint_tensor& t, std::int64_t row_bytes) {
      const auto size = static_cast<std::size_t>(parts * count * row_bytes);
      auto bytes = std::make_unique_for_overwrite<std::uint8_t[]>(size);
      read_elements(checkpoint.shard(t.shard), *t.info, begin * row_bytes, std::span(bytes.get(), size)).value();
      return bytes;
    };
    const auto some_codes = read(codes, code_row), some_scales = read(scales, scale_row);
    for (std::int64_t p = 0; p < parts; ++p)
      require_ok(kernels::pack_rows(const_mx_view<>{some_codes.get() + p * code_row, some_scales.get() + p * scale_row,
                                                    count, cols, row_of_all, parts * scale_row},
                                    row, *packed[static_cast<std::size_t>(p)]),
                 checkpoint.path(), codes.info->name);
  });
}

constexpr const char* embeddings = "model.embed_tokens";

[[nodiscard]] std::uint64_t weights_in_memory(const stored_linear& stored, std::int64_t rows, std::int64_t cols) {
  const auto weights = static_cast<std::uint64_t>(rows * cols);
  if (stored.is_mxfp4) return stored.data->info->bytes() + stored.scales->info->bytes();
  const dtype type = stored.data->info->type;
  return weights * (type == dtype::bf16 || type == dtype::f8_e4m3 ? sizeof(bf16) : sizeof(float));
}

}  // namespace

void require_ok(const status& s, const std::string& file, const std::string& tensor) {
  if (!s.ok()) throw file_error({.file = file, .tensor = tensor, .value = std::string(message(s).view())});
}

linear linear::load(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t rows, std::int64_t cols,
                    bool bias, std::uint64_t keep) {
  const stored_linear stored = find_linear(checkpoint, name, rows, cols);
  linear w;
  if (weights_in_memory(stored, rows, cols) <= keep) {
    w = read_rows(checkpoint, stored, 0, rows, cols);
  } else {
    w.file_ = &checkpoint;
    w.name_ = name;
  }
  w.rows_ = rows;
  w.cols_ = cols;
  w.stored_bytes_ = stored.data->info->bytes() + (stored.scales != nullptr ? stored.scales->info->bytes() : 0);
  if (bias) w.bias_ = read_vector(checkpoint, name + ".bias", rows);
  return w;
}

linear linear::load_rows(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t rows,
                         std::int64_t cols, std::int64_t first, std::int64_t count) {
  return read_rows(checkpoint, find_linear(checkpoint, name, rows, cols), first, count, cols);
}

std::int64_t linear::rows_of_a_piece(std::int64_t cols) noexcept {
  constexpr std::int64_t floats = piece_bytes / static_cast<std::int64_t>(sizeof(float));
  return std::max(floats / cols / fp8_block, std::int64_t{1}) * fp8_block;
}

linear linear::read_rows(const checkpoint_reader& checkpoint, const stored_linear& stored, std::int64_t first,
                         std::int64_t count, std::int64_t cols) {
  const checkpoint_tensor *const data = stored.data, *const scales = stored.scales;  // clang++ 14: no captured binding
  linear w;
  w.rows_ = count;
  w.cols_ = cols;
  const auto read = [&](const checkpoint_tensor& t, auto& to, std::int64_t row_size) {
    to.resize(static_cast<std::size_t>(count * row_size));
    read_elements(checkpoint.shard(t.shard), *t.info, first * row_size, std::span(to)).value();
  };
  // What is kept in another form passes through a buffer.
  const auto read_wider = [&](auto& narrow, auto& to, auto widen) {
    to.resize(static_cast<std::size_t>(count * cols));
    const std::int64_t at_once = rows_of_a_piece(cols);
    for (std::int64_t r = 0; r < count; r += at_once) {
      const std::int64_t n = std::min(at_once, count - r);
      narrow.resize(static_cast<std::size_t>(n * cols));
      read_elements(checkpoint.shard(data->shard), *data->info, (first + r) * cols, std::span(narrow)).value();
      widen(r, n, to.data() + r * cols);
    }
  };
  if (stored.is_mxfp4) {
    read(*data, w.codes_, cols / 2);
    read(*scales, w.scales_, cols / block_size);
  } else if (data->info->type == dtype::f32) {
    read(*data, w.wide_, cols);
  } else if (data->info->type == dtype::bf16) {
    read(*data, w.narrow_, cols);
  } else if (data->info->type == dtype::f16) {
    std::vector<f16> values;
    read_wider(values, w.wide_, [&](std::int64_t, std::int64_t, float* to) {
      std::ranges::transform(values, to, [](f16 x) { return decode(x); });
    });
  } else {
    std::vector<e4m3> values;
    const std::vector<float> s = read_all<float>(checkpoint, *scales);
    const std::int64_t scale_cols = scales->info->shape[1];
    read_wider(values, w.narrow_, [&](std::int64_t r, std::int64_t n, bf16* to) {
      const std::int64_t scale_rows = (n + fp8_block - 1) / fp8_block;
      require_ok(codec::widen_fp8(dense_view<const e4m3>{values.data(), n, cols, cols},
                                  dense_view<const float>{s.data() + (first + r) / fp8_block * scale_cols, scale_rows,
                                                          scale_cols, scale_cols},
                                  dense_view<bf16>{to, n, cols, cols}),
                 checkpoint.path(), data->info->name);
    });
  }
  return w;
}

std::vector<linear> linear::stack_parts(const checkpoint_reader& checkpoint, const stack_place& p) {
  const stored_stack stack = find_stack(checkpoint, p);
  const std::int64_t rows = p.parts * p.rows;
  std::vector<float> biases(static_cast<std::size_t>(rows));
  read_floats(checkpoint, *stack.bias, p.index * rows, biases);
  std::vector<linear> parts(static_cast<std::size_t>(p.parts));
  for (linear& w : parts) {
    w.rows_ = p.rows;
    w.cols_ = p.cols;
    w.stored_bytes_ = (stack.data->info->bytes() + (stack.scales != nullptr ? stack.scales->info->bytes() : 0)) /
                      static_cast<std::uint64_t>(p.experts * p.parts);
  }
  for (std::int64_t r = 0; r < rows; ++r)
    parts[static_cast<std::size_t>(r % p.parts)].bias_.push_back(biases[static_cast<std::size_t>(r)]);
  return parts;
}

std::vector<linear> linear::load_stack_arranged(const checkpoint_reader& checkpoint, const stack_place& p,
                                                executor_ref executor, std::vector<linear> spare) {
  const stored_stack stack = find_stack(checkpoint, p);
  std::vector<linear> parts;
  if (stack.scales == nullptr) {
    parts = load_stack(checkpoint, p);
    for (linear& w : parts) w.arrange();
    return parts;
  }
  parts = stack_parts(checkpoint, p);
  std::vector<shared_packed> packed;
  for (linear& w : spare) packed.push_back(std::move(w.packed_));
  packed.resize(parts.size());
  read_packed(checkpoint, *stack.data, *stack.scales, p.index * p.parts * p.rows, p.rows, p.cols, packed, executor);
  for (std::size_t i = 0; i < parts.size(); ++i) parts[i].packed_ = std::move(packed[i]);
  return parts;
}

linear linear::load_arranged(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t rows,
                             std::int64_t cols, bool bias, executor_ref executor, linear spare) {
  const stored_linear stored = find_linear(checkpoint, name, rows, cols);
  if (!stored.is_mxfp4) {
    linear w = load(checkpoint, name, rows, cols, bias);
    w.arrange();
    return w;
  }
  linear w = load(checkpoint, name, rows, cols, bias, 0);  // all but its weights
  w.file_ = nullptr;
  w.packed_ = std::move(spare.packed_);
  read_packed(checkpoint, *stored.data, *stored.scales, 0, rows, cols, {&w.packed_, 1}, executor);
  return w;
}

std::vector<linear> linear::load_stack(const checkpoint_reader& checkpoint, const stack_place& p) {
  const auto stack = find_stack(checkpoint, p);
  const checkpoint_tensor *const data = stack.data, *const scales = stack.scales;
  const std::int64_t rows = p.parts * p.rows;
  std::vector<linear> parts = stack_parts(checkpoint, p);
  // All of an expert is read at once, and dealt out row by row.
  const auto deal = [&](const auto& all, auto member, std::int64_t row_size) {
    for (linear& w : parts) (w.*member).reserve(static_cast<std::size_t>(p.rows * row_size));
    for (std::int64_t r = 0; r < rows; ++r) {
      auto& to = parts[static_cast<std::size_t>(r % p.parts)].*member;
      to.insert(to.end(), all.begin() + r * row_size, all.begin() + (r + 1) * row_size);
    }
  };
  const auto bytes_of = [&](const checkpoint_tensor& t, std::int64_t row_bytes) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * row_bytes));
    read_elements(checkpoint.shard(t.shard), *t.info, p.index * rows * row_bytes, std::span(bytes)).value();
    return bytes;
  };
  if (scales != nullptr) {
    deal(bytes_of(*data, p.cols / 2), &linear::codes_, p.cols / 2);
    deal(bytes_of(*scales, p.cols / block_size), &linear::scales_, p.cols / block_size);
    return parts;
  }
  // [in, out]: column r of the tensor's matrix is row r / parts of part r % parts. Some rows of the tensor at a time.
  const auto turn = [&](auto& some, auto member, auto read) {
    for (linear& w : parts) (w.*member).resize(static_cast<std::size_t>(p.rows * p.cols));
    const std::int64_t at_once = rows_of_a_piece(rows);
    for (std::int64_t k = 0; k < p.cols; k += at_once) {
      const std::int64_t count = std::min(at_once, p.cols - k);
      some.resize(static_cast<std::size_t>(count * rows));
      read((p.index * p.cols + k) * rows);
      for (std::int64_t i = 0; i < count; ++i)
        for (std::int64_t r = 0; r < rows; ++r)
          (parts[static_cast<std::size_t>(r % p.parts)].*
           member)[static_cast<std::size_t>(r / p.parts * p.cols + k + i)] =
              some[static_cast<std::size_t>(i * rows + r)];
    }
  };
  if (data->info->type == dtype::bf16) {
    std::vector<bf16> some;
    turn(some, &linear::narrow_, [&](std::int64_t first) {
      read_elements(checkpoint.shard(data->shard), *data->info, first, std::span(some)).value();
    });
  } else {
    std::vector<float> some;
    turn(some, &linear::wide_, [&](std::int64_t first) { read_floats(checkpoint, *data, first, some); });
  }
  return parts;
}

void linear::require(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t rows, std::int64_t cols,
                     bool bias) {
  (void)find_linear(checkpoint, name, rows, cols);
  if (bias) require_vector(checkpoint, name + ".bias", rows);
}

void linear::require_stack(const checkpoint_reader& checkpoint, const stack_place& place) {
  (void)find_stack(checkpoint, place);
}

linear linear::of_mxfp4(std::int64_t rows, std::int64_t cols, std::vector<std::uint8_t> codes,
                        std::vector<std::uint8_t> scales) {
  linear w;
  w.rows_ = rows;
  w.cols_ = cols;
  w.stored_bytes_ = codes.size() + scales.size();
  w.codes_ = std::move(codes);
  w.scales_ = std::move(scales);
  return w;
}

linear linear::with_mxfp4(std::vector<std::uint8_t> codes, std::vector<std::uint8_t> scales) const {
  linear w = of_mxfp4(rows_, cols_, std::move(codes), std::move(scales));
  w.bias_ = bias_;
  return w;
}

std::uint64_t linear::memory_bytes() const noexcept {
  const std::uint64_t packed = packed_ == nullptr ? 0 : packed_->bytes().size();
  return (wide_.size() + bias_.size()) * sizeof(float) + narrow_.size() * sizeof(bf16) + codes_.size() +
         scales_.size() + panels_.bytes() + packed;
}

const_mx_view<> linear::mxfp4_rows(std::int64_t first, std::int64_t count) const noexcept {
  const std::int64_t code_row = cols_ / 2, scale_row = cols_ / block_size;
  return {codes_.data() + first * code_row, scales_.data() + first * scale_row, count, cols_, code_row, scale_row};
}

linear linear::quantized(recipe_id recipe, const std::string& name) const {
  if (cols_ % block_size != 0)
    throw file_error(
        {.file = name, .value = "has " + std::to_string(cols_) + " columns", .expected = "a multiple of 32 for MXFP4"});
  linear w;
  w.rows_ = rows_;
  w.cols_ = cols_;
  w.bias_ = bias_;
  w.codes_.resize(static_cast<std::size_t>(rows_ * cols_ / 2));
  w.scales_.resize(static_cast<std::size_t>(rows_ * cols_ / block_size));
  w.stored_bytes_ = w.codes_.size() + w.scales_.size();
  const mx_view<> out{w.codes_.data(), w.scales_.data(), rows_, cols_, cols_ / 2, cols_ / block_size};
  if (!narrow_.empty()) {
    const dense_view<const bf16> in{narrow_.data(), rows_, cols_, cols_};
    require_ok(codec::quantize(recipe, in, out, {.nonfinite = on_nonfinite::refuse}), name);
    return w;
  }
  if (!is_mxfp4()) {
    const dense_view<const float> in{wide_.data(), rows_, cols_, cols_};
    require_ok(codec::quantize(recipe, in, out, {.nonfinite = on_nonfinite::refuse}), name);
    return w;
  }
  std::vector<float> decoded;
  const std::int64_t at_once = rows_of_a_piece(cols_);
  for (std::int64_t first = 0; first < rows_; first += at_once) {
    const std::int64_t count = std::min(at_once, rows_ - first);
    decoded.resize(static_cast<std::size_t>(count * cols_));
    for (std::int64_t r = 0; r < count; ++r) decode_row(first + r, decoded.data() + r * cols_);
    const mx_view<> part{w.codes_.data() + first * out.code_stride,
                         w.scales_.data() + first * out.scale_stride,
                         count,
                         cols_,
                         out.code_stride,
                         out.scale_stride};
    require_ok(codec::quantize(recipe, dense_view<const float>{decoded.data(), count, cols_, cols_}, part,
                               {.nonfinite = on_nonfinite::refuse}),
               name);
  }
  return w;
}

void linear::decode_row(std::int64_t row, float* out) const {
  const std::int64_t first = row * cols_;
  if (!wide_.empty()) {
    std::copy_n(wide_.begin() + first, cols_, out);
  } else if (!narrow_.empty()) {
    std::transform(narrow_.begin() + first, narrow_.begin() + first + cols_, out, [](bf16 x) { return decode(x); });
  } else {
    require_ok(codec::dequantize(mxfp4_rows(row, 1), dense_view<float>{out, 1, cols_, cols_}), "dequantize");
  }
}

void weight_error::add(const linear& original, const linear& target, executor_ref executor, std::int64_t first) {
  std::vector<weight_error> rows(static_cast<std::size_t>(target.rows()));
  constexpr std::int64_t a_task = 64;
  const auto task = [&](std::size_t index) {
    const std::int64_t begin = static_cast<std::int64_t>(index) * a_task;
    std::vector<float> a(static_cast<std::size_t>(original.cols())), b(a.size());
    for (std::int64_t r = begin; r < std::min(begin + a_task, target.rows()); ++r) {
      original.decode_row(first + r, a.data());
      target.decode_row(r, b.data());
      weight_error& sum = rows[static_cast<std::size_t>(r)];
      for (std::size_t i = 0; i < a.size(); ++i) {
        const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
        sum.squared_error += (x - y) * (x - y);
        sum.squared_weights += x * x;
      }
    }
  };
  executor.run(static_cast<std::size_t>((target.rows() + a_task - 1) / a_task), task);
  for (const weight_error& row : rows) {
    squared_error += row.squared_error;
    squared_weights += row.squared_weights;
  }
}

double weight_error::relative() const noexcept {
  return squared_weights == 0 ? 0.0 : std::sqrt(squared_error / squared_weights);
}

std::vector<float> read_vector(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t size) {
  const checkpoint_tensor& t = require_floats(checkpoint, name, {size});
  std::vector<float> values(static_cast<std::size_t>(size));
  read_floats(checkpoint, t, 0, values);
  return values;
}

token_rows read_embeddings(const checkpoint_reader& checkpoint, const model_config& config,
                           std::span<const std::int64_t> ids, std::int64_t position) {
  const std::int64_t size = config.shape.hidden;
  const checkpoint_tensor& t =
      require_floats(checkpoint, std::string(embeddings) + ".weight", {config.shape.vocabulary, size});
  token_rows x(static_cast<std::int64_t>(ids.size()), size);
  for (std::int64_t i = 0; i < x.count; ++i) {
    const std::int64_t id = ids[static_cast<std::size_t>(i)];
    if (id < 0 || id >= config.shape.vocabulary)
      throw file_error({.value = "token " + std::to_string(id) + " at position " + std::to_string(position + i) +
                                 " is outside the vocabulary",
                        .expected = "0 .. " + std::to_string(config.shape.vocabulary - 1)});
    read_floats(checkpoint, t, id * size, {x.row(i), static_cast<std::size_t>(size)});
  }
  return x;
}

void require_vector(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t size) {
  (void)require_floats(checkpoint, name, {size});
}

std::string head_name(const model_config& config) { return config.tied_head ? embeddings : "lm_head"; }

std::string layer_name(std::int64_t layer, const std::string& part) {
  return "model.layers." + std::to_string(layer) + "." + part;
}

}  // namespace mxfp4::model

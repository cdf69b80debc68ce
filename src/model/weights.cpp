// src/model/weights.cpp -- see weights.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/weights.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "checkpoint/codec.hpp"
#include "model/dense_product.hpp"
#include "model/kernels.hpp"
#include "model/served_activations.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/elements.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

void require_ok(const status& s, const std::string& file, const std::string& tensor = {}) {
  if (!s.ok()) throw file_error({.file = file, .tensor = tensor, .value = std::string(message(s).view())});
}

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

/// The tensors of a linear layer. Scales: of MXFP4 and FP8.
struct stored_linear {
  bool is_mxfp4;
  const checkpoint_tensor* data;
  const checkpoint_tensor* scales;
};

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

constexpr const char* embeddings = "model.embed_tokens";
constexpr std::int64_t rows_a_task = 32, tokens_a_product = 1024;  // of a dense product

}  // namespace

linear linear::load(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t rows, std::int64_t cols,
                    bool bias) {
  const auto [is_mxfp4, data, scales] = find_linear(checkpoint, name, rows, cols);
  linear w;
  w.rows_ = rows;
  w.cols_ = cols;
  w.stored_bytes_ = data->info->bytes() + (scales != nullptr ? scales->info->bytes() : 0);
  if (bias) w.bias_ = read_vector(checkpoint, name + ".bias", rows);
  if (is_mxfp4) {
    w.codes_ = read_all<std::uint8_t>(checkpoint, *data);
    w.scales_ = read_all<std::uint8_t>(checkpoint, *scales);
  } else if (data->info->type == dtype::f32) {
    w.wide_ = read_all<float>(checkpoint, *data);
  } else if (data->info->type == dtype::bf16) {
    w.narrow_ = read_all<bf16>(checkpoint, *data);
  } else if (data->info->type == dtype::f16) {
    const std::vector<f16> values = read_all<f16>(checkpoint, *data);
    w.wide_.resize(values.size());
    std::ranges::transform(values, w.wide_.begin(), [](f16 x) { return decode(x); });
  } else {
    const std::vector<e4m3> values = read_all<e4m3>(checkpoint, *data);
    const std::vector<float> s = read_all<float>(checkpoint, *scales);
    const std::int64_t scale_rows = scales->info->shape[0], scale_cols = scales->info->shape[1];
    w.narrow_.resize(values.size());
    require_ok(codec::widen_fp8(dense_view<const e4m3>{values.data(), rows, cols, cols},
                                dense_view<const float>{s.data(), scale_rows, scale_cols, scale_cols},
                                dense_view<bf16>{w.narrow_.data(), rows, cols, cols}),
               checkpoint.path(), data->info->name);
  }
  return w;
}

std::vector<linear> linear::load_stack(const checkpoint_reader& checkpoint, const stack_place& p) {
  const auto [data, scales, bias] = find_stack(checkpoint, p);
  const std::int64_t rows = p.parts * p.rows;
  std::vector<linear> parts(static_cast<std::size_t>(p.parts));
  for (linear& w : parts) {
    w.rows_ = p.rows;
    w.cols_ = p.cols;
    w.stored_bytes_ = (data->info->bytes() + (scales != nullptr ? scales->info->bytes() : 0)) /
                      static_cast<std::uint64_t>(p.experts * p.parts);
    w.bias_.resize(static_cast<std::size_t>(p.rows));
  }
  // All of an expert is read at once, and dealt out row by row.
  const auto deal = [&](const auto& all, auto member, std::int64_t row_size) {
    for (std::int64_t r = 0; r < rows; ++r) {
      auto& to = parts[static_cast<std::size_t>(r % p.parts)].*member;
      to.insert(to.end(), all.begin() + r * row_size, all.begin() + (r + 1) * row_size);
    }
  };
  std::vector<float> biases(static_cast<std::size_t>(rows));
  read_floats(checkpoint, *bias, p.index * rows, biases);
  for (std::int64_t r = 0; r < rows; ++r)
    parts[static_cast<std::size_t>(r % p.parts)].bias_[static_cast<std::size_t>(r / p.parts)] =
        biases[static_cast<std::size_t>(r)];
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
  // [in, out]: column r of the tensor's matrix is row r / parts of part r % parts.
  const auto turn = [&](const auto& all, auto member) {
    for (linear& w : parts) (w.*member).resize(static_cast<std::size_t>(p.rows * p.cols));
    for (std::int64_t k = 0; k < p.cols; ++k)
      for (std::int64_t r = 0; r < rows; ++r)
        (parts[static_cast<std::size_t>(r % p.parts)].*member)[static_cast<std::size_t>(r / p.parts * p.cols + k)] =
            all[static_cast<std::size_t>(k * rows + r)];
  };
  const std::int64_t first = p.index * rows * p.cols;
  if (data->info->type == dtype::bf16) {
    std::vector<bf16> all(static_cast<std::size_t>(rows * p.cols));
    read_elements(checkpoint.shard(data->shard), *data->info, first, std::span(all)).value();
    turn(all, &linear::narrow_);
  } else {
    std::vector<float> all(static_cast<std::size_t>(rows * p.cols));
    read_floats(checkpoint, *data, first, all);
    turn(all, &linear::wide_);
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
  return (wide_.size() + bias_.size()) * sizeof(float) + narrow_.size() * sizeof(bf16) + codes_.size() + scales_.size();
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
  std::vector<float> decoded;
  if (is_mxfp4()) {
    decoded.resize(static_cast<std::size_t>(rows_ * cols_));
    for (std::int64_t r = 0; r < rows_; ++r) decode_row(r, decoded.data() + r * cols_);
  }
  const dense_view<const float> in{is_mxfp4() ? decoded.data() : wide_.data(), rows_, cols_, cols_};
  require_ok(codec::quantize(recipe, in, out, {.nonfinite = on_nonfinite::refuse}), name);
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

void linear::multiply(dense_view<const float> x, dense_view<float> y, const product_options& options) const {
  if (is_mxfp4()) multiply_mxfp4(x, y, options);
  else multiply_dense(x, y, options.executor);
  if (bias_.empty()) return;
  for (std::int64_t m = 0; m < y.rows; ++m)
    for (std::int64_t n = 0; n < rows_; ++n) y.row(m)[n] += bias_[static_cast<std::size_t>(n)];
}

void linear::multiply_mxfp4(dense_view<const float> x, dense_view<float> y, const product_options& options) const {
  const gemm_options with{false, options.executor};
  const const_mx_view<> w = mxfp4_rows(0, rows_);
  const auto narrow = [&](auto scaling) {
    const auto q = kernels::quantize_activations(x, scaling, {.executor = options.executor});
    require_ok(q.error(), "activations");
    require_ok(kernels::gemm(w, *q, y, with), "gemm");
  };
  switch (options.activations) {
    case activation_type::f32:
      return require_ok(kernels::gemm(w, x, y, with), "gemm");
    case activation_type::int8:
      return narrow(int8_scaling::e8m0);
    case activation_type::int8_residual2:
      return narrow(int8_scaling::residual2);
    case activation_type::int8_residual3:
      return narrow(int8_scaling::residual3);
    case activation_type::mxfp8:
      return narrow(mxfp8_scaling::floor);
    case activation_type::fp8:
    case activation_type::mxfp4: {
      const token_rows served = options.activations == activation_type::fp8 ? as_fp8(x) : as_mxfp4(x);
      return require_ok(kernels::gemm(w, served.view(), y, with), "gemm");
    }
  }
}

void linear::multiply_dense(dense_view<const float> x, dense_view<float> y, executor_ref executor) const {
  const std::int64_t row_chunks = (rows_ + rows_a_task - 1) / rows_a_task;
  if (x.rows == 1) {
    const auto one_token = [&](std::size_t chunk) {
      const std::int64_t first = static_cast<std::int64_t>(chunk) * rows_a_task,
                         count = std::min(rows_a_task, rows_ - first);
      float* const to = y.row(0) + first;
      if (!wide_.empty())
        multiply_rows(x.row(0), wide_.data() + first * cols_, count, cols_, to, [](float w) { return w; });
      else multiply_rows(x.row(0), narrow_.data() + first * cols_, count, cols_, to, [](bf16 w) { return decode(w); });
    };
    return executor.run(static_cast<std::size_t>(row_chunks), one_token);
  }
  const std::int64_t token_chunks = (x.rows + tokens_a_product - 1) / tokens_a_product;
  const auto task = [&](std::size_t index) {
    const auto i = static_cast<std::int64_t>(index);
    const std::int64_t token = i / row_chunks * tokens_a_product, tokens = std::min(tokens_a_product, x.rows - token);
    const std::int64_t first = i % row_chunks * rows_a_task, last = std::min(first + rows_a_task, rows_);
    std::vector<float> row(static_cast<std::size_t>(cols_)), panel;
    for (std::int64_t n = first; n < last; n += panel_width) {
      const std::int64_t count = std::min(panel_width, last - n);
      pack_rows(
          count, cols_,
          [&](std::int64_t r) {
            decode_row(n + r, row.data());
            return row.data();
          },
          panel);
      multiply_panel(x.row(token), x.stride, tokens, panel.data(), cols_, y.row(token) + n, y.stride, count, false);
    }
  };
  executor.run(static_cast<std::size_t>(row_chunks * token_chunks), task);
}

void weight_error::add(const linear& original, const linear& target, executor_ref executor) {
  std::vector<weight_error> rows(static_cast<std::size_t>(original.rows()));
  constexpr std::int64_t a_task = 64;
  const auto task = [&](std::size_t index) {
    const std::int64_t first = static_cast<std::int64_t>(index) * a_task;
    std::vector<float> a(static_cast<std::size_t>(original.cols())), b(a.size());
    for (std::int64_t r = first; r < std::min(first + a_task, original.rows()); ++r) {
      original.decode_row(r, a.data());
      target.decode_row(r, b.data());
      weight_error& sum = rows[static_cast<std::size_t>(r)];
      for (std::size_t i = 0; i < a.size(); ++i) {
        const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
        sum.squared_error += (x - y) * (x - y);
        sum.squared_weights += x * x;
      }
    }
  };
  executor.run(static_cast<std::size_t>((original.rows() + a_task - 1) / a_task), task);
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

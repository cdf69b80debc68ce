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
  return require_tensor(checkpoint, name, shape, {dtype::f32, dtype::bf16});
}

/// Elements [first, first + out.size()) of such a tensor.
void read_floats(const checkpoint_reader& checkpoint, const checkpoint_tensor& t, std::int64_t first,
                 std::span<float> out) {
  if (t.info->type == dtype::f32) return read_elements(checkpoint.shard(t.shard), *t.info, first, out).value();
  std::vector<bf16> narrow(out.size());
  read_elements(checkpoint.shard(t.shard), *t.info, first, std::span(narrow)).value();
  std::ranges::transform(narrow, out.begin(), [](bf16 x) { return decode(x); });
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

constexpr const char* embeddings = "model.embed_tokens.weight";
constexpr std::int64_t rows_a_task = 32, tokens_a_product = 1024;  // of a dense product

}  // namespace

linear linear::load(const checkpoint_reader& checkpoint, const std::string& name, std::int64_t rows,
                    std::int64_t cols) {
  const auto [is_mxfp4, data, scales] = find_linear(checkpoint, name, rows, cols);
  linear w;
  w.rows_ = rows;
  w.cols_ = cols;
  w.stored_bytes_ = data->info->bytes() + (scales != nullptr ? scales->info->bytes() : 0);
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

std::uint64_t linear::memory_bytes() const noexcept {
  return wide_.size() * sizeof(float) + narrow_.size() * sizeof(bf16) + codes_.size() + scales_.size();
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
  if (!is_mxfp4()) return multiply_dense(x, y, options.executor);
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
  }
}

void linear::multiply_dense(dense_view<const float> x, dense_view<float> y, executor_ref executor) const {
  const std::int64_t row_chunks = (rows_ + rows_a_task - 1) / rows_a_task;
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
  const checkpoint_tensor& t = require_floats(checkpoint, embeddings, {config.shape.vocabulary, size});
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

void require_all_tensors(const checkpoint_reader& checkpoint, const model_config& config) {
  minimax_m2_shape shape = config.shape;
  shape.fp8 = false;  // a linear layer is one tensor then, and its name says where to look
  for (const tensor_info& t : minimax_m2_tensors(shape)) {
    if (t.shape.size() == 1 || t.name == embeddings) (void)require_floats(checkpoint, t.name, t.shape);
    else (void)find_linear(checkpoint, t.name.substr(0, t.name.rfind(".weight")), t.shape[0], t.shape[1]);
  }
}

std::string layer_name(std::int64_t layer, const std::string& part) {
  return "model.layers." + std::to_string(layer) + "." + part;
}

}  // namespace mxfp4::model

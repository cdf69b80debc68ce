// src/model/dense_product.cpp -- see dense_product.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/dense_product.hpp"

#include <cstring>
#include <new>
#include <vector>

#include "model/loops.hpp"
#include "model/loops_text.hpp"
#include "mxfp4/reference/glu.hpp"

namespace mxfp4::model {

namespace {

void activate_one_by_one(float* gate, const float* up, std::int64_t count, const moe_options& options) {
  for (std::int64_t i = 0; i < count; ++i) gate[i] = glu(options.act, gate[i], up[i], options.alpha, options.limit);
}

/// Four floats are what every machine with vectors has a register for; 12 sums leave four of x86-64's 16.
constexpr loop_table loops_base = {
    panel_product<4, 6, 3, 1>, tile_product<4, 6>, 6,          few_panels<4, std::uint32_t>,
    few_panels<4, float>,      widen_panel<4>,     softmax<4>, activate_one_by_one};

[[nodiscard]] const loop_table& loops_of_this_cpu() noexcept {
#if defined(MXFP4_MODEL_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return loops_avx2;
#endif
  return loops_base;
}

}  // namespace

const loop_table& loops() noexcept {
  static const loop_table& table = loops_of_this_cpu();
  return table;
}

void multiply_panel(const float* x, std::int64_t x_stride, std::int64_t rows, const float* panel, std::int64_t k,
                    float* y, std::int64_t y_stride, std::int64_t columns, bool add) {
  loops().multiply_panel(x, x_stride, rows, panel, k, y, y_stride, columns, add);
}

panel_matrix::panel_matrix(const panel_matrix& other) : rows_(other.rows_), k_(other.k_), are_pairs_(other.are_pairs_) {
  if (other.words_ == 0) return;
  take_zeros(other.words_);
  std::memcpy(memory_.get(), other.memory_.get(), bytes());
}

void panel_matrix::take_zeros(std::int64_t words) {
  const std::int64_t bytes = words * static_cast<std::int64_t>(sizeof(float));
  memory_ = {};
  memory_ = detail::allocate(bytes);
  if (memory_ == nullptr) throw std::bad_alloc();
  std::memset(memory_.get(), 0, static_cast<std::size_t>(bytes));
  words_ = words;
}

bool panel_matrix::put_pairs(std::int64_t n, const float* row) noexcept {
  const std::int64_t words = (k_ + 1) / 2 * panel_width;
  std::uint32_t* const to = pairs() + n / panel_width * words + n % panel_width;
  std::uint32_t rest = 0;
  for (std::int64_t i = 0; i < k_; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, row + i, sizeof bits);
    rest |= bits & 0xFFFFu;
    to[i / 2 * panel_width] |= i % 2 == 0 ? bits >> 16 : bits & 0xFFFF0000u;
  }
  return rest == 0;
}

void panel_matrix::put_floats(std::int64_t n, const float* row) noexcept {
  float* const to = floats() + n / panel_width * panel_width * k_ + n % panel_width;
  for (std::int64_t i = 0; i < k_; ++i) to[i * panel_width] = row[i];
}

void panel_matrix::multiply_one(const float* x, std::int64_t first, std::int64_t count, float* y) const noexcept {
  if (are_pairs_) loops().multiply_pairs(x, pairs() + first * ((k_ + 1) / 2) * panel_width, count, k_, y);
  else loops().multiply_floats(x, floats() + first * k_ * panel_width, count, k_, y);
}

const float* panel_matrix::panel(std::int64_t index, std::int64_t k, std::int64_t size, float* buffer) const noexcept {
  if (!are_pairs_) return floats() + (index * k_ + k) * panel_width;
  loops().widen_pairs(pairs() + (index * ((k_ + 1) / 2) + k / 2) * panel_width, size, buffer);
  return buffer;
}

void panel_matrix::multiply(const float* x, std::int64_t x_stride, std::int64_t tokens, float* y,
                            std::int64_t y_stride) const {
  std::vector<float> buffer(static_cast<std::size_t>(std::max(k_, panels()) * panel_width));
  if (tokens == 1) {
    multiply_one(x, 0, panels(), buffer.data());
    std::copy_n(buffer.data(), rows_, y);
    return;
  }
  for (std::int64_t p = 0; p < panels(); ++p)
    multiply_panel(x, x_stride, tokens, panel(p, 0, k_, buffer.data()), k_, y + p * panel_width, y_stride,
                   std::min(panel_width, rows_ - p * panel_width), false);
}

}  // namespace mxfp4::model

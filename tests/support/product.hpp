// tests/support/product.hpp -- weights, tokens and results for the tests of matrix products.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "mxfp4/reference/gemm.hpp"
#include "mxfp4/tensor/packed_view.hpp"
#include "support/matrix.hpp"
#include "support/oracle.hpp"

namespace mxfp4::test {

inline bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

inline bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](T x, T y) { return same_bits(x, y); });
}

/// Equal as numbers: -0 is +0.
inline bool same_numbers(const std::vector<float>& a, const std::vector<float>& b) { return a == b; }

/// tile16x32_v1 written down from its definition: lines of 4 bytes a row, element 4g + i low, 16 + 4g + i high.
class tiles_of {
 public:
  template <class Layout>
  tiles_of(const mx_memory<Layout>& from, std::int64_t rows, std::int64_t cols)
      : rows_(rows), tiles_((rows + 15) / 16), blocks_(cols / 32) {
    codes_.assign(static_cast<std::size_t>(tiles_ * blocks_ * 256), 0);
    scales_.assign(static_cast<std::size_t>(tiles_ * blocks_ * 16), 127);
    auto& source = const_cast<mx_memory<Layout>&>(from);
    for (std::int64_t n = 0; n < rows; ++n)
      for (std::int64_t k = 0; k < cols; ++k) {
        const std::int64_t block = n / 16 * blocks_ + k / 32, e = k % 32;
        const std::int64_t byte = block * 256 + e % 16 / 4 * 64 + n % 16 * 4 + e % 4;
        codes_[static_cast<std::size_t>(byte)] |= static_cast<std::uint8_t>(source.code(n, k) << (e >= 16 ? 4 : 0));
        scales_[static_cast<std::size_t>(block * 16 + n % 16)] = source.scale(n, k / 32);
      }
  }
  packed_view view() const { return {codes_.data(), scales_.data(), tiles_, blocks_, rows_}; }

 private:
  std::int64_t rows_, tiles_, blocks_;
  std::vector<std::uint8_t> codes_, scales_;
};

/// Random codes; scale bytes drawn from `bytes`.
template <class Layout>
void fill(mx_memory<Layout>& w, std::int64_t rows, std::int64_t cols, const std::vector<std::uint8_t>& bytes,
          splitmix& random) {
  w.fill_randomly(random);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t b = 0; b < cols / 32; ++b)
      w.scale(r, b) = bytes[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(bytes.size()) - 1))];
}

inline std::vector<std::uint8_t> byte_range(int lowest, int highest) {
  std::vector<std::uint8_t> bytes;
  for (int b = lowest; b <= highest; ++b) bytes.push_back(static_cast<std::uint8_t>(b));
  return bytes;
}

/// M tokens in a matrix of their own, `gap` elements between rows.
struct tokens {
  tokens(std::int64_t m, std::int64_t k, std::int64_t gap = 0)
      : rows(m), cols(k), stride(k + gap), data(static_cast<std::size_t>(m * (k + gap)), std::nanf("")) {}
  dense_view<const float> view() const { return {data.data(), rows, cols, stride}; }
  float& at(std::int64_t m, std::int64_t k) { return data[static_cast<std::size_t>(m * stride + k)]; }
  template <class F>
  tokens& fill(F&& value) {
    for (std::int64_t m = 0; m < rows; ++m)
      for (std::int64_t k = 0; k < cols; ++k) at(m, k) = value(m, k);
    return *this;
  }

  std::int64_t rows, cols, stride;
  std::vector<float> data;
};

/// The product in double, and the same of magnitudes: sum |w x|.
struct exact_product {
  template <class Dialect = dialect::ocp, class Layout>
  exact_product(mx_memory<Layout>& w, std::int64_t rows, const tokens& x) {
    tokens magnitude = x;
    for (float& v : magnitude.data) v = std::fabs(v);
    mx_memory<Layout> positive = w;
    for (std::int64_t n = 0; n < rows; ++n)
      for (std::int64_t k = 0; k < x.cols; ++k) positive.set_code(n, k, w.code(n, k) & 7u);
    sum.resize(static_cast<std::size_t>(x.rows * rows));
    magnitudes = sum;
    ok = reference::gemm<Dialect>(w.view(), x.view(), dense_view<double>{sum.data(), x.rows, rows, rows}).ok() &&
         reference::gemm<Dialect>(positive.view(), magnitude.view(),
                                  dense_view<double>{magnitudes.data(), x.rows, rows, rows})
             .ok();
  }
  std::vector<double> sum, magnitudes;
  bool ok = false;
};

}  // namespace mxfp4::test

// bench/data.hpp -- weights and activations to measure with.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "harness.hpp"
#include "mxfp4/core/aligned_buffer.hpp"
#include "mxfp4/core/float_types.hpp"
#include "mxfp4/kernel/pack.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"

namespace mxfp4::bench {

[[nodiscard]] inline std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// What nobody finds in a cache: read or written whole, or in turns.
[[nodiscard]] inline std::int64_t cold_bytes() { return std::int64_t{chosen.smoke ? 1 : 512} << 20; }

/// Memory on huge pages where the system has them, touched once: a first lap is as fast as the others.
template <class T>
class memory {
 public:
  explicit memory(std::int64_t count)
      : count_(count), bytes_(detail::allocate(std::max<std::int64_t>(count, 1) * std::int64_t{sizeof(T)})) {
    if (bytes_ == nullptr) throw std::bad_alloc();
    std::memset(bytes_.get(), 1, size(count) * sizeof(T));
  }
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(bytes_.get()); }
  [[nodiscard]] T* begin() const { return data(); }
  [[nodiscard]] T* end() const { return data() + count_; }
  [[nodiscard]] std::span<const std::uint8_t> bytes() const { return {bytes_.get(), size(count_) * sizeof(T)}; }

 private:
  std::int64_t count_;
  detail::aligned_buffer bytes_;
};

/// Fills everything with repetitions of the first `count` elements.
template <class T>
void repeat(const memory<T>& all, std::int64_t count) {
  for (T* to = all.begin() + count; to < all.end(); to += count)
    std::memcpy(to, all.begin(), size(std::min<std::int64_t>(count, all.end() - to)) * sizeof(T));
}

/// The same numbers on every machine.
class random_bits {
 public:
  explicit random_bits(std::uint64_t seed) : state_(seed) {}
  std::uint64_t operator()() {  // splitmix64
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// Bell-shaped: a sum of four uniform 16-bit numbers.
  float bell(float sigma) {
    const std::uint64_t z = (*this)();
    const auto sum = static_cast<float>((z & 0xFFFFu) + (z >> 16 & 0xFFFFu) + (z >> 32 & 0xFFFFu) + (z >> 48));
    return (sum - 131070.0f) * (sigma / 37837.0f);  // mean 2 (2^16 - 1), sigma 2^16 / sqrt(3)
  }

 private:
  std::uint64_t state_;
};

/// Numbers as they are quantised: sigma 0.02 as in real layers (e4m3: 1, their scales are apart).
template <class T>
[[nodiscard]] memory<T> make_numbers(std::int64_t count) {
  memory<T> numbers(count);
  const std::int64_t period = std::min<std::int64_t>(count, std::int64_t{1} << 17);
  random_bits random(1);
  for (std::int64_t i = 0; i < period; ++i)
    numbers.data()[i] = encode<T>(random.bell(std::is_same_v<T, e4m3> ? 1.0f : 0.02f));
  repeat(numbers, period);
  return numbers;
}

/// MXFP4 in compressed-tensors layout: `copies` matrices, one after the other. Random codes under scale bytes 118..125.
class checkpoint_bytes {
 public:
  checkpoint_bytes(std::int64_t n, std::int64_t k, std::int64_t copies)
      : n_(n), k_(k), codes_(n * k / 2 * copies), scales_(n * k / block_size * copies) {
    random_bits random(2);
    std::generate_n(codes_.begin(), n * k / 2, [&] { return static_cast<std::uint8_t>(random()); });
    std::generate_n(scales_.begin(), n * k / block_size, [&] { return static_cast<std::uint8_t>(118 + random() % 8); });
    repeat(codes_, n * k / 2);
    repeat(scales_, n * k / block_size);
  }
  [[nodiscard]] mx_view<> view(std::int64_t copy) const {
    return {codes_.data() + copy * n_ * k_ / 2,
            scales_.data() + copy * n_ * k_ / block_size,
            n_,
            k_,
            k_ / 2,
            k_ / block_size};
  }

 private:
  std::int64_t n_, k_;
  memory<std::uint8_t> codes_, scales_;
};

/// One matrix, or so many that a turn over all of them finds none in a cache; as a checkpoint has them and packed. The
/// kernel and its limits take turns on the same ones, so that none reads what another has just read.
class matrices {
 public:
  matrices(std::int64_t n, std::int64_t k, bool cold)
      : copies_(cold ? cold_bytes() / (n * k / 2) + 1 : 1), views_(n, k, copies_) {
    for (std::int64_t i = 0; i < copies_; ++i) packed_.push_back(*pack(views_.view(i)));
  }
  void next() { at_ = (at_ + 1) % copies_; }
  [[nodiscard]] const_mx_view<> view() const { return views_.view(at_); }
  [[nodiscard]] const packed_matrix& packed() const { return packed_[size(at_)]; }
  [[nodiscard]] std::span<const std::uint8_t> view_bytes() const {
    return {view().codes, size(view().rows * view().code_stride)};
  }

 private:
  std::int64_t copies_, at_ = 0;
  checkpoint_bytes views_;
  std::vector<packed_matrix> packed_;
};

/// Made once for rows that follow one another.
[[nodiscard]] inline matrices& matrices_for(const row& r) {
  static row made;
  static std::unique_ptr<matrices> all;
  if (all == nullptr || made.n != r.n || made.k != r.k || made.residency != r.residency) {
    all.reset();  // the old ones first: this is memory
    all = std::make_unique<matrices>(r.n, r.k, r.residency == "cold");
    made = r;
  }
  return *all;
}

/// Bytes of a matrix: 17 per 32 weights.
[[nodiscard]] inline double packed_bytes(const row& r) {
  return static_cast<double>(r.n * r.k) * block_bytes / block_size;
}

/// Tokens and results of a product, tokens in [-1, 1).
struct product_data {
  explicit product_data(const row& r) : x(r.m * r.k), y(r.m * r.n) {
    random_bits random(3);
    for (float& v : x) v = static_cast<float>(static_cast<std::int64_t>(random()) >> 40) * 0x1p-23f;
  }
  memory<float> x, y;
};

/// Calls is_right(rows of W, token, outputs) for the first and the last rows, and the first and the last token.
template <class F>
[[nodiscard]] bool at_the_corners(const row& r, const const_mx_view<>& w, const product_data& d, F is_right) {
  const std::int64_t sample = std::min<std::int64_t>(r.n, 16);
  for (const std::int64_t n : {std::int64_t{0}, r.n - sample})
    for (const std::int64_t m : {std::int64_t{0}, r.m - 1}) {
      const const_mx_view<> rows{w.block_codes(n, 0), w.block_scale(n, 0), sample, w.cols,
                                 w.code_stride,       w.scale_stride};
      if (!is_right(rows, d.x.data() + m * r.k, d.y.data() + m * r.n + n)) return false;
    }
  return true;
}

/// Y against sums in double, within gamma(K) = K * 2^-24 / (1 - K * 2^-24) of what their terms add up to.
[[nodiscard]] inline bool is_close(const const_mx_view<>& w, const float* x, const float* y) {
  std::vector<float> weights(size(w.rows * w.cols));
  if (!reference::dequantize(w, dense_view<float>{weights.data(), w.rows, w.cols, w.cols}).ok()) return false;
  const double gamma = static_cast<double>(w.cols) * 0x1p-24 / (1.0 - static_cast<double>(w.cols) * 0x1p-24);
  for (std::int64_t n = 0; n < w.rows; ++n) {
    double sum = 0, all = 0;
    for (std::int64_t k = 0; k < w.cols; ++k) {
      const double term = static_cast<double>(weights[size(n * w.cols + k)]) * static_cast<double>(x[k]);
      sum += term;
      all += std::fabs(term);
    }
    if (!(std::fabs(static_cast<double>(y[n]) - sum) <= gamma * all)) return false;
  }
  return true;
}

/// Experts of MiniMax-M2, w2 and w1 or w3, and a square layer (N x K).
struct shape {
  std::int64_t n, k;
};
[[nodiscard]] inline std::vector<shape> layer_shapes() {
  if (chosen.smoke) return {{48, 96}};
  return {{3072, 1536}, {1536, 3072}, {4096, 4096}};
}

}  // namespace mxfp4::bench

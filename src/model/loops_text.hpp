// src/model/loops_text.hpp -- the text of loops.hpp's products, for the instruction set of whoever includes it.
// SPDX-License-Identifier: Apache-2.0
//
// Everything has internal linkage and nothing of the standard library is called: no linker takes a function that was
// compiled for AVX2 in the place of another file's.
#pragma once

#include <cstdint>
#include <utility>

#include "model/dense_product.hpp"
#include "mxfp4/reference/sigmoid.hpp"

namespace mxfp4::model {

namespace {

/// `Width` floats: a register. g++ keeps wider ones than the machine's in memory.
template <int Width>
struct lanes_of {
  using floats [[gnu::vector_size(sizeof(float) * Width)]] = float;
  using words [[gnu::vector_size(sizeof(float) * Width)]] = std::uint32_t;
  using doubles [[gnu::vector_size(sizeof(double) * Width)]] = double;
};

template <class T>
inline constexpr bool is_pair = false;
template <>
inline constexpr bool is_pair<std::uint32_t> = true;

template <class Vector, class T>
[[gnu::always_inline]] inline void load(Vector& v, const T* from) {
  __builtin_memcpy(&v, from, sizeof v);
}

/// Bytes: the memory of panels comes in an eighth sooner than what the machine itself fetches ahead.
inline constexpr std::uintptr_t fetched_ahead = 2048;

template <class T>
[[gnu::always_inline]] inline void fetch_ahead(const T* at) {
  // An address: behind the last panel it is that of nothing.
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(at) + fetched_ahead));
}

/// The rows `Rows` of x and y at a time: each number of the panel is loaded once for all of them. Written out by folds
/// and not by loops: g++ decides what stays in registers before it unrolls.
/// @tparam Row, Next  floats between the numbers of two rows of x, and of two k; 0: x_stride, and 1.
template <int Width, std::int64_t Row, std::int64_t Next, std::int64_t... Rows>
[[gnu::always_inline]] inline void panel_rows(std::integer_sequence<std::int64_t, Rows...>, const float* x,
                                              std::int64_t x_stride, const float* panel, std::int64_t k, float* y,
                                              std::int64_t y_stride, std::int64_t columns, bool add) {
  using floats = typename lanes_of<Width>::floats;
  constexpr int parts = static_cast<int>(panel_width) / Width;
  if constexpr (Row != 0) x_stride = Row;
  const std::size_t bytes = static_cast<std::size_t>(columns) * sizeof(float);
  float edges[sizeof...(Rows)][panel_width] = {};
  if (add) (__builtin_memcpy(edges[Rows], y + Rows * y_stride, bytes), ...);
  floats low[sizeof...(Rows)], high[sizeof...(Rows)];
  ((load(low[Rows], edges[Rows]), load(high[Rows], edges[Rows] + (parts - 1) * Width)), ...);
  for (std::int64_t i = 0; i < k; ++i) {
    floats w0, w1;
    load(w0, panel + i * panel_width);
    fetch_ahead(panel + i * panel_width);
    if constexpr (parts == 1) {
      ((low[Rows] += x[Rows * x_stride + i * Next] * w0), ...);
    } else {
      load(w1, panel + i * panel_width + Width);
      ((low[Rows] += x[Rows * x_stride + i * Next] * w0, high[Rows] += x[Rows * x_stride + i * Next] * w1), ...);
    }
  }
  ((__builtin_memcpy(edges[Rows], &low[Rows], sizeof(floats))), ...);
  if constexpr (parts == 2) ((__builtin_memcpy(edges[Rows] + Width, &high[Rows], sizeof(floats))), ...);
  ((__builtin_memcpy(y + Rows * y_stride, edges[Rows], bytes)), ...);
}

/// @tparam RowsAtOnce  descending, the last is 1.
template <int Width, std::int64_t... RowsAtOnce>
void panel_product(const float* x, std::int64_t x_stride, std::int64_t rows, const float* panel, std::int64_t k,
                   float* y, std::int64_t y_stride, std::int64_t columns, bool add) {
  std::int64_t m = 0;
  const auto some = [&]<std::int64_t Some>(std::integral_constant<std::int64_t, Some>) {
    for (; m + Some <= rows; m += Some)
      panel_rows<Width, 0, 1>(std::make_integer_sequence<std::int64_t, Some>{}, x + m * x_stride, x_stride, panel, k,
                              y + m * y_stride, y_stride, columns, add);
  };
  (some(std::integral_constant<std::int64_t, RowsAtOnce>{}), ...);
}

/// The same for `Tile` rows of x that lie side by side.
template <int Width, std::int64_t Tile>
void tile_product(const float* x, const float* panel, std::int64_t k, float* y, std::int64_t y_stride,
                  std::int64_t columns, bool add) {
  panel_rows<Width, 1, Tile>(std::make_integer_sequence<std::int64_t, Tile>{}, x, 1, panel, k, y, y_stride, columns,
                             add);
}

template <class Floats, class Words>
[[gnu::always_inline]] inline void add_product(Floats& sum, float x, Words words) {
  Floats w;
  __builtin_memcpy(&w, &words, sizeof w);
  sum += x * w;
}

/// Panels at once: their chains of additions hide each other's latency.
/// @tparam T  a panel's words: pairs of bf16, or floats.
template <int Width, class T, std::int64_t... Panels>
[[gnu::always_inline]] inline void panels_at_once(std::integer_sequence<std::int64_t, Panels...>, const float* x,
                                                  const T* panels, std::int64_t k, float* y) {
  using floats = typename lanes_of<Width>::floats;
  constexpr bool pairs = is_pair<T>;
  constexpr std::int64_t parts = panel_width / Width, step = pairs ? 2 : 1;
  const std::int64_t panel = (k + step - 1) / step * panel_width;
  floats sums[sizeof...(Panels)][static_cast<std::size_t>(parts)] = {};
  const auto add = [&](std::int64_t i, bool both) __attribute__((always_inline)) {
    const T* const at = panels + i / step * panel_width;
    const float even = x[i], odd = both ? x[i + 1] : 0.0f;
    const auto add_panel = [&](floats & sum, const T* from) __attribute__((always_inline)) {
      if constexpr (pairs) {
        typename lanes_of<Width>::words w;
        load(w, from);
        add_product(sum, even, w << 16);
        if (both) add_product(sum, odd, w & 0xFFFF0000u);
      } else {
        floats w;
        load(w, from);
        add_product(sum, even, w);
      }
    };
    for (std::int64_t part = 0; part < parts; ++part)
      (add_panel(sums[Panels][part], at + Panels * panel + part * Width), ...);
    (fetch_ahead(at + Panels * panel), ...);
  };
  std::int64_t i = 0;
  for (; i + step <= k; i += step) add(i, pairs);
  if (i < k) add(i, false);
  for (std::int64_t part = 0; part < parts; ++part)
    (__builtin_memcpy(y + Panels * panel_width + part * Width, &sums[Panels][part], sizeof(floats)), ...);
}

template <int Width, class T>
void few_panels(const float* x, const T* panels, std::int64_t count, std::int64_t k, float* y) {
  const std::int64_t words = (is_pair<T> ? (k + 1) / 2 : k) * panel_width;
  std::int64_t p = 0;
  for (; p + 4 <= count; p += 4)
    panels_at_once<Width>(std::make_integer_sequence<std::int64_t, 4>{}, x, panels + p * words, k, y + p * panel_width);
  for (; p < count; ++p)
    panels_at_once<Width>(std::make_integer_sequence<std::int64_t, 1>{}, x, panels + p * words, k, y + p * panel_width);
}

template <int Width>
void widen_panel(const std::uint32_t* pairs, std::int64_t k, float* panel) {
  using integers = typename lanes_of<Width>::words;
  for (std::int64_t i = 0; i < k; i += 2)
    for (int part = 0; part < panel_width; part += Width) {
      integers w;
      load(w, pairs + i / 2 * panel_width + part);
      const integers even = w << 16, odd = w & 0xFFFF0000u;
      __builtin_memcpy(panel + i * panel_width + part, &even, sizeof even);
      if (i + 1 < k) __builtin_memcpy(panel + (i + 1) * panel_width + part, &odd, sizeof odd);
    }
}

/// e^x for x <= 0, by the polynomial of reference/sigmoid.hpp without fused operations: within 2 ulp, 0 below e^-87.3;
/// NaN for NaN.
template <int Width>
[[gnu::always_inline]] inline typename lanes_of<Width>::floats power_of_e(typename lanes_of<Width>::floats x) {
  using floats = typename lanes_of<Width>::floats;
  using words = typename lanes_of<Width>::words;
  constexpr float to_nearest = 0x1.8p23f;  // added, it leaves n in the last bits
  const floats shifted = x * detail::log2_e + to_nearest, n = shifted - to_nearest;
  const floats r = (x - n * detail::ln2_high) - n * detail::ln2_low;
  floats q = r * detail::exp_poly[4] + detail::exp_poly[3];
  for (int i = 2; i >= 0; --i) q = q * r + detail::exp_poly[i];
  floats p = (r * r * q + r) + 1.0f;
  words bits, exponent;
  __builtin_memcpy(&bits, &p, sizeof bits);
  __builtin_memcpy(&exponent, &shifted, sizeof exponent);
  bits += exponent << detail::f32_mantissa_bits;
  __builtin_memcpy(&p, &bits, sizeof p);
  p = x >= -87.3f ? p : floats{};
  return x == x ? p : x;
}

/// Eight maxima and eight sums side by side, of the scores at t % 8: a chain of additions of thousands of scores takes
/// longer than their powers.
template <int Width>
void softmax(float* scores, std::int64_t length, float factor, const float* sink) {
  using floats = typename lanes_of<Width>::floats;
  using half = typename lanes_of<Width / 2>::floats;
  using doubles = typename lanes_of<Width / 2>::doubles;
  constexpr std::int64_t chains = panel_width, parts = chains / Width, halves = 2 * parts;
  constexpr float none = -__builtin_inff();
  const std::int64_t whole = length / chains * chains;
  const auto bytes = static_cast<std::size_t>(length - whole) * sizeof(float);
  float rest[chains];  // behind the last whole eight; what it lacks has the power 0
  for (float& score : rest) score = none;
  __builtin_memcpy(rest, scores + whole, bytes);
  const auto for_each_eight = [&](auto work) __attribute__((always_inline)) {
    for (std::int64_t t = 0; t < whole; t += chains) work(scores + t);
    if (whole < length) work(rest);
  };
  floats most[static_cast<std::size_t>(parts)];
  for (floats& m : most) m = floats{} + (sink != nullptr ? *sink : none);
  for_each_eight([&](float* at) __attribute__((always_inline)) {
    for (std::int64_t p = 0; p < parts; ++p) {
      floats s;
      load(s, at + p * Width);
      s *= factor;
      __builtin_memcpy(at + p * Width, &s, sizeof s);
      most[p] = most[p] < s ? s : most[p];
    }
  });
  float largest = none;
  for (const floats& m : most)
    for (int i = 0; i < Width; ++i) largest = largest < m[i] ? m[i] : largest;
  doubles sums[static_cast<std::size_t>(halves)] = {};
  for_each_eight([&](float* at) __attribute__((always_inline)) {
    for (std::int64_t p = 0; p < parts; ++p) {
      floats s;
      load(s, at + p * Width);
      s = power_of_e<Width>(s - largest);
      __builtin_memcpy(at + p * Width, &s, sizeof s);
    }
    for (std::int64_t h = 0; h < halves; ++h) {
      half s;
      load(s, at + h * (Width / 2));
      sums[h] += __builtin_convertvector(s, doubles);
    }
  });
  double total = 0.0;
  if (sink != nullptr) total = static_cast<double>(power_of_e<Width>(floats{} + (*sink - largest))[0]);
  for (const doubles& sum : sums)
    for (int i = 0; i < Width / 2; ++i) total += sum[i];
  const auto scale = static_cast<float>(1.0 / total);
  for_each_eight([&](float* at) __attribute__((always_inline)) {
    for (std::int64_t i = 0; i < chains; ++i) at[i] *= scale;
  });
  __builtin_memcpy(scores + whole, rest, bytes);
}

}  // namespace

}  // namespace mxfp4::model

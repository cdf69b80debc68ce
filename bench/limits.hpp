// bench/limits.hpp -- what the machine can do at the most: the ways to read, to store, to multiply.
// SPDX-License-Identifier: Apache-2.0
//
// Each function returns several ways; the best of them is the limit. They touch the memory that the kernel touches.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data.hpp"
#include "mxfp4/simd/simd.hpp"
#include "peaks.hpp"
#include "threads.hpp"

namespace mxfp4::bench {

using bytes_in_register = xsimd::batch<std::uint8_t, simd::native_arch>;
inline constexpr std::int64_t register_bytes = bytes_in_register::size;

/// Calls part(i) for each thread's half.
template <class F>
void on_threads(int threads, F part) {
  executor_for(threads).run(static_cast<std::size_t>(threads), [&](std::size_t i) { part(static_cast<int>(i)); });
}

/// Reads `Streams` parts of the memory side by side, each with a prefetch `Ahead` bytes before it.
template <int Streams, int Ahead>
void read(const std::uint8_t* from, std::int64_t bytes) {
  constexpr std::int64_t step = 256, all_streams = Streams * step;
  const std::int64_t part = bytes / all_streams * step;
  bytes_in_register any[4] = {};
  for (std::int64_t i = 0; i < part; i += step) {
    MXFP4_UNROLL
    for (int s = 0; s < Streams; ++s) {
      const std::uint8_t* const at = from + s * part + i;
      if constexpr (Ahead > 0) {
        MXFP4_UNROLL
        for (int line = 0; line < step; line += 64) __builtin_prefetch(at + line + Ahead);
      }
      MXFP4_UNROLL
      for (std::int64_t j = 0; j < step; j += register_bytes)
        any[j / register_bytes % 4] |= bytes_in_register::load_unaligned(at + j);
    }
  }
  benchmark::DoNotOptimize(xsimd::reduce_max((any[0] | any[1]) | (any[2] | any[3])));
}

/// Reading and nothing else; `next` gives the memory of a call, always of the same size.
[[nodiscard]] inline std::vector<work> read_limits(int threads, std::function<std::span<const std::uint8_t>()> next) {
  const auto all = static_cast<std::int64_t>(next().size());
  const std::int64_t part = all / threads / 1024 * 1024;  // whole steps in every stream
  const auto way = [&](const char* name, void (*read)(const std::uint8_t*, std::int64_t)) {
    return work{name, 1e-9 * static_cast<double>(part * threads), [=] {
                  const std::uint8_t* const from = next().data();
                  on_threads(threads, [=](int i) { read(from + i * part, part); });
                }};
  };
  return {way("read", read<1, 0>), way("read, prefetch 4 KiB", read<1, 4096>), way("read, 4 streams", read<4, 0>),
          way("read, 4 streams, prefetch 1 KiB", read<4, 1024>)};
}

template <bool Stream>
MXFP4_INLINE void store(const bytes_in_register& x, std::uint8_t* to) {
#if defined(__AVX512F__)
  if constexpr (Stream) return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), x);
#elif defined(__AVX__)
  if constexpr (Stream) return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), x);
#endif
  x.store_aligned(to);
}

/// The traffic of dequantising and nothing else: for each block 17 bytes read, `Out` written, in two halves of the
/// memory side by side if `Streams` is 2.
template <int Out, bool Stream, int Streams, int Ahead>
void expand(const std::uint8_t* codes, const std::uint8_t* scales, std::int64_t blocks, std::uint8_t* out) {
  const std::int64_t part = blocks / Streams;
  for (std::int64_t i = 0; i < part; ++i) {
    MXFP4_UNROLL
    for (int s = 0; s < Streams; ++s) {
      const std::int64_t b = s * part + i;
      if constexpr (Ahead > 0) __builtin_prefetch(codes + 16 * b + Ahead);
      std::uint64_t word = 0;
      std::memcpy(&word, codes + 16 * b, sizeof word);
      const auto x =
          xsimd::bitwise_cast<std::uint8_t>(xsimd::batch<std::uint64_t, simd::native_arch>(word | scales[b]));
      MXFP4_UNROLL
      for (std::int64_t j = 0; j < Out; j += register_bytes) store<Stream>(x, out + Out * b + j);
    }
  }
  if constexpr (Stream) simd::finish_stores<simd::native_arch, simd::store::stream>();
}

/// Storing numbers of T for the codes of a matrix, through the cache or past it.
template <class T, bool Stream>
[[nodiscard]] std::vector<work> store_limits(int threads, const mx_view<>& w, T* out) {
  constexpr int bytes = block_size * sizeof(T);
  const std::int64_t part = w.rows * w.blocks() / threads / 2 * 2;
  const auto way = [&](const char* name, auto expand) {
    return work{name, 1e-9 * static_cast<double>(part * threads * bytes), [=] {
                  on_threads(threads, [=](int i) {
                    expand(w.codes + i * part * block_code_bytes, w.scales + i * part, part,
                           reinterpret_cast<std::uint8_t*>(out) + i * part * bytes);
                  });
                }};
  };
  if constexpr (Stream)
    return {way("17 bytes in, stream", expand<bytes, true, 1, 0>),
            way("17 bytes in, stream, prefetch", expand<bytes, true, 1, 2048>),
            way("17 bytes in, stream twice", expand<bytes, true, 2, 0>)};
  else
    return {way("17 bytes in, store", expand<bytes, false, 1, 0>),
            way("17 bytes in, store, prefetch", expand<bytes, false, 1, 2048>),
            way("17 bytes in, store twice", expand<bytes, false, 2, 0>)};
}

/// Fused multiply-adds of registers, two operations a lane.
template <class Arch>
[[nodiscard]] work fma_peak(int threads) {
  constexpr std::int64_t steps = 1 << 14, lanes = simd::float_lanes<Arch>::size;
  return {"FMA peak", 2e-9 * static_cast<double>(fma_chains * steps * lanes * threads),
          [threads] { on_threads(threads, [](int) { multiply_add_floats<Arch>(steps); }); }};
}

/// Int8 dots of registers by whatever Arch has for them, two operations a product.
template <class Arch>
[[nodiscard]] work dot_peak(int threads) {
  constexpr std::int64_t steps = 1 << 13, lanes = simd::rows_per_register<Arch>;
  return {"int8 dot peak", 16e-9 * static_cast<double>(dot_chains<Arch> * steps * lanes * threads),
          [threads] { on_threads(threads, [](int) { multiply_add_bytes<Arch>(steps); }); }};
}

}  // namespace mxfp4::bench

// bench/common.hpp -- weights to measure with, the shapes of real layers, and what a benchmark counts.
// SPDX-License-Identifier: Apache-2.0
//
// Two rates, in 10^9 bytes per second of the one thread's CPU time, so that a busy machine shows less:
//   packed_GB/s   the MXFP4 side, read or written: 17 bytes per 32 weights, 16 of codes and one scale
//   out_GB/s, in_GB/s   the other side: 4 (f32) or 2 (bf16, f16) bytes per weight
// and weights/s. Nothing is counted twice; a quantiser that reads its input twice still counts it once.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "mxfp4/block.hpp"
#include "mxfp4/quantize.hpp"

namespace mxfp4::bench {

/// Experts of MiniMax-M2: w1 and w3 are 1536 x 3072, w2 is 3072 x 1536 (N x K).
inline void expert_shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "cols"})->Args({1536, 3072})->Args({3072, 1536})->Unit(benchmark::kMillisecond);
}

/// Bell-shaped weights with sigma 0.02, the same on every machine: sums of four uniform 16-bit numbers.
template <class T>
std::vector<T> make_weights(std::int64_t count) {
  std::vector<T> w(static_cast<std::size_t>(count));
  std::uint64_t state = 1;
  for (T& x : w) {
    std::uint64_t z = state += 0x9E3779B97F4A7C15u;  // splitmix64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    const auto sum = static_cast<float>((z & 0xFFFFu) + (z >> 16 & 0xFFFFu) + (z >> 32 & 0xFFFFu) + (z >> 48));
    x = encode<T>((sum - 131070.0f) * (0.02f / 37837.0f));  // mean 2 (2^16 - 1), sigma 2^16 / sqrt(3)
  }
  return w;
}

/// MXFP4 weights in memory of their own, compressed-tensors layout.
struct packed_weights {
  packed_weights(std::int64_t n, std::int64_t k)
      : rows(n),
        cols(k),
        codes(static_cast<std::size_t>(n * k / 2)),
        scales(static_cast<std::size_t>(n * k / block_size)) {}
  [[nodiscard]] mx_view<> view() { return {codes.data(), scales.data(), rows, cols, cols / 2, cols / block_size}; }
  /// The block whose first element has the row-major index 32 * i.
  [[nodiscard]] block at(std::size_t i) const {
    block b{static_cast<e8m0>(scales[i]), {}};
    std::memcpy(b.codes, codes.data() + block_code_bytes * i, block_code_bytes);
    return b;
  }

  std::int64_t rows, cols;
  std::vector<std::uint8_t> codes, scales;
};

/// The rates of a loop that turned `rows` x `cols` weights per iteration. `side` is "in" or "out".
template <class T>
void count(benchmark::State& state, std::int64_t rows, std::int64_t cols, const char* side) {
  const double weights = static_cast<double>(rows) * static_cast<double>(cols);
  const auto per_iteration = [](double amount) {
    return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["packed_GB/s"] = per_iteration(weights * block_bytes / block_size * 1e-9);
  state.counters[std::string(side) + "_GB/s"] = per_iteration(weights * sizeof(T) * 1e-9);
  state.counters["weights/s"] = per_iteration(weights);
}

}  // namespace mxfp4::bench

// bench/kernels.cpp -- the vector kernels beside what the machine could do at the most, in one run.
// SPDX-License-Identifier: Apache-2.0
//
//   hot    one matrix of 2^17 weights again and again: everything in L2
//   dram   one of 2^27 weights: everything from memory and to it
//
// limit/... moves the same bytes and does nothing else: what the kernels' rates are to be divided by. Compiled for the
// machine it runs on (-march=native); one thread; results are compared with the scalar floor before the clock starts.
#include <cstdlib>

#include "common.hpp"
#include "mxfp4/kernel/dequantize.hpp"
#include "mxfp4/kernel/quantize.hpp"

namespace {

using namespace mxfp4;

constexpr std::int64_t hot = std::int64_t{1} << 17, dram = std::int64_t{1} << 27, cols = 4096;

void sizes(benchmark::internal::Benchmark* b) { b->ArgName("weights")->Arg(hot)->Arg(dram); }

/// Memory on 64-byte boundaries, touched once, so that the first lap is not the slow one.
template <class T>
class memory {
 public:
  explicit memory(std::int64_t count)
      : data_(static_cast<T*>(std::aligned_alloc(
            2 << 20, (static_cast<std::size_t>(count) * sizeof(T) + 0x1FFFFF) & ~std::size_t{0x1FFFFF}))) {
    std::memset(static_cast<void*>(data_), 1, static_cast<std::size_t>(count) * sizeof(T));
  }
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;
  ~memory() { std::free(data_); }
  T* data() const { return data_; }

 private:
  T* data_;
};

struct packed {
  explicit packed(std::int64_t weights) : codes(weights / 2), scales(weights / 32) {
    for (std::int64_t i = 0; i < weights / 2; ++i) codes.data()[i] = static_cast<std::uint8_t>(i * 0x9E3779B1 >> 13);
    for (std::int64_t i = 0; i < weights / 32; ++i) scales.data()[i] = static_cast<std::uint8_t>(116 + i * 7 % 9);
    view = {codes.data(), scales.data(), weights / cols, cols, cols / 2, cols / 32};
  }
  memory<std::uint8_t> codes, scales;
  mx_view<> view;
};

void rates(benchmark::State& state, double bytes_a_weight, const char* name) {
  const auto weights = static_cast<double>(state.range(0));
  state.counters[name] =
      benchmark::Counter(weights * bytes_a_weight * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["weights/s"] = benchmark::Counter(weights, benchmark::Counter::kIsIterationInvariantRate);
}

template <class T>
void dequantize_matrix(benchmark::State& state) {
  const packed w(state.range(0));
  const memory<T> out(state.range(0));
  const std::int64_t sample = 4;  // rows
  std::vector<T> expected(static_cast<std::size_t>(sample * cols));
  mx_view<> top = w.view;
  top.rows = sample;
  const bool ok = dequantize(top, dense_view<T>{expected.data(), sample, cols, cols}).ok() &&
                  kernel::dequantize<>(w.view, dense_view<T>{out.data(), w.view.rows, cols, cols}).ok();
  if (!ok || std::memcmp(expected.data(), out.data(), expected.size() * sizeof(T)) != 0)
    return state.SkipWithError("kernel::dequantize differs from dequantize");
  for (auto _ : state) {
    benchmark::DoNotOptimize(kernel::dequantize<>(w.view, dense_view<T>{out.data(), w.view.rows, cols, cols}).code);
    benchmark::ClobberMemory();
  }
  rates(state, sizeof(T), "out_GB/s");
}

template <class Recipe, class T>
void quantize_matrix(benchmark::State& state) {
  const std::int64_t rows = state.range(0) / cols;
  const memory<T> x(state.range(0));
  const std::vector<T> some = bench::make_weights<T>(hot);
  for (std::int64_t i = 0; i < state.range(0); i += hot) std::copy(some.begin(), some.end(), x.data() + i);
  const packed out(state.range(0)), expected(hot);
  const dense_view<const T> w{x.data(), rows, cols, cols};
  const bool ok = quantize<Recipe>(dense_view<const T>{x.data(), hot / cols, cols, cols}, expected.view).ok() &&
                  kernel::quantize<Recipe>(w, out.view).ok();
  if (!ok || std::memcmp(expected.codes.data(), out.codes.data(), hot / 2) != 0 ||
      std::memcmp(expected.scales.data(), out.scales.data(), hot / 32) != 0)
    return state.SkipWithError("kernel::quantize differs from quantize");
  for (auto _ : state) {
    benchmark::DoNotOptimize(kernel::quantize<Recipe>(w, out.view).code);
    benchmark::ClobberMemory();
  }
  rates(state, sizeof(T), "in_GB/s");
}

BENCHMARK(dequantize_matrix<float>)->Name("kernel/dequantize/f32")->Apply(sizes);
BENCHMARK(dequantize_matrix<bf16>)->Name("kernel/dequantize/bf16")->Apply(sizes);
BENCHMARK(dequantize_matrix<f16>)->Name("kernel/dequantize/f16")->Apply(sizes);
BENCHMARK(quantize_matrix<recipe::ocp, float>)->Name("kernel/quantize/ocp/f32")->Apply(sizes);
BENCHMARK(quantize_matrix<recipe::compressed_tensors, float>)
    ->Name("kernel/quantize/compressed_tensors/f32")
    ->Apply(sizes);
BENCHMARK(quantize_matrix<recipe::compressed_tensors, bf16>)
    ->Name("kernel/quantize/compressed_tensors/bf16")
    ->Apply(sizes);

// ---- limits ---------------------------------------------------------------------------------------------------------

#if defined(__AVX512F__)

/// 17 bytes read, 128 written, nothing computed: the traffic of dequantising to f32.
template <bool stream>
void expand_17_to_128(benchmark::State& state) {
  const packed w(state.range(0));
  const memory<float> out(state.range(0));
  for (auto _ : state) {
    for (std::int64_t b = 0; b < state.range(0) / 32; ++b) {
      const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w.codes.data() + 16 * b));
      const __m512i x = _mm512_or_si512(_mm512_broadcast_i32x4(codes), _mm512_set1_epi32(w.scales.data()[b]));
      auto* to = reinterpret_cast<__m512i*>(out.data() + 32 * b);
      for (int half = 0; half < 2; ++half)
        if constexpr (stream) _mm512_stream_si512(to + half, x);
        else _mm512_store_si512(to + half, x);
    }
    benchmark::ClobberMemory();
  }
  rates(state, sizeof(float), "out_GB/s");
}

void read_f32(benchmark::State& state) {
  const memory<float> x(state.range(0));
  for (auto _ : state) {
    __m512i sum[4] = {};
    for (std::int64_t i = 0; i < state.range(0); i += 64)
      for (int j = 0; j < 4; ++j) sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(x.data() + i + 16 * j));
    benchmark::DoNotOptimize(_mm512_or_si512(_mm512_or_si512(sum[0], sum[1]), _mm512_or_si512(sum[2], sum[3])));
  }
  rates(state, sizeof(float), "in_GB/s");
}

BENCHMARK(expand_17_to_128<false>)->Name("limit/store_17_128/cached")->Apply(sizes);
BENCHMARK(expand_17_to_128<true>)->Name("limit/store_17_128/stream")->Apply(sizes);
BENCHMARK(read_f32)->Name("limit/read")->Apply(sizes);

#endif

}  // namespace

BENCHMARK_MAIN();

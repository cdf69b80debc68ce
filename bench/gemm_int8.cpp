// bench/gemm_int8.cpp -- W4A8: gemv and gemm on packed weights, beside what one core can read and multiply.
// SPDX-License-Identifier: Apache-2.0
//
//   limit/dot                     operations of the int8 dot instructions alone (two per product), weights in registers
//   limit/read/{hot,cold}/<ahead> packed bytes read and nothing else, with a prefetch so many bytes ahead (0: none)
//   gemv/int8/<scaling>/{hot,cold}, gemm/int8/<scaling>     the kernels
// hot: one matrix again and again; cold: 48 of them in turn, 430 MB. packed_GB/s counts 17 bytes per 32 weights, op/s two
// operations per weight and token. Rates are per CPU time of one thread. A row's limit is the best of its kind.
#include <algorithm>
#include <string>

#include "common.hpp"
#include "mxfp4/linalg_int8.hpp"

namespace {

using namespace mxfp4;
using arch = simd::native_arch;
constexpr std::int64_t cold_matrices = 48;

/// Random codes under scale bytes 118..125.
packed_matrix make_packed(std::int64_t n, std::int64_t k, std::uint64_t seed) {
  packed_matrix w = *packed_matrix::uninitialized(n, k);
  for (std::int64_t t = 0; t < w.tiles(); ++t) {
    for (std::int64_t i = 0; i < w.blocks() * tile_block_bytes; i += 4) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      const auto codes = static_cast<std::uint32_t>(seed >> 32);
      std::memcpy(w.codes(t) + i, &codes, sizeof codes);
    }
    for (std::int64_t i = 0; i < w.blocks() * tile_rows; ++i)
      w.scales(t)[i] = static_cast<std::uint8_t>(118 + i * 5 % 8);
    w.update_range(t);
  }
  return w;
}

/// Made once per shape; cold ones never in two shapes at a time.
const std::vector<packed_matrix>& matrices(bool cold, std::int64_t n, std::int64_t k) {
  static std::vector<packed_matrix> all[2];
  std::vector<packed_matrix>& made = all[cold];
  if (made.empty() || made[0].rows() != n || made[0].cols() != k) {
    made.clear();
    for (std::int64_t i = 0; i < (cold ? cold_matrices : 1); ++i)
      made.push_back(make_packed(n, k, static_cast<std::uint64_t>(i)));
  }
  return made;
}

void count(benchmark::State& state, double packed_bytes, double operations) {
  const auto rate = [](double amount) {
    return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
  };
  if (packed_bytes > 0) state.counters["packed_GB/s"] = rate(packed_bytes * 1e-9);
  state.counters["op/s"] = rate(operations);
}

void dot_limit(benchmark::State& state) {
  constexpr int chains = 12, steps = 1000;
  simd::block_sum<arch> sums[chains];
  const simd::byte_lanes<arch> weights(std::uint8_t{3});
  for (auto _ : state) {
    for (int c = 0; c < chains; ++c) sums[c].start(c);  // not all the same, or they become one
    for (int i = 0; i < steps; ++i) {
      MXFP4_UNROLL
      for (int c = 0; c < chains; ++c) sums[c].add(0, weights, 0x01010101);
      asm volatile("" ::: "memory");
    }
    simd::int_lanes<arch> all(0);
    for (auto& s : sums) all += s.sum();
    benchmark::DoNotOptimize(xsimd::reduce_add(all));
  }
  count(state, 0, 8.0 * chains * steps * simd::rows_per_register<arch>);
}

void read_all(std::span<const std::uint8_t> bytes, std::int64_t ahead) {
  using lanes = simd::byte_lanes<arch>;
  lanes any[4] = {lanes(std::uint8_t{0}), lanes(std::uint8_t{0}), lanes(std::uint8_t{0}), lanes(std::uint8_t{0})};
  const auto size = static_cast<std::int64_t>(bytes.size());
  for (std::int64_t i = 0; i + 256 <= size; i += 256) {
    for (std::int64_t line = 0; ahead > 0 && line < 256; line += 64)
      __builtin_prefetch(bytes.data() + i + line + ahead);
    MXFP4_UNROLL
    for (std::size_t j = 0; j < 256; j += lanes::size)
      any[j / lanes::size % 4] |= lanes::load_aligned(bytes.data() + i + j);
  }
  benchmark::DoNotOptimize(xsimd::reduce_max((any[0] | any[1]) | (any[2] | any[3])));
}

void read_limit(benchmark::State& state, bool cold) {
  const std::int64_t n = state.range(0), k = state.range(1), ahead = state.range(2);
  const std::vector<packed_matrix>& all = matrices(cold, n, k);
  std::size_t i = 0;
  for (auto _ : state) read_all(all[++i % all.size()].bytes(), ahead);
  count(state, static_cast<double>(n * k) * 17 / 32, 0);
}

void multiply(benchmark::State& state, int8_scaling scaling, bool cold) {
  const std::int64_t n = state.range(0), k = state.range(1), m = state.range(2);
  const std::vector<packed_matrix>& all = matrices(cold, n, k);
  const std::vector<float> x = bench::make_weights<float>(m * k);
  const auto a = quantize_activations(dense_view<const float>{x.data(), m, k, k}, scaling);
  std::vector<float> y(static_cast<std::size_t>(m * n)), expected(static_cast<std::size_t>(n));
  bench::packed_weights checkpoint(n, k);
  const auto first = quantize_activations(dense_view<const float>{x.data(), 1, k, k}, scaling);  // the bits of any M
  if (!unpack(all[0], checkpoint.view()).ok() || !gemm(all[0], *a, {y.data(), m, n, n}).ok() ||
      !reference_gemm(checkpoint.view(), *first, {expected.data(), 1, n, n}).ok() ||
      !std::equal(expected.begin(), expected.end(), y.begin())) {
    state.SkipWithError("gemm differs from reference_gemm");
    return;
  }
  std::size_t i = 0;
  for (auto _ : state) {
    const status s = gemm(all[++i % all.size()], *a, {y.data(), m, n, n});
    benchmark::DoNotOptimize(s.code);
    benchmark::ClobberMemory();
  }
  count(state, static_cast<double>(n * k) * 17 / 32, 2.0 * static_cast<double>(n * k * m));
}

void shapes_and(benchmark::internal::Benchmark* b, const char* name, std::initializer_list<std::int64_t> values,
                bool all_shapes) {
  b->ArgNames({"rows", "cols", name})->Unit(benchmark::kMicrosecond);
  for (const std::int64_t v : values) {
    b->Args({1536, 3072, v});
    if (all_shapes) b->Args({3072, 1536, v});
    b->Args({4096, 4096, v});
  }
}

void add(const std::string& name, int8_scaling scaling) {
  for (const bool cold : {false, true})
    shapes_and(benchmark::RegisterBenchmark(("gemv/int8/" + name + (cold ? "/cold" : "/hot")).c_str(),
                                            [=](benchmark::State& s) { multiply(s, scaling, cold); }),
               "m", {1}, !cold);
  shapes_and(benchmark::RegisterBenchmark(("gemm/int8/" + name).c_str(),
                                          [=](benchmark::State& s) { multiply(s, scaling, false); }),
             "m", {2, 8, 32, 96, 128}, false);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("limit/dot", dot_limit);
  for (const bool cold : {false, true})
    shapes_and(benchmark::RegisterBenchmark(cold ? "limit/read/cold" : "limit/read/hot",
                                            [=](benchmark::State& s) { read_limit(s, cold); }),
               "ahead", {0, 1024, 2048, 4096, 8192}, false);
  add("e8m0", int8_scaling::e8m0);
  add("f32", int8_scaling::f32);
  add("row", int8_scaling::row);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}

// bench/dequantize.cpp -- MXFP4 -> f32, bf16, f16: whole expert matrices, one thread, in the library's scalar loop.
// SPDX-License-Identifier: Apache-2.0
//
// dequantize/<type>/rows:N/cols:K. packed_GB/s is what must be read, out_GB/s what must be written; see common.hpp.
#include "common.hpp"

namespace {

using namespace mxfp4;

/// Every weight against the decoding of its block alone.
template <class T>
bool is_right(const bench::packed_weights& packed, const std::vector<T>& out) {
  for (std::size_t i = 0; i < packed.scales.size(); ++i) {
    const auto expected = decode_block<T>(packed.at(i));
    // Bits, so that a lost sign of zero shows. NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    if (std::memcmp(expected.data(), out.data() + block_size * i, sizeof expected) != 0) return false;
  }
  return true;
}

template <class T>
void dequantize_matrix(benchmark::State& state) {
  const std::int64_t rows = state.range(0), cols = state.range(1);
  const std::vector<float> w = bench::make_weights<float>(rows * cols);
  bench::packed_weights packed(rows, cols);
  std::vector<T> out(w.size());
  const dense_view<T> out_view{out.data(), rows, cols, cols};
  if (!quantize(dense_view<const float>{w.data(), rows, cols, cols}, packed.view()).ok() ||
      !dequantize(packed.view(), out_view).ok() || !is_right(packed, out)) {
    state.SkipWithError("dequantize differs from decode_block");
    return;
  }
  for (auto _ : state) {
    const status s = dequantize(packed.view(), out_view);
    benchmark::DoNotOptimize(s.code);
    benchmark::ClobberMemory();
  }
  bench::count<T>(state, rows, cols, "out");
}

BENCHMARK(dequantize_matrix<float>)->Name("dequantize/f32")->Apply(bench::expert_shapes);
BENCHMARK(dequantize_matrix<bf16>)->Name("dequantize/bf16")->Apply(bench::expert_shapes);
BENCHMARK(dequantize_matrix<f16>)->Name("dequantize/f16")->Apply(bench::expert_shapes);

}  // namespace

BENCHMARK_MAIN();

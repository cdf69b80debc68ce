// bench/quantize.cpp -- f32, bf16 -> MXFP4 by recipe: whole expert matrices, one thread, the scalar loop.
// SPDX-License-Identifier: Apache-2.0
//
// quantize/<recipe>/<type>/rows:N/cols:K. in_GB/s must be read, packed_GB/s written; see common.hpp.
#include <concepts>

#include "common.hpp"

namespace {

using namespace mxfp4;

/// Every block against the encoding of its 32 weights alone.
template <class Recipe, class T>
bool is_right(const std::vector<T>& w, const bench::packed_weights& packed) {
  for (std::size_t i = 0; i < packed.scales.size(); ++i) {
    T x[block_size];
    std::memcpy(x, w.data() + block_size * i, sizeof x);
    if (encode_block<Recipe>(x) != packed.at(i)) return false;
  }
  return true;
}

template <class Recipe, class T>
void quantize_matrix(benchmark::State& state) {
  const std::int64_t rows = state.range(0), cols = state.range(1);
  const std::vector<T> w = bench::make_weights<T>(rows * cols);
  const dense_view<const T> w_view{w.data(), rows, cols, cols};
  bench::packed_weights packed(rows, cols);
  if (!quantize<Recipe>(w_view, packed.view()).ok() || !is_right<Recipe>(w, packed)) {
    state.SkipWithError("quantize differs from encode_block");
    return;
  }
  for (auto _ : state) {
    const status s = quantize<Recipe>(w_view, packed.view());
    benchmark::DoNotOptimize(s.code);
    benchmark::ClobberMemory();
  }
  bench::count<T>(state, rows, cols, "in");
}

/// The recipes that differ in how they work: a threshold, the input's own type, a log2 table, three encodings.
const int registered = [] {
  const auto add = []<class Recipe, class T>() {
    const std::string name = std::string("quantize/") + Recipe::name + (std::same_as<T, float> ? "/f32" : "/bf16");
    benchmark::RegisterBenchmark(name.c_str(), quantize_matrix<Recipe, T>)->Apply(bench::expert_shapes);
  };
  const auto add_both = [&]<class Recipe>() {
    add.template operator()<Recipe, float>();
    add.template operator()<Recipe, bf16>();
  };
  add_both.operator()<recipe::ocp>();
  add_both.operator()<recipe::compressed_tensors>();
  add_both.operator()<recipe::torchao_rceil>();
  add_both.operator()<recipe::ggml>();
  add_both.operator()<recipe::min_mse>();
  return 0;
}();

}  // namespace

BENCHMARK_MAIN();

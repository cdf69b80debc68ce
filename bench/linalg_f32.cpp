// bench/linalg_f32.cpp -- gemv and gemm with f32 activations on whole layers, beside the limits and a dense BLAS.
// SPDX-License-Identifier: Apache-2.0
//
//   limit/read/<hot|cold>             the codes and scales read and ORed together           packed_GB/s
//   limit/fma                         twelve independent chains of FMAs                     GFLOP/s
//   gemv_f32/<view|packed>/<hot|cold> 17 bytes per 32 weights, what must be read            packed_GB/s
//   gemm_f32/<view|packed>            2 M N K operations                                    GFLOP/s
//   gemm_f32/view/threads:2           the same with two threads, in real time
//   sgemv, sgemm                      dense f32 weights, with MXFP4_BENCH_CBLAS: 4 bytes a weight, 2 M N K operations
//
// hot: one matrix again and again. cold: one after the other of 512 MiB of them. One thread unless it says otherwise,
// in CPU time; run with --benchmark_enable_random_interleaving=true and repetitions, and take medians. Each product is
// compared with reference_gemv before it is timed.
#include <benchmark/benchmark.h>
#include <sys/mman.h>
#if defined(MXFP4_BENCH_CBLAS)
#include <cblas.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "mxfp4/linalg_f32.hpp"
#include "mxfp4/reference.hpp"

namespace {

using namespace mxfp4;
using floats = simd::floats<simd::native_arch>;

constexpr std::size_t cold_bytes = std::size_t{512} << 20;

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Memory on huge pages where the system has them: what a page walk costs is not the kernels' doing.
template <class T>
class big_array {
 public:
  explicit big_array(std::size_t count) : size_(count) {
    constexpr std::size_t page = std::size_t{2} << 20;
    const std::size_t bytes = (count * sizeof(T) + page - 1) / page * page;
    data_.reset(static_cast<T*>(std::aligned_alloc(page, bytes)));
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    (void)madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
  }
  T* data() const { return data_.get(); }
  T* begin() const { return data_.get(); }
  T* end() const { return data_.get() + size_; }

 private:
  struct release {
    void operator()(T* p) const { std::free(p); }
  };
  std::size_t size_;
  std::unique_ptr<T, release> data_;
};

/// Copies of one N x K matrix, each in memory of its own. The bytes serve as a view and as tiles: other weights, same
/// work.
class weights {
 public:
  weights(std::int64_t n, std::int64_t k, bool cold)
      : n_(n),
        k_(k),
        copies_(cold ? cold_bytes / size(n * k / 2) : 1),
        codes_(size(n * k / 2) * copies_),
        scales_(size(n * k / 32) * copies_) {
    std::uint32_t state = 1;
    for (std::uint8_t& byte : codes_) byte = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
    for (std::uint8_t& byte : scales_)
      byte = static_cast<std::uint8_t>(118 + ((state = state * 1664525u + 1013904223u) >> 24) % 9);
  }
  const_mx_view<> view() const { return {codes(), scales(), n_, k_, k_ / 2, k_ / 32}; }
  packed_tiles packed() const { return {codes(), scales(), (n_ + 15) / 16, k_ / 32, n_}; }
  void next() { at_ = (at_ + 1) % copies_; }
  double bytes() const { return static_cast<double>(n_ * k_) * block_bytes / block_size; }

 private:
  const std::uint8_t* codes() const { return codes_.data() + at_ * size(n_ * k_ / 2); }
  const std::uint8_t* scales() const { return scales_.data() + at_ * size(n_ * k_ / 32); }

  std::int64_t n_, k_;
  std::size_t copies_, at_ = 0;
  big_array<std::uint8_t> codes_, scales_;
};

/// Made once for all repetitions.
weights& weights_for(const benchmark::State& state, bool cold) {
  static std::map<std::tuple<std::int64_t, std::int64_t, bool>, std::unique_ptr<weights>> all;
  std::unique_ptr<weights>& w = all[{state.range(0), state.range(1), cold}];
  if (!w) w = std::make_unique<weights>(state.range(0), state.range(1), cold);
  return *w;
}

std::vector<float> make_tokens(std::int64_t m, std::int64_t k) {
  std::vector<float> x(size(m * k));
  std::uint32_t state = 7;
  for (float& v : x)
    v = static_cast<float>(static_cast<std::int32_t>(state = state * 1664525u + 1013904223u)) * 0x1p-31f;
  return x;
}

void rate(benchmark::State& state, const char* unit, double amount) {
  state.counters[unit] = benchmark::Counter(amount * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

/// Rows 0 .. 16 and the last 16 of packed weights as a view, one row after the other.
struct sample {
  explicit sample(const packed_tiles& w) : rows(std::min<std::int64_t>(w.rows, 16)), cols(w.cols()) {
    for (const std::int64_t tile : {std::int64_t{0}, w.tiles - 1})
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t b = 0; b < w.blocks; ++b) {
          for (int i = 0; i < 16; ++i) codes.push_back(w.block_codes(tile, b)[i / 4 * 64 + 4 * r + i % 4]);
          scales.push_back(w.block_scales(tile, b)[r]);
        }
  }
  /// ggml's order within a block, as tiles have it.
  struct order_of_tiles : layout::compressed_tensors {
    using order = half_split;
  };
  const_mx_view<order_of_tiles> view() const {
    return {codes.data(), scales.data(), 2 * rows, cols, cols / 2, cols / 32};
  }
  std::int64_t rows, cols;
  std::vector<std::uint8_t> codes, scales;
};

/// The last token's results for the first and the last rows.
template <class Layout>
bool close(const const_mx_view<Layout>& w, const float* x, const float* first, const float* last) {
  std::vector<double> exact(size(w.rows));
  if (!reference_gemv(w, x, exact.data()).ok()) return false;
  for (std::int64_t n = 0; n < w.rows; ++n) {
    const double y = n < w.rows / 2 ? first[n] : last[n - w.rows / 2];
    if (!(std::fabs(y - exact[size(n)]) <= 1e-3)) return false;  // sums of about 1e2; a wrong term is off by more
  }
  return true;
}
bool is_right(const const_mx_view<>& w, const float* x, const float* y) {
  const_mx_view<> top = w, bottom = w;
  top.rows = bottom.rows = 32;
  bottom.codes = w.block_codes(w.rows - 32, 0);
  bottom.scales = w.block_scale(w.rows - 32, 0);
  return close(top, x, y, y + 16) && close(bottom, x, y + w.rows - 32, y + w.rows - 16);
}
bool is_right(const packed_tiles& w, const float* x, const float* y) {
  return close(sample(w).view(), x, y, y + w.rows - 16);
}

// ---- limits ---------------------------------------------------------------------------------------------------------

std::uint64_t read_all(const std::uint8_t* from, std::int64_t bytes) {
  using registers = xsimd::batch<std::uint8_t, simd::native_arch>;
  constexpr auto step = static_cast<std::int64_t>(registers::size);
  registers sum[4] = {registers(0), registers(0), registers(0), registers(0)};
  for (std::int64_t i = 0; i + 4 * step <= bytes; i += 4 * step)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sum[j] |= registers::load_aligned(from + i + j * step);
  return (sum[0] | sum[1] | sum[2] | sum[3]).get(0);
}

void read_limit(benchmark::State& state, bool cold) {
  weights& w = weights_for(state, cold);
  for (auto _ : state) {
    w.next();
    const packed_tiles t = w.packed();
    benchmark::DoNotOptimize(read_all(t.codes, t.tiles * t.blocks * tile_block_bytes));
    benchmark::DoNotOptimize(read_all(t.scales, t.tiles * t.blocks * tile_rows));
  }
  rate(state, "packed_GB/s", w.bytes());
}

void fma_limit(benchmark::State& state) {
  constexpr int chains = 12, steps = 4096;
  float factor = 0.5f, term = 1.0f;
  benchmark::DoNotOptimize(factor);
  benchmark::DoNotOptimize(term);
  for (auto _ : state) {
    floats x(factor), sum[chains];
    for (int c = 0; c < chains; ++c) sum[c] = floats(term + static_cast<float>(c));  // else they are one chain
    for (int i = 0; i < steps; ++i)
#pragma GCC unroll 12
      for (int c = 0; c < chains; ++c) sum[c] = xsimd::fma(sum[c], x, x);
    for (int c = 1; c < chains; ++c) sum[0] += sum[c];
    benchmark::DoNotOptimize(xsimd::reduce_add(sum[0]));
  }
  rate(state, "GFLOP/s", 2.0 * chains * steps * static_cast<double>(floats::size));
}

// ---- products -------------------------------------------------------------------------------------------------------

struct two_threads {
  void run(std::size_t tasks, task_ref body) const {
    std::thread other([&] {
      for (std::size_t i = 1; i < tasks; i += 2) body(i);
    });
    for (std::size_t i = 0; i < tasks; i += 2) body(i);
    other.join();
  }
};

template <class Form>
void product(benchmark::State& state, Form form, bool cold, executor_ref executor) {
  const std::int64_t n = state.range(0), k = state.range(1), m = state.range(2);
  weights& w = weights_for(state, cold);
  const std::vector<float> x = make_tokens(m, k);
  std::vector<float> y(size(m * n));
  const auto run = [&] {
    return gemm(form(w), dense_view<const float>{x.data(), m, k, k}, dense_view<float>{y.data(), m, n, n},
                {false, executor});
  };
  if (!run().ok() || !is_right(form(w), x.data() + (m - 1) * k, y.data() + (m - 1) * n)) {
    state.SkipWithError("the product is wrong");
    return;
  }
  for (auto _ : state) {
    w.next();
    benchmark::DoNotOptimize(run());
    benchmark::ClobberMemory();
  }
  if (m == 1) rate(state, "packed_GB/s", w.bytes());
  rate(state, "GFLOP/s", 2.0 * static_cast<double>(m * n * k));
}

constexpr auto as_view = [](weights& w) { return w.view(); };
constexpr auto as_packed = [](weights& w) { return w.packed(); };

#if defined(MXFP4_BENCH_CBLAS)
void dense(benchmark::State& state, bool cold) {
  const std::int64_t n = state.range(0), k = state.range(1), m = state.range(2);
  const auto rows = static_cast<int>(n), cols = static_cast<int>(k), tokens = static_cast<int>(m);
  const std::size_t copies = cold ? cold_bytes / size(4 * n * k) : 1;
  const big_array<float> w(size(n * k) * copies);
  std::fill(w.begin(), w.end(), 0.5f);
  const std::vector<float> x = make_tokens(m, k);
  std::vector<float> y(size(m * n));
  openblas_set_num_threads(1);
  std::size_t at = 0;
  for (auto _ : state) {
    const float* const weight = w.data() + at * size(n * k);
    at = (at + 1) % copies;
    if (m == 1)
      cblas_sgemv(CblasRowMajor, CblasNoTrans, rows, cols, 1.0f, weight, cols, x.data(), 1, 0.0f, y.data(), 1);
    else
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tokens, rows, cols, 1.0f, x.data(), cols, weight, cols, 0.0f,
                  y.data(), rows);
    benchmark::ClobberMemory();
  }
  if (m == 1) rate(state, "dense_GB/s", 4.0 * static_cast<double>(n * k));
  rate(state, "GFLOP/s", 2.0 * static_cast<double>(m * n * k));
}
#endif

/// Experts of MiniMax-M2, and a square layer (N x K).
constexpr std::int64_t shapes[][2] = {{1536, 3072}, {3072, 1536}, {4096, 4096}};

void for_shapes(benchmark::internal::Benchmark* b, std::initializer_list<std::int64_t> tokens) {
  b->Unit(benchmark::kMicrosecond);
  b->ArgNames(tokens.size() == 0 ? std::vector<std::string>{"rows", "cols"}
                                 : std::vector<std::string>{"rows", "cols", "m"});
  for (const auto& [n, k] : shapes) {
    if (tokens.size() == 0) b->Args({n, k});
    for (const std::int64_t m : tokens) b->Args({n, k, m});
  }
}

void add_all() {
  benchmark::RegisterBenchmark("limit/fma", fma_limit);
  for (const bool cold : {false, true}) {
    const std::string where = cold ? "cold" : "hot";
    const auto add = [&](const std::string& name, auto body, std::initializer_list<std::int64_t> m) {
      for_shapes(benchmark::RegisterBenchmark((name + "/" + where).c_str(), body), m);
    };
    add("limit/read", [cold](auto& state) { read_limit(state, cold); }, {});
    add("gemv_f32/view", [cold](auto& state) { product(state, as_view, cold, serial); }, {1});
    add("gemv_f32/packed", [cold](auto& state) { product(state, as_packed, cold, serial); }, {1});
#if defined(MXFP4_BENCH_CBLAS)
    add("sgemv", [cold](auto& state) { dense(state, cold); }, {1});
#endif
  }
  const auto add = [](const char* name, auto body, std::initializer_list<std::int64_t> m) {
    const auto b = benchmark::RegisterBenchmark(name, body);
    for_shapes(b, m);
    return b;
  };
  add("gemm_f32/view", [](auto& state) { product(state, as_view, false, serial); }, {8, 32, 128});
  add("gemm_f32/packed", [](auto& state) { product(state, as_packed, false, serial); }, {8, 32, 128});
  add("gemm_f32/view/threads:2", [](auto& state) { product(state, as_view, false, two_threads{}); }, {128})
      ->UseRealTime();
#if defined(MXFP4_BENCH_CBLAS)
  add("sgemm", [](auto& state) { dense(state, false); }, {8, 32, 128});
#endif
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}

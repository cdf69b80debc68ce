// bench/quantize.cpp -- f32, bf16, f16, and e4m3 under 128 x 128 block scales, to MXFP4, beside a loop that only reads.
// SPDX-License-Identifier: Apache-2.0
//
// hot: input and output in the second-level cache of each core. cold: 2^27 weights from memory. GB/s is what is read.
// ISA `scalar` is the plain loop of reference/, the oracle.
#include "mxfp4/kernel/quantize.hpp"
#include "limits.hpp"
#include "mxfp4/kernel/quantize_fp8.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::bench;

/// Where rows of 32 weights are and where their blocks go.
template <class T>
struct matrix {
  matrix(std::int64_t n, std::int64_t k) : numbers(make_numbers<T>(n * k)), blocks(n, k, 1) {}
  memory<T> numbers;
  checkpoint_bytes blocks;
};

/// Every byte of the first and the last rows against the plain loop, which `expect` calls for rows of x.
template <class T, class F>
bool is_right(const dense_view<const T>& x, const mx_view<>& out, F expect) {
  const std::int64_t rows = std::min<std::int64_t>(x.rows, 4);
  const checkpoint_bytes expected(rows, x.cols, 1);
  for (const std::int64_t n : {std::int64_t{0}, x.rows - rows}) {
    if (!expect(dense_view<const T>{x.row(n), rows, x.cols, x.stride}, n, expected.view(0)).ok()) return false;
    if (std::memcmp(expected.view(0).codes, out.block_codes(n, 0), size(rows * x.cols / 2)) != 0 ||
        std::memcmp(expected.view(0).scales, out.block_scale(n, 0), size(rows * x.cols / block_size)) != 0)
      return false;
  }
  return true;
}

template <class T, class Run>
subject subject_of(const row& r, std::shared_ptr<matrix<T>> data, bool is_right, Run run) {
  return {is_right,
          "GB/s",
          {r.kernel, 1e-9 * static_cast<double>(r.n * r.k) * sizeof(T), [data, run] { run(); }},
          read_limits(r.threads, [data] { return data->numbers.bytes(); })};
}

/// Arch void: the plain loop.
template <class Recipe, class T, class Arch>
subject prepare(const row& r) {
  const auto data = std::make_shared<matrix<T>>(r.n, r.k);
  const dense_view<const T> x{data->numbers.data(), r.n, r.k, r.k};
  const mx_view<> out = data->blocks.view(0);
  const int threads = r.threads;
  const auto run = [=] {
    if constexpr (std::is_void_v<Arch>) return reference::quantize<Recipe>(x, out).ok();
    else return kernel::quantize<Recipe, Arch>(x, out, {.executor = executor_for(threads)}).ok();
  };
  const auto expect = [](auto rows, std::int64_t, auto blocks) { return reference::quantize<Recipe>(rows, blocks); };
  return subject_of(r, data, run() && is_right(x, out, expect), run);
}

template <class Recipe>
subject prepare_fp8(const row& r) {
  const auto data = std::make_shared<matrix<e4m3>>(r.n, r.k);
  const std::int64_t across = detail::ceil_div(r.k, fp8_block), down = detail::ceil_div(r.n, fp8_block);
  const auto factors = std::make_shared<memory<float>>(across * down);
  random_bits random(4);
  for (float& f : *factors) f = 0.01f + std::fabs(random.bell(0.01f));
  const dense_view<const e4m3> x{data->numbers.data(), r.n, r.k, r.k};
  const dense_view<const float> scales{factors->data(), down, across, across};
  const mx_view<> out = data->blocks.view(0);
  const auto run = [=, threads = r.threads] {
    return kernel::quantize_fp8<Recipe>(x, scales, out, {.executor = executor_for(threads)}).ok();
  };
  const auto expect = [=](auto rows, std::int64_t n, auto blocks) {  // sampled rows do not cross a band of 128
    return reference::quantize_fp8<Recipe>(rows, {scales.row(n / fp8_block), 1, across, across}, blocks);
  };
  return subject_of(r, data, run() && is_right(x, out, expect), [factors, run] { return run(); });
}

[[nodiscard]] row row_of(std::string kernel, const char* input, bool cold, int threads, std::string isa) {
  const std::int64_t rows = chosen.smoke ? 5 : cold ? 32768 : 32 * threads, cols = chosen.smoke ? 512 : 4096;
  return {std::move(kernel), input, "mxfp4", "", rows, cols, 0, cold ? "cold" : "hot", std::move(isa), threads};
}

template <class Recipe, class T, class Arch = simd::native_arch>
void add_row(const char* input, bool cold, int threads) {
  std::string isa = "scalar";
  if constexpr (!std::is_void_v<Arch>) isa = simd::isa_name<Arch>;
  const row r = row_of(std::string("quantize_") + Recipe::name, input, cold, threads, isa);
  add(r, [r] { return prepare<Recipe, T, Arch>(r); });
}

template <class Recipe>
void add_recipe(bool cold) {
  for (const int threads : {1, 2}) {
    add_row<Recipe, float>("f32", cold, threads);
    add_row<Recipe, bf16>("bf16", cold, threads);
    add_row<Recipe, f16>("f16", cold, threads);
  }
  if constexpr (!std::is_void_v<avx2_arch>) {
    add_row<Recipe, float, avx2_arch>("f32", cold, 1);
    add_row<Recipe, bf16, avx2_arch>("bf16", cold, 1);
  }
}

void add_rows() {
  for (const bool cold : {false, true}) {
    add_recipe<recipe::ocp>(cold);
    add_recipe<recipe::compressed_tensors>(cold);
    for (const int threads : {1, 2}) {
      const row r = row_of("quantize_fp8", "e4m3", cold, threads, simd::isa_name<simd::native_arch>);
      add(r, [r] { return prepare_fp8<recipe::compressed_tensors>(r); });
    }
  }
  add_row<recipe::ocp, float, void>("f32", false, 1);
  add_row<recipe::compressed_tensors, float, void>("f32", false, 1);
  add_row<recipe::min_mse, float, void>("f32", false, 1);
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, add_rows); }

// tests/executor.throws.test.cpp -- an executor's exception passes through every function; nothing stays broken.
// SPDX-License-Identifier: Apache-2.0
#include "support/executors.hpp"

using namespace mxfp4;

TEST_CASE("executor: what it throws passes through, and the same objects serve the next call", "[executor]") {
  constexpr std::int64_t n = 200, k = 1024, m = 40;
  test::splitmix random(5);
  test::tokens x(m, k), weights(n, k);
  const auto number = [&](std::int64_t, std::int64_t) { return random.with_exponent(120, 130); };
  x.fill(number);
  weights.fill(number);
  test::mx_memory<layout::compressed_tensors> w(n, k), copy(n, k);
  std::vector<float> out(static_cast<std::size_t>(n * k)), y(static_cast<std::size_t>(m * n));
  const dense_view<float> decoded{out.data(), n, k, k}, to_y{y.data(), m, n, n};
  const std::vector<e4m3> narrow(static_cast<std::size_t>(n * k), e4m3{0x38});
  const std::vector<float> factor(2 * 8, 1.0f);
  const dense_view<const e4m3> fp8{narrow.data(), n, k, k};
  const dense_view<const float> factors{factor.data(), 2, 8, 8};
  REQUIRE(kernel::quantize<>(weights.view(), w.view()).ok());
  const result<packed_matrix> packed = pack(w.view());
  result<int8_activations> made = quantize_activations(x.view(), int8_scaling::row);
  REQUIRE(packed);
  REQUIRE(made);
  int8_activations q = *std::move(made);

  for (const std::size_t good : {0u, 1u}) {
    CAPTURE(good);
    const test::throwing_executor bad{good};
    const gemm_options options{.executor = bad};
    CHECK_THROWS_AS(kernel::quantize<>(weights.view(), w.view(), {.executor = bad}), std::runtime_error);
    CHECK_THROWS_AS(kernel::dequantize(w.view(), decoded, {.executor = bad}), std::runtime_error);
    CHECK_THROWS_AS(pack(w.view(), {.executor = bad}), std::runtime_error);
    CHECK_THROWS_AS(unpack(*packed, copy.view(), {.executor = bad}), std::runtime_error);
    CHECK_THROWS_AS(convert(w.view(), copy.view(), {.executor = bad}), std::runtime_error);
    error_statistics sum;
    CHECK_THROWS_AS(kernel::quantize_fp8_measured(fp8, factors, copy.view(), sum, {.executor = bad}),
                    std::runtime_error);
    CHECK(sum.weights == 0);
    CHECK_THROWS_AS(quantize_activations(x.view(), q, {.executor = bad}), std::runtime_error);
    CHECK_THROWS_AS(quantize_activations(x.view(), int8_scaling::f32, {.executor = bad}), std::runtime_error);
    CHECK_THROWS_AS(gemm(w.view(), x.view(), to_y, options), std::runtime_error);
    CHECK_THROWS_AS(gemm(*packed, x.view(), to_y, options), std::runtime_error);
    CHECK_THROWS_AS(gemm(w.view(), q, to_y, options), std::runtime_error);
    CHECK_THROWS_AS(gemm(*packed, q, to_y, options), std::runtime_error);
    CHECK_THROWS_AS(gemv(w.view(), std::span(x.data).first(k), std::span(y).first(n), options), std::runtime_error);
  }

  REQUIRE(kernel::quantize<>(weights.view(), w.view()).ok());
  REQUIRE(quantize_activations(x.view(), q).ok());
  std::vector<float> expected(y.size());
  REQUIRE(reference::gemm(w.view(), q, dense_view<float>{expected.data(), m, n, n}).ok());
  REQUIRE(gemm(*packed, q, to_y).ok());
  CHECK(test::same_bits(y, expected));
}

TEST_CASE("executor: a bad argument is reported before the executor is asked", "[executor]") {
  std::vector<float> x(64);
  test::mx_memory<layout::compressed_tensors> w(1, 32);
  const test::throwing_executor bad{0};
  CHECK(kernel::quantize<>(dense_view<const float>{x.data(), 2, 32, 32}, w.view(), {.executor = bad}).code ==
        errc::shape_mismatch);
  CHECK(gemv(w.view(), std::span(x).first(32), std::span(static_cast<float*>(nullptr), 1), {.executor = bad}).code ==
        errc::null_pointer);
}

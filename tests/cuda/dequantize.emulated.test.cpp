// tests/cuda/dequantize.emulated.test.cpp -- the dequantising kernel under the emulator: every weight there is.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cuda/matrix.support.hpp"
#include "mxfp4/cuda/dequantize.cuh"
#include "support/oracle.hpp"

namespace {

using namespace mxfp4;
using cuda::emulator::device_array;
using cuda::emulator::device_settings;
namespace device = cuda::device;

/// All 256 scale bytes, each with every code in every place of a word: 256 rows of 16 blocks.
struct every_weight {
  static constexpr std::int64_t rows = 256, cols = 16 * block_size;
  std::vector<std::uint8_t> codes, scales;

  every_weight() {
    for (unsigned byte = 0; byte < 256; ++byte)
      for (unsigned b = 0; b < 16; ++b) {
        scales.push_back(static_cast<std::uint8_t>(byte));
        for (unsigned j = 0; j < 16; ++j)
          codes.push_back(static_cast<std::uint8_t>((b + j) % 16 | (b + 3 * j + 5) % 16 << 4));
      }
  }
  [[nodiscard]] unsigned code(std::size_t i) const { return unsigned{codes[i / 2]} >> (i % 2 * 4) & 15u; }
};

/// The weight by its definition, in double: 4 * 2^127 and more is what a float makes of it.
double weight(unsigned code, unsigned byte) {
  if (byte == 255) return std::numeric_limits<double>::quiet_NaN();
  const double value = mxfp4::test::weight(code, static_cast<int>(byte));
  return std::fabs(value) < 0x1p128 ? value : std::copysign(std::numeric_limits<double>::infinity(), value);
}

template <class T, class Dialect = dialect::ocp>
std::vector<T> run(const every_weight& w, std::uint64_t seed) {
  const device_array<std::uint8_t> codes(w.codes, "codes"), scales(w.scales, "scales");
  device_array<T> out(static_cast<std::size_t>(w.rows * w.cols), "out");
  const const_mx_view<> from{codes.data(), scales.data(), w.rows, w.cols, w.cols / 2, w.cols / block_size};
  device_settings.seed = seed;
  REQUIRE(cuda::dequantize<Dialect>(from, dense_view<T>{out.data(), w.rows, w.cols, w.cols}, nullptr) == cudaSuccess);
  return out.host();
}

}  // namespace

TEST_CASE("cuda::dequantize: every weight is its definition", "[cuda][dequantize]") {
  const every_weight w;
  const std::vector<float> f = run<float>(w, 1);
  const std::vector<bf16> b = run<bf16>(w, 2);
  const std::vector<f16> h = run<f16>(w, 3);
  std::size_t wrong[3]{};
  for (std::size_t i = 0; i < f.size(); ++i) {
    const double expected = weight(w.code(i), w.scales[i / block_size]);
    const bool nan = std::isnan(expected);
    wrong[0] += nan ? mxfp4::detail::float_bits(f[i]) != mxfp4::detail::f32_nan
                    : mxfp4::detail::float_bits(f[i]) != mxfp4::detail::float_bits(static_cast<float>(expected));
    wrong[1] += static_cast<std::uint32_t>(b[i]) != (nan ? 0x7FC0u : cuda::emulator::to_small_float(expected, 8, 7));
    wrong[2] += static_cast<std::uint32_t>(h[i]) != (nan ? 0x7E00u : cuda::emulator::to_small_float(expected, 5, 10));
  }
  CHECK(wrong[0] == 0);
  CHECK(wrong[1] == 0);
  CHECK(wrong[2] == 0);
}

TEST_CASE("cuda::dequantize: dialects, as the host reads them", "[cuda][dequantize]") {
  const every_weight w;
  const auto check = [&]<class Dialect>(Dialect) {
    CAPTURE(Dialect::name);
    const std::vector<bf16> b = run<bf16, Dialect>(w, 4);
    const std::vector<f16> h = run<f16, Dialect>(w, 5);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      const auto code = static_cast<e2m1>(w.code(i));
      const auto scale = static_cast<e8m0>(w.scales[i / block_size]);
      wrong += b[i] != decode_weight<bf16, Dialect>(code, scale);
      wrong += h[i] != decode_weight<f16, Dialect>(code, scale);
    }
    CHECK(wrong == 0);
  };
  check(dialect::ggml{});
  check(dialect::inf_at_255{});
  check(dialect::gpt_oss{});
  check(dialect::openvino{});
  check(dialect::ocp{});
}

TEST_CASE("cuda::dequantize: tails, rows apart, swizzled scales, a grid that goes round", "[cuda][dequantize]") {
  const auto check = []<class T, class Layout>(T, Layout, std::int64_t rows, std::int64_t cols, std::int64_t gap) {
    CAPTURE(sizeof(T), Layout::name, rows, cols, gap);
    mxfp4::test::splitmix random(9);
    const std::int64_t stride = cols + gap, code_stride = cols / 2 + 4;
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * code_stride));
    std::vector<std::uint8_t> scales(static_cast<std::size_t>(mxfp4::detail::ceil_div(rows, Layout::rows_per_band) *
                                                              Layout::scale_band_bytes(cols / block_size)));
    for (auto& c : codes) c = random.byte();
    for (auto& s : scales) s = random.byte();
    const device_array<std::uint8_t> device_codes(codes, "codes"), device_scales(scales, "scales");
    device_array<T> out(static_cast<std::size_t>(rows * stride), "out");
    const std::int64_t scale_stride = Layout::scale_band_bytes(cols / block_size);
    const const_mx_view<Layout> host{codes.data(), scales.data(), rows, cols, code_stride, scale_stride};
    using kernel = cuda::kernel::dequantize<T, dialect::ocp, Layout>;
    const typename kernel::arguments arguments{
        {device_codes.data(), device_scales.data(), rows, cols, code_stride, scale_stride},
        {out.data(), rows, cols, stride}};
    cuda::emulator::launch({2, 2, 1}, kernel::threads, 0, [&] { kernel::run(arguments); });
    const std::vector<T> got = out.raw();
    T poisoned;
    std::memset(&poisoned, 0xCD, sizeof(T));
    std::size_t wrong = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < stride; ++c) {
        const auto expected = c < cols ? decode_weight<T>(get_code<low_first>(host.block_codes(r, c / block_size),
                                                                              static_cast<int>(c % block_size)),
                                                          static_cast<e8m0>(*host.block_scale(r, c / block_size)))
                                       : poisoned;
        wrong += std::memcmp(&expected, &got[static_cast<std::size_t>(r * stride + c)], sizeof(T)) != 0;
      }
    CHECK(wrong == 0);
  };
  check(bf16{}, layout::compressed_tensors{}, 1, 32, 0);
  check(bf16{}, layout::compressed_tensors{}, 5, 32 * 7, 8);
  check(float{}, layout::compressed_tensors{}, 3, 32 * 300, 4);
  check(f16{}, layout::compressed_tensors{}, 1, 32 * 1025, 0);
  check(bf16{}, layout::swizzled_128x4{}, 131, 32 * 5, 0);
}

TEST_CASE("cuda::dequantize: offsets of more than 32 bits", "[cuda][dequantize]") {
  const std::int64_t rows = 3, cols = 64, code_stride = std::int64_t{3} << 30, stride = (std::int64_t{1} << 31) + 8;
  const cuda::test::far_rows<std::uint8_t> codes(rows, cols / 2, code_stride, true);
  const cuda::test::far_rows<bf16> out(rows, cols, stride, false);
  const device_array<std::uint8_t> scales(std::vector<std::uint8_t>(6, 127), "scales");
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < cols / 2; ++j)
      codes.data()[r * code_stride + j] = static_cast<std::uint8_t>(j * 7 + r);
  const const_mx_view<> w{codes.data(), scales.data(), rows, cols, code_stride, 2};
  REQUIRE(cuda::dequantize(w, dense_view<bf16>{out.data(), rows, cols, stride}, nullptr) == cudaSuccess);
  std::size_t wrong = 0;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto code = static_cast<unsigned>(c / 2 * 7 + r) >> (c % 2 * 4) & 15u;
      wrong += out.data()[r * stride + c] != decode_weight<bf16>(static_cast<e2m1>(code), e8m0::one);
    }
  CHECK(wrong == 0);
}

TEST_CASE("cuda::decode: values of eight codes, in each form", "[cuda][dequantize]") {
  using namespace cuda::emulator;
  std::size_t wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const std::uint32_t codes = i * 65537u ^ 0x9E370000u;
    std::uint32_t b[4], h[4], converted[4], even = 0, odd = 0, even_bytes = 0, odd_bytes = 0;
    device::decode_bf16x8(codes, b);
    device::decode_f16x8<device::sm_80>(codes, h);
    device::decode_f16x8<device::sm_100a>(codes, converted);
    device::decode_e4m3x8(codes, even, odd);
    device::spread_e2m1x8(codes, even_bytes, odd_bytes);
    for (unsigned k = 0; k < 8; ++k) {
      const double expected = e2m1_value(codes >> (4 * k) & 15u);
      const std::uint32_t pair = k % 2 * 16, byte = k / 2 * 8;
      const auto same = [&](double v) { return v == expected && std::signbit(v) == std::signbit(expected); };
      const std::uint32_t e4m3_bits = (k % 2 == 0 ? even : odd) >> byte & 0xFFu;
      const std::uint32_t container = (k % 2 == 0 ? even_bytes : odd_bytes) >> byte & 0xFFu;
      const bool right = same(bf16_value(b[k / 2] >> pair)) && same(f16_value(h[k / 2] >> pair)) &&
                         same(f16_value(converted[k / 2] >> pair)) && same(64 * e4m3_value(e4m3_bits)) &&
                         container == (codes >> (4 * k) & 15u) << 2;
      wrong += right ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("cuda::dequantize: what it refuses, before a launch", "[cuda][dequantize][bad_input]") {
  const device_array<std::uint8_t> codes(std::vector<std::uint8_t>(64), "codes"),
      scales(std::vector<std::uint8_t>(4), "scales");
  device_array<bf16> out(128, "out");
  const const_mx_view<> good{codes.data(), scales.data(), 2, 64, 32, 2};
  const dense_view<bf16> to{out.data(), 2, 64, 64};
  const auto refused = [&](const_mx_view<> w, dense_view<bf16> y, const char* sentence) {
    CHECK(message(cuda::check_dequantize(w, y)).view() == sentence);
    CHECK(cuda::dequantize(w, y, nullptr) == cudaErrorInvalidValue);
    CHECK(out.untouched());
  };
  refused({nullptr, scales.data(), 2, 64, 32, 2}, to, "w.codes is null, expected memory for 64 elements");
  refused({codes.data() + 2, scales.data(), 2, 64, 32, 2}, to, "w.codes is 2 bytes past a multiple of 4: align it");
  refused({codes.data(), scales.data(), 2, 64, 33, 2}, to, "w.code_stride is 1 bytes past a multiple of 4: align it");
  refused({codes.data(), scales.data(), 0, 64, 32, 2}, to, "w.rows is 0, expected 1");
  refused({codes.data(), scales.data(), 2, 40, 32, 2}, to,
          "w.cols is 40, expected a multiple of 32: pad the rows, or leave this tensor as it is");
  refused(good, {out.data() + 1, 2, 64, 64}, "out.data is 2 bytes past a multiple of 16: align it");
  refused(good, {out.data(), 2, 32, 64}, "out.cols is 32, expected 64");
  refused(good, {out.data(), 2, 64, 68}, "out.stride in bytes is 8 bytes past a multiple of 16: align it");
  refused({reinterpret_cast<const std::uint8_t*>(out.data()), scales.data(), 2, 64, 32, 2}, to,
          "out overlaps an input: pass separate memory");
  CHECK(cuda::dequantize(good, to, nullptr) == cudaSuccess);
}

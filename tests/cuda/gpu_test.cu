// tests/cuda/gpu_test.cu -- on a GPU: the kernels' bytes are the host's, products within bounds. Without one, 77.
// SPDX-License-Identifier: Apache-2.0
//
// gpu_test                 runs the checks
// gpu_test --capture DIR   writes DIR/fragments.sm_<arch>.u32, and wgmma.sm_90a.u32 on such a one: the emulator is then
//                          held to them
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "cuda/fragments.support.cuh"
#include "cuda/gpu.support.cuh"
#include "mxfp4/cuda/convert.cuh"
#include "mxfp4/cuda/dequantize.cuh"
#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/mma16.cuh"
#include "mxfp4/cuda/quantize.cuh"
#include "mxfp4/cuda/quantize_mxfp8.cuh"
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/tensor/convert.hpp"

namespace {

using namespace mxfp4;
using cuda::test::buffer;
using cuda::test::require;

int failures = 0;

template <class T>
void check_same(const char* what, const std::vector<T>& got, const std::vector<T>& expected) {
  std::size_t wrong = 0, first = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (std::memcmp(&got[i], &expected[i], sizeof(T)) != 0 && wrong++ == 0) first = i;
  std::printf("%-44s %s", what, wrong == 0 ? "ok\n" : "WRONG");
  if (wrong != 0) std::printf(": %zu of %zu differ, the first at %zu\n", wrong, expected.size(), first);
  failures += wrong != 0 ? 1 : 0;
}

/// Every binade, either sign, with a NaN, an infinity and zeros now and then.
template <class T>
std::vector<T> numbers(std::size_t n) {
  mxfp4::test::splitmix random(11);
  std::vector<T> x(n);
  int exponent = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (i % block_size == 0) exponent = random.in(0, 254);
    float v = random.with_exponent(exponent > 5 ? exponent - 5 : 0, exponent);
    const int rare = random.in(0, 4000);
    if (rare == 0) v = mxfp4::detail::float_from_bits(0x7FC00000u);
    else if (rare == 1) v = mxfp4::detail::float_from_bits(0xFF800000u);
    else if (rare < 100) v = rare % 2 == 0 ? 0.0f : -0.0f;
    x[i] = encode<T>(v);
  }
  return x;
}

template <class Recipe, class T>
void check_quantize(const char* what) {
  const std::int64_t rows = 515, cols = 32 * 67;
  const std::vector<T> x = numbers<T>(static_cast<std::size_t>(rows * cols));
  std::vector<std::uint8_t> codes(x.size() / 2), scales(x.size() / 32);
  const mx_view<> expected{codes.data(), scales.data(), rows, cols, cols / 2, cols / 32};
  if (!reference::quantize<Recipe>(dense_view<const T>{x.data(), rows, cols, cols}, expected).ok()) ++failures;
  const buffer<T> w(x);
  const buffer<std::uint8_t> got_codes(codes.size()), got_scales(scales.size());
  const mx_view<> out{got_codes.data(), got_scales.data(), rows, cols, cols / 2, cols / 32};
  require(cuda::quantize<Recipe>(dense_view<const T>{w.data(), rows, cols, cols}, out, nullptr), what);
  check_same(what, got_codes.host(), codes);
  check_same(what, got_scales.host(), scales);
}

template <class Dialect, class T>
void check_dequantize(const char* what) {
  const std::int64_t rows = 256, cols = 32 * 67;
  mxfp4::test::splitmix random(12);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * cols / 2)), scales(codes.size() / 16);
  for (auto& c : codes) c = random.byte();
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<std::uint8_t>(i);
  std::vector<T> expected(codes.size() * 2);
  const const_mx_view<> host{codes.data(), scales.data(), rows, cols, cols / 2, cols / 32};
  if (!reference::dequantize<Dialect>(host, dense_view<T>{expected.data(), rows, cols, cols}).ok()) ++failures;
  const buffer<std::uint8_t> device_codes(codes), device_scales(scales);
  const buffer<T> out(expected.size());
  const const_mx_view<> w{device_codes.data(), device_scales.data(), rows, cols, cols / 2, cols / 32};
  require(cuda::dequantize<Dialect>(w, dense_view<T>{out.data(), rows, cols, cols}, nullptr), what);
  check_same(what, out.host(), expected);

  const buffer<std::uint8_t> blocks(scales.size() * block_bytes), back_codes(codes.size()), back_scales(scales.size());
  const std::int64_t stride = cols / 32 * block_bytes;
  const mx_view<layout::ggml> ggml{blocks.data() + 1, blocks.data(), rows, cols, stride, stride};
  const mx_view<> back{back_codes.data(), back_scales.data(), rows, cols, cols / 2, cols / 32};
  require(cuda::convert(w, ggml, nullptr), "convert to ggml");
  require(cuda::convert(ggml, back, nullptr), "convert from ggml");
  check_same("  through ggml's blocks and back", back_codes.host(), codes);
  const mx_bytes bytes = *cuda::mma16_bytes_needed(rows, cols);
  const buffer<std::uint8_t> tile_codes(static_cast<std::size_t>(bytes.codes)),
      tile_scales(static_cast<std::size_t>(bytes.scales));
  const cuda::mma16_view tiles{tile_codes.data(), tile_scales.data(), rows, cols};
  require(cudaMemset(back_codes.data(), 0, back_codes.bytes()), "cudaMemset");
  require(cuda::pack_mma16(w, tiles, nullptr), "pack_mma16");
  require(cuda::unpack_mma16(tiles, back, nullptr), "unpack_mma16");
  check_same("  through mma16 and back", back_codes.host(), codes);
}

void check_mxfp8() {
  const std::int64_t rows = 33, cols = 32 * 67;
  const std::vector<bf16> x = numbers<bf16>(static_cast<std::size_t>(rows * cols));
  std::vector<std::uint8_t> elements(x.size()), scales(x.size() / 32);
  for (std::size_t b = 0; b < scales.size(); ++b) {
    bf16 values[block_size];
    std::memcpy(values, &x[b * block_size], sizeof values);
    const mxfp8_block encoded = encode_mxfp8(values, mxfp8_scaling::rceil);
    std::memcpy(&elements[b * block_size], encoded.element, block_size);
    scales[b] = static_cast<std::uint8_t>(encoded.scale);
  }
  const buffer<bf16> from(x);
  const buffer<std::uint8_t> got(elements.size()), got_scales(scales.size());
  require(cuda::quantize_mxfp8(dense_view<const bf16>{from.data(), rows, cols, cols},
                               mxfp8_view{got.data(), got_scales.data(), rows, cols, cols, cols / 32},
                               mxfp8_scaling::rceil, nullptr),
          "quantize_mxfp8");
  check_same("quantize_mxfp8 bf16, rceil", got.host(), elements);
  check_same("quantize_mxfp8 bf16, rceil: scales", got_scales.host(), scales);
}

/// Products whose sums fit a float, so that they are exact in any order: more than eight tokens, and so many that wgmma
/// is chosen where it is.
template <class X>
void check_gemm(const std::string& what, std::int64_t m, std::int64_t n, std::int64_t k) {
  mxfp4::test::splitmix random(13);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(n * k / 2)), scales(codes.size() / 16);
  for (auto& c : codes) c = random.byte();
  for (auto& s : scales) s = static_cast<std::uint8_t>(random.in(120, 129));
  std::vector<float> weights(codes.size() * 2), x(static_cast<std::size_t>(m * k));
  const const_mx_view<> host{codes.data(), scales.data(), n, k, k / 2, k / 32};
  if (!reference::dequantize(host, dense_view<float>{weights.data(), n, k, k}).ok()) ++failures;
  std::vector<X> tokens;
  for (float& v : x) {
    v = static_cast<float>(random.in(-2, 2));
    tokens.push_back(encode<X>(v));
  }
  std::vector<float> expected(static_cast<std::size_t>(m * n));
  for (std::int64_t i = 0; i < m * n; ++i) {
    const float *const row = x.data() + i / n * k, *const w = weights.data() + i % n * k;
    float sum = 0;
    for (std::int64_t j = 0; j < k; ++j) sum += row[j] * w[j];
    expected[static_cast<std::size_t>(i)] = sum;
  }
  const buffer<std::uint8_t> device_codes(codes), device_scales(scales);
  const buffer<X> device_x(tokens);
  const buffer<float> y(expected.size());
  bool wgmma = false;
  require(cuda::kernel::choose_wgmma<X, float>(n, m, wgmma), "choose_wgmma");
  const std::string title = "gemm " + what + ", " + std::to_string(m) + " tokens" + (wgmma ? ", by wgmma" : "");
  require(cuda::gemm(const_mx_view<>{device_codes.data(), device_scales.data(), n, k, k / 2, k / 32},
                     dense_view<const X>{device_x.data(), m, k, k}, dense_view<float>{y.data(), m, n, n}, nullptr),
          title.c_str());
  check_same(title.c_str(), y.host(), expected);
}

int write_words(const std::string& name, const std::vector<std::uint32_t>& words) {
  std::ofstream file(name, std::ios::binary);
  file.write(reinterpret_cast<const char*>(words.data()), static_cast<std::streamsize>(words.size() * 4));
  if (!file.flush()) {
    std::fprintf(stderr, "cannot write %s: does the folder exist?\n", name.c_str());
    return 1;
  }
  std::printf("%s: %zu words\n", name.c_str(), words.size());
  return 0;
}

int capture(const cudaDeviceProp& device, const std::string& folder) {
  using kernel = cuda::test::capture_fragments<cuda::device::target>;
  const buffer<std::uint32_t> in(cuda::test::fragment_input()), out(32 * cuda::test::fragment_outputs);
  require(cuda::launch<kernel>({}, kernel::shared_bytes, nullptr, {in.data(), out.data()}), "capture_fragments");
  const int arch = 10 * device.major + device.minor;
  const std::string name = folder + "/fragments.sm_" + std::to_string(arch) + (arch >= 90 ? "a" : "") + ".u32";
  const int result = write_words(name, out.host());

  using wgmma = cuda::test::capture_wgmma<cuda::device::target>;
  bool there = false;
  require(cuda::has_kernel<wgmma>(there), "has_kernel");
  if (result != 0 || !there) return result;
  const buffer<std::uint32_t> wgmma_in(cuda::test::wgmma_input()), wgmma_out(128 * cuda::test::wgmma_outputs);
  require(cuda::launch<wgmma>({}, wgmma::shared_bytes, nullptr, {wgmma_in.data(), wgmma_out.data()}), "capture_wgmma");
  return write_words(folder + "/wgmma.sm_90a.u32", wgmma_out.host());
}

}  // namespace

int main(int argc, char** argv) {
  cudaDeviceProp device{};
  if (!cuda::test::find_device(device)) return cuda::test::skipped;
  if (argc == 3 && std::strcmp(argv[1], "--capture") == 0) return capture(device, argv[2]);
  if (argc != 1) {
    std::fprintf(stderr, "gpu_test takes nothing, or --capture and a folder; it got '%s'\n", argv[1]);
    return 2;
  }
  failures += cuda::test::check_launches();  // before any kernel has been loaded
  check_quantize<recipe::ocp, bf16>("quantize ocp, bf16");
  check_quantize<recipe::ocp, float>("quantize ocp, float");
  check_quantize<recipe::compressed_tensors, bf16>("quantize compressed_tensors, bf16");
  check_quantize<recipe::compressed_tensors, f16>("quantize compressed_tensors, f16");
  check_quantize<recipe::ggml, float>("quantize ggml, float");
  check_quantize<recipe::mlx, float>("quantize mlx, float");
  check_quantize<recipe::triton_up, f16>("quantize triton_up, f16");
  check_quantize<recipe::cuda_rceil_satfinite, float>("quantize cuda_rceil_satfinite, float");
  check_quantize<recipe::min_mse, bf16>("quantize min_mse, bf16");
  check_dequantize<dialect::ocp, bf16>("dequantize ocp, bf16");
  check_dequantize<dialect::ggml, f16>("dequantize ggml, f16");
  check_dequantize<dialect::inf_at_255, float>("dequantize inf_at_255, float");
  check_mxfp8();
  check_gemm<bf16>("bf16", 65, 200, 544);
  check_gemm<f16>("f16", 20, 131, 96);
  check_gemm<bf16>("bf16", 140, 4400, 544);  // 70 tiles of 128 x 128: more than half of 132 multiprocessors
  check_gemm<f16>("f16", 140, 4400, 544);
  failures += cuda::test::check_products(device);
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}

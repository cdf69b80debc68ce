// tests/single_header/digest.cpp -- digests of what mxfp4::format makes, printed: by every recipe, dialect and layout.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled with the single header, and with MXFP4_TEST_HEADERS from the headers; both must print the same.
#if defined(MXFP4_TEST_HEADERS)
#include <mxfp4/convert.hpp>
#include <mxfp4/quantize.hpp>
#include <mxfp4/version.hpp>
#else
#include <mxfp4_format.hpp>
#if defined(XSIMD_VERSION_MAJOR)
#error "the single header brings xsimd in"
#endif
#endif

#include <cstdio>
#include <cstring>
#include <vector>

namespace {

using namespace mxfp4;

constexpr std::int64_t rows = 8, cols = 256;

/// FNV-1a of 64 bits.
template <class T>
std::uint64_t digest(const std::vector<T>& values, std::uint64_t sum = 14695981039346656037u) {
  std::vector<unsigned char> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  for (const unsigned char b : bytes) sum = (sum ^ b) * 1099511628211u;
  return sum;
}

/// Numbers of all magnitudes, ties and special ones among them.
std::vector<float> numbers() {
  std::vector<float> x(rows * cols);
  std::uint32_t state = 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    const std::uint32_t bits = (state & 0x80700000u) | (100u + (state >> 8) % 40u) << 23;
    std::memcpy(&v, &bits, sizeof v);
  }
  const std::uint32_t special[] = {0x7F800000u, 0x7FC00000u, 0x00000001u, 0x80000000u};
  for (std::size_t i = 0; i < 4; ++i) std::memcpy(&x[100 * i], &special[i], sizeof(float));
  return x;
}

}  // namespace

int main() {
  std::printf("%d.%d.%d\n", version_major, version_minor, version_patch);
  std::vector<float> w = numbers();
  const auto weights = make_dense_view(w, rows, cols).value_or_abort();
  for (int id = 0; id < recipe_count; ++id) {
    std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / block_size), blocks(rows * cols / 32 * 17);
    const auto out = make_view(codes, scales, rows, cols).value_or_abort();
    if (!quantize(static_cast<recipe_id>(id), weights, out).ok()) return 1;
    const auto as_ggml = make_ggml_view(blocks, rows, cols).value_or_abort();
    if (!convert(out, as_ggml).ok()) return 1;
    std::printf("%s %016llx %016llx\n", recipe_name(static_cast<recipe_id>(id)),
                static_cast<unsigned long long>(digest(scales, digest(codes))),
                static_cast<unsigned long long>(digest(blocks)));
    for (int dialect = 0; dialect < dialect_count; ++dialect) {
      std::vector<float> back(w.size());
      if (!dequantize(static_cast<dialect_id>(dialect), out, make_dense_view(back, rows, cols).value_or_abort()).ok())
        return 1;
      std::printf("  %016llx\n", static_cast<unsigned long long>(digest(back)));
    }
  }
}

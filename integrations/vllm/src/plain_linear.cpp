// integrations/vllm/src/plain_linear.cpp -- see plain_linear.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "plain_linear.hpp"

#include <algorithm>
#include <utility>

namespace mxfp4::vllm {

namespace {

/// Of a group: 64 KiB of weights, and 12 or 24 KiB of tokens.
constexpr std::int64_t columns_at_once = 512;

}  // namespace

const plain_kernels* plain_linear::kernels_of([[maybe_unused]] std::string_view isa) noexcept {
#if defined(__x86_64__)
  if (isa.starts_with("avx512")) return &plain_avx512;
  if (isa.starts_with("avx")) return &plain_avx2;
#endif
  return nullptr;
}

bool plain_linear::beats_dot_products() noexcept {
#if defined(__x86_64__)
  return !__builtin_cpu_supports("avx512bf16") || __builtin_cpu_is("intel");
#else
  return false;
#endif
}

result<plain_linear> plain_linear::create(const void* weights, std::int64_t rows, std::int64_t cols,
                                          const plain_kernels& kernels, const process_team& team) {
  plain_linear made;
  made.rows_ = rows;
  made.cols_ = cols;
  made.kernels_ = &kernels;
  made.packed_ = mxfp4::detail::allocate(made.bytes());
  if (made.packed_ == nullptr) return status{errc::out_of_memory, "plain_linear", made.bytes()};
  const std::int64_t words = kernels.tile_words, tiles = made.groups() * (plain_group_rows / (2 * words));
  const auto* const from = static_cast<const std::uint16_t*>(weights);
  auto* const packed = reinterpret_cast<std::uint32_t*>(made.packed_.get());
  const auto pack_tile = [&](std::size_t tile) noexcept {
    std::uint32_t* const to = packed + static_cast<std::int64_t>(tile) * words * cols;
    for (std::int64_t j = 0; j < words; ++j) {
      const std::int64_t low = static_cast<std::int64_t>(tile) * 2 * words + j, high = low + words;
      for (std::int64_t k = 0; k < cols; ++k)
        to[k * words + j] = (low < rows ? std::uint32_t{from[low * cols + k]} : 0u) |
                            (high < rows ? std::uint32_t{from[high * cols + k]} << 16 : 0u);
    }
  };
  team.run(static_cast<std::size_t>(tiles), pack_tile);
  return result<plain_linear>(std::move(made));
}

void plain_linear::run(const rows_in& x, const float* bias, const rows_out& y, workshop& shop) const {
  const std::lock_guard lock(shop.mutex);
  const std::int64_t n = rows_, k = cols_, stride = groups() * plain_group_rows;
  const std::int64_t most = rows_within(shop, k + stride), runs = (x.rows + most - 1) / most;
  const auto* const packed = reinterpret_cast<const std::uint32_t*>(packed_.get());
  for (std::int64_t r = 0; r < runs; ++r) {
    const std::int64_t first = x.rows * r / runs, tokens = x.rows * (r + 1) / runs - first;
    const std::int64_t tiles = (tokens + kernels_->most_tokens - 1) / kernels_->most_tokens;
    const std::int64_t at_once = tiles == 1 ? k : columns_at_once;
    float* const sums = grown(shop.results, tokens * stride);
    float* const panel = grown(shop.panel, tokens * k);  // [columns at once][tile of tokens][column][token]
    const auto begin = [&](std::int64_t tile) { return tokens * tile / tiles; };
    const auto widen = [&](std::size_t index) noexcept {
      const auto tile = static_cast<std::int64_t>(index);
      const std::int64_t top = begin(tile), count = begin(tile + 1) - top;
      for (std::int64_t t = 0; t < count; ++t) {
        const auto* const from = static_cast<const std::uint16_t*>(x.data) + (first + top + t) * x.stride;
        for (std::int64_t c = 0; c < k; c += at_once) {
          const std::int64_t columns = std::min(at_once, k - c);
          float* const to = panel + tokens * c + top * columns + t;
          for (std::int64_t i = 0; i < columns; ++i) to[i * count] = decode(static_cast<bf16>(from[c + i]));
        }
      }
    };
    shop.team.run(static_cast<std::size_t>(tiles), widen);
    const auto multiply_one = [&](std::size_t group) noexcept {
      const std::uint32_t* const w = packed + static_cast<std::int64_t>(group) * (plain_group_rows / 2) * k;
      std::int64_t c = 0;
      do {  // once where K is 0, for the sums to be 0
        const std::int64_t columns = std::min(at_once, k - c);
        for (std::int64_t tile = 0; tile < tiles; ++tile)
          kernels_->products[static_cast<std::size_t>(begin(tile + 1) - begin(tile) - 1)](
              w + c * kernels_->tile_words, kernels_->tile_words * k, panel + tokens * c + begin(tile) * columns,
              columns, sums + begin(tile) * stride + static_cast<std::int64_t>(group) * plain_group_rows, stride,
              c > 0);
        c += at_once;
      } while (c < k);
    };
    shop.team.run(static_cast<std::size_t>(groups()), multiply_one);
    const auto round_tile = [&](std::size_t index) noexcept {
      const auto tile = static_cast<std::int64_t>(index);
      for (std::int64_t t = begin(tile); t < begin(tile + 1); ++t) {
        float* const from = sums + t * stride;
        bf16* const to = static_cast<bf16*>(y.data) + (first + t) * n;
        if (bias != nullptr)
          for (std::int64_t i = 0; i < n; ++i) from[i] += bias[i];
        for (std::int64_t i = 0; i < n; ++i) to[i] = encode<bf16>(from[i]);
      }
    };
    shop.team.run(static_cast<std::size_t>(tiles), round_tile);
  }
}

}  // namespace mxfp4::vllm

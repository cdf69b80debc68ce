// integrations/vllm/src/plain_linear_text.hpp -- the products of plain_linear.hpp, for the instruction set of whoever
// includes it.
// SPDX-License-Identifier: Apache-2.0
//
// Everything has internal linkage and nothing of the standard library is called: no linker takes a function that was
// compiled for AVX-512 in the place of another file's. `registers` is the file's own:
//
//   floats, words          a register as f32, and as words of 32 bits
//   zero, load, store      unaligned; broadcast: one float in all places
//   lower, upper           the bfloat16s in the lower and upper halves of words, as floats
//   add_product            sum + a * b, rounded once
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "plain_kernels.hpp"

namespace mxfp4::vllm {

namespace {

/// How far ahead weights are fetched, in bytes of a tile: they come from memory, each once for a few tokens.
constexpr std::uintptr_t fetched_ahead = 2048;

/// The sums of `Tokens` tokens and of the rows of `Tiles` tiles. plain_kernels::product has the parameters.
template <class R, int Tokens, int Tiles>
void multiply_tiles(const std::uint32_t* w, std::int64_t step, const float* x, std::int64_t columns, float* sums,
                    std::int64_t stride, bool add) noexcept {
  constexpr int parts = 2 * Tiles;
  typename R::floats sum[std::size_t{Tokens}][std::size_t{parts}];
#pragma GCC unroll 16
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 16
    for (int v = 0; v < parts; ++v) sum[t][v] = add ? R::load(sums + t * stride + R::width * v) : R::zero();
  for (std::int64_t k = 0; k < columns; ++k) {
    typename R::floats weights[std::size_t{parts}];
#pragma GCC unroll 16
    for (int v = 0; v < Tiles; ++v) {
      const std::uint32_t* const at = w + v * step + k * R::width;
      // An address: behind the last columns it is that of nothing.
      __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(at) + fetched_ahead));
      const typename R::words both = R::load_words(at);
      weights[2 * v] = R::lower(both);
      weights[2 * v + 1] = R::upper(both);
    }
#pragma GCC unroll 16
    for (int t = 0; t < Tokens; ++t) {
      const typename R::floats token = R::broadcast(x + k * Tokens + t);
#pragma GCC unroll 16
      for (int v = 0; v < parts; ++v) sum[t][v] = R::add_product(sum[t][v], token, weights[v]);
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 16
    for (int v = 0; v < parts; ++v) R::store(sums + t * stride + R::width * v, sum[t][v]);
}

/// The same for a group: as many tiles at a time as there are registers for sums.
template <class R, int Tokens>
void multiply_group(const std::uint32_t* w, std::int64_t step, const float* x, std::int64_t columns, float* sums,
                    std::int64_t stride, bool add) noexcept {
  constexpr int all = static_cast<int>(plain_group_rows) / (2 * R::width), fit = R::sums / (2 * Tokens);
  constexpr int tiles = fit >= all ? all : fit >= 2 ? 2 : 1;
  for (std::int64_t t = 0; t < all; t += tiles)
    multiply_tiles<R, Tokens, tiles>(w + t * step, step, x, columns, sums + 2 * R::width * t, stride, add);
}

template <class R, int... Tokens>
constexpr plain_kernels kernels_for(std::integer_sequence<int, Tokens...>) noexcept {
  return {R::width, sizeof...(Tokens), {&multiply_group<R, Tokens + 1>...}};
}
/// @tparam R  sums: how many registers are for sums; the others are weights, a token and a mask.
template <class R>
constexpr plain_kernels kernels = kernels_for<R>(std::make_integer_sequence<int, R::sums / 2>());

}  // namespace

}  // namespace mxfp4::vllm

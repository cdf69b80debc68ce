// mxfp4/tensor/encode_row.hpp -- a row of any length -> blocks; the last one is padded.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mxfp4/core/status.hpp"
#include "mxfp4/format/block.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
inline namespace MXFP4_ISA_NS {

/// n numbers -> ceil(n / 32) blocks, low_first. All other functions ask for whole blocks; here the last block is filled
/// up with zeros, whose code is 0.
/// @param codes   16 * ceil(n / 32) bytes.  @param scales  ceil(n / 32) bytes.
template <block_recipe Recipe = recipe::ocp, element_type T>
constexpr status encode_row(const T* x, std::int64_t n, std::uint8_t* codes, std::uint8_t* scales) noexcept {
  if (n < 0) return {errc::negative_size, "n", n};
  if (n == 0) return {};
  if (x == nullptr) return {errc::null_pointer, "x", 0, n};
  if (codes == nullptr) return {errc::null_pointer, "codes", 0, detail::ceil_div(n, block_size) * block_code_bytes};
  if (scales == nullptr) return {errc::null_pointer, "scales", 0, detail::ceil_div(n, block_size)};
  for (std::int64_t first = 0; first < n; first += block_size) {
    const std::int64_t count = n - first < block_size ? n - first : block_size;
    T padded[block_size]{};
    for (std::int64_t i = 0; i < count; ++i) padded[i] = x[first + i];
    block_codes encoded = encode_block_codes<Recipe>(padded);
    for (std::int64_t i = count; i < block_size; ++i) encoded.code[i] = e2m1{0};
    pack_block<low_first>(encoded.code, codes + first / block_size * block_code_bytes);
    scales[first / block_size] = static_cast<std::uint8_t>(encoded.scale);
  }
  return {};
}

/// The same with the recipe chosen at run time; errc::unknown_recipe besides.
template <element_type T>
status encode_row(recipe_id recipe, const T* x, std::int64_t n, std::uint8_t* codes, std::uint8_t* scales) noexcept {
  return detail::with_recipe(recipe, [&]<class R>() { return mxfp4::encode_row<R>(x, n, codes, scales); });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4

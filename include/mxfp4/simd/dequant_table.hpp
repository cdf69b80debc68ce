// mxfp4/simd/dequant_table.hpp -- 32 codes -> 32 numbers, by looking them up in the row of their scale byte.
// SPDX-License-Identifier: Apache-2.0
//
// decode_rows<T, Dialect>[byte][code] holds every weight there is: 256 rows of 16 numbers, made by the plain loop at
// compile time. Decoding is one load of a row and one permutation of it, the same for every byte, dialect and type: no
// multiplication, no special case for subnormal, infinite and NaN rows, nothing that flush-to-zero could touch. A
// tensor uses a dozen scale bytes or so, and the rows in use are a cache line each (half of one for 16 bits).
//
// Where a register is looked up by the byte, as on AVX2, split_rows<T, Dialect> has the same numbers as two tables of
// bytes: half a cache line for every type, as the lower half of a weight's f32 bits is zero.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "mxfp4/format/dialect.hpp"
#include "mxfp4/format/nibble.hpp"
#include "mxfp4/simd/isa.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {

/// The values of all 16 codes under one scale byte.
template <element_type T>
struct alignas(16 * sizeof(T)) decode_row {
  T value[16];
};

/// The same as bytes: of numbers of 16 bits, or of the upper halves of floats.
struct alignas(32) split_row {
  std::uint8_t low[16], high[16];
};

}  // namespace mxfp4::simd

namespace mxfp4::inline MXFP4_VERSION_NS::detail {
template <element_type T, decode_dialect Dialect>
[[nodiscard]] consteval std::array<simd::decode_row<T>, 256> make_decode_rows() noexcept {
  std::array<simd::decode_row<T>, 256> rows{};
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned code = 0; code < 16; ++code)
      rows[byte].value[code] = decode_weight<T, Dialect>(static_cast<e2m1>(code), static_cast<e8m0>(byte));
  return rows;
}

template <element_type T, decode_dialect Dialect>
[[nodiscard]] consteval std::array<simd::split_row, 256> make_split_rows() noexcept {
  using word = std::conditional_t<std::same_as<T, float>, bf16, T>;
  std::array<simd::split_row, 256> rows{};
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned code = 0; code < 16; ++code) {
      const auto w =
          static_cast<std::uint16_t>(decode_weight<word, Dialect>(static_cast<e2m1>(code), static_cast<e8m0>(byte)));
      rows[byte].low[code] = static_cast<std::uint8_t>(w & 0xFFu);
      rows[byte].high[code] = static_cast<std::uint8_t>(w >> 8);
    }
  return rows;
}

/// True for every dialect here; a dialect of the user's own may have finer weights.
template <decode_dialect Dialect>
[[nodiscard]] consteval bool weights_fit_bf16() noexcept {
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned code = 0; code < 16; ++code)
      if ((Dialect::weight(static_cast<e2m1>(code), static_cast<e8m0>(byte)) & 0xFFFFu) != 0) return false;
  return true;
}
}  // namespace mxfp4::detail

namespace mxfp4::inline MXFP4_VERSION_NS::simd {

template <element_type T, decode_dialect Dialect>
inline constexpr std::array<decode_row<T>, 256> decode_rows = mxfp4::detail::make_decode_rows<T, Dialect>();
template <element_type T, decode_dialect Dialect>
inline constexpr std::array<split_row, 256> split_rows = mxfp4::detail::make_split_rows<T, Dialect>();

/// Do split_rows hold the weights of a dialect?
template <element_type T, decode_dialect Dialect>
inline constexpr bool splits = !std::same_as<T, float> || mxfp4::detail::weights_fit_bf16<Dialect>();

/// The numbers of a dialect that kernels are compiled for, by scale byte. `splits`: as bytes too.
template <element_type T, decode_dialect Dialect>
struct static_weight_table {
  static constexpr bool splits = simd::splits<T, Dialect>;
  [[nodiscard]] MXFP4_INLINE static const decode_row<T>& row(unsigned byte) noexcept {
    return decode_rows<T, Dialect>[byte];
  }
  [[nodiscard]] MXFP4_INLINE static const split_row& split(unsigned byte) noexcept {
    return split_rows<T, Dialect>[byte];
  }
};

/// Those of a dialect that was chosen at run time: kernels that take it are compiled once for all.
template <element_type T>
struct weight_table {
  static constexpr bool splits = true;
  const decode_row<T>* rows;
  const split_row* halves;
  [[nodiscard]] MXFP4_INLINE const decode_row<T>& row(unsigned byte) const noexcept { return rows[byte]; }
  [[nodiscard]] MXFP4_INLINE const split_row& split(unsigned byte) const noexcept { return halves[byte]; }
};
template <element_type T, decode_dialect Dialect>
  requires(splits<T, Dialect>)
inline constexpr weight_table<T> weight_table_of = {decode_rows<T, Dialect>.data(), split_rows<T, Dialect>.data()};

/// How numbers leave the register. `stream` goes past the cache and wants `out` aligned to 64 bytes.
enum class store : std::uint8_t { cached, stream };

inline namespace MXFP4_ISA_NS {

/// The orders of the formats that there are; for any other decode_codes is a loop.
template <class Order>
inline constexpr bool is_common_order = std::same_as<Order, low_first> || std::same_as<Order, half_split>;

/// Does an architecture look up bytes, in a row of split_rows, or numbers, in one of decode_rows?
template <class Arch>
inline constexpr bool looks_up_bytes = false;

namespace detail {

/// decode_codes for numbers of `Bytes` bytes. The file of an instruction set has the common orders alone.
template <class Arch, std::size_t Bytes>
struct code_decoder {
  template <nibble_order Order, store Store, element_type T>
  MXFP4_INLINE static void decode(const std::uint8_t* codes, const decode_row<T>& row, T* out) noexcept {
    for (int i = 0; i < block_size; ++i) out[i] = row.value[static_cast<unsigned>(get_code<Order>(codes, i))];
  }
};

/// Does an architecture have stores that go past the cache, and what has to follow the last of them?
template <class Arch>
struct streaming {
  static constexpr bool available = false;
  MXFP4_INLINE static void finish() noexcept {}
};

}  // namespace detail

/// 16 bytes of codes in `Order` under a scale byte -> 32 numbers of a table at `out`.
template <class Arch, nibble_order Order, store Store, class Table, element_type T>
MXFP4_INLINE void decode_codes(const Table& table, const std::uint8_t* codes, std::uint8_t scale, T* out) noexcept {
  constexpr bool bytes = looks_up_bytes<Arch>, plain = !is_common_order<Order> || (bytes && !Table::splits);
  using decoder = detail::code_decoder<std::conditional_t<plain, scalar_arch, Arch>, sizeof(T)>;
  if constexpr (bytes && !plain) decoder::template decode<Order, Store>(codes, table.split(scale), out);
  else decoder::template decode<Order, Store>(codes, table.row(scale), out);
}

/// Does this architecture stream at all?
template <class Arch>
inline constexpr bool has_stream = detail::streaming<Arch>::available;

/// After the last streaming store, before another thread may read.
template <class Arch, store Store>
MXFP4_INLINE void finish_stores() noexcept {
  if constexpr (Store == store::stream) detail::streaming<Arch>::finish();
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

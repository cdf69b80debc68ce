// mxfp4/tensor/activation.hpp -- activations as int8, or as sums of two or three, with one scale per block or per row.
// SPDX-License-Identifier: Apache-2.0
//
//   scaling   an element is                    the scale                           codes
//   e8m0      q * 2^-6 * 2^(byte - 127)        floor(log2 amax): OCP's MXINT8      nearest even, clamped to +-127
//   f32       q * scale                        amax / 127 of the block             nearest even of x * (127 / amax)
//   row       q * scale                        amax / 127 of the row               the same
//   residual2 the sum of two terms,            of each term as e8m0's, of what     as e8m0's, of what the terms
//   residual3 of three                         the terms before left over          before left over
//
// A term of residual2 and residual3 has the scale byte residual_scale of its block: at least 2^-8 of the term's before,
// so that a block's factors lie close together. What a term leaves over is exact in float.
//
// A token has a lane for each term, side by side, and is otherwise stored as so many tokens of scaling e8m0. Lanes are
// stored in groups of up to 16, as the kernels read them: for each block the group's codes [8][width][4], then
// -12 * (sum of the block's codes) [width] and the scale [width], words of 32 bits. `width` is 16, in the last group
// the next of 1, 2, 4, 8, 12, 16; lanes that fill it up are zeros. A group has 16, 8 or 5 tokens of 1, 2 or 3 terms.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "mxfp4/core/aligned_buffer.hpp"
#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/tensor/product_check.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// Which numbers share a scale, what a scale may be, and of how many terms an element is the sum: the table above.
enum class int8_scaling : std::uint8_t { e8m0, f32, row, residual2, residual3 };

/// How many int8 numbers an activation is the sum of: 1, but for residual2 and residual3.
[[nodiscard]] MXFP4_INLINE constexpr int terms_of(int8_scaling scaling) noexcept {
  return scaling == int8_scaling::residual2 ? 2 : scaling == int8_scaling::residual3 ? 3 : 1;
}

inline constexpr int token_group = 16;  ///< lanes that are stored together: tokens, or their terms
inline constexpr int block_quads = 8;   ///< quads in a block: four elements, which a lane of an int8 dot product takes

namespace detail {

inline constexpr int int8_max = 127;
inline constexpr int mxint8_fraction_bits = 6;
inline constexpr int zero_point = 12;  ///< twice a weight plus 12 is 0..24: unsigned, as x86's int8 dot product asks
inline constexpr float int8_smallest_amax = 0x1p-118f;  ///< a block below it is taken for zeros: see int8_inverse_scale

/// 32 codes and their sum.
struct int8_block {
  std::int8_t code[block_size];
  std::int32_t sum;
};

/// An integer shifted right, to nearest even.
[[nodiscard]] MXFP4_INLINE constexpr std::uint32_t shift_to_even(std::uint32_t n, int shift) noexcept {
  if (shift > 31) return 0;
  const std::uint32_t kept = n >> shift, rest = n & ((1u << shift) - 1), half = 1u << (shift - 1);
  return kept + (rest > half || (rest == half && (kept & 1u) != 0) ? 1u : 0u);
}

/// |x| * 2^(6 - e) as an integer, nearest even, where 2^e is the scale of `byte`; at most 128. Exact integer logic.
[[nodiscard]] MXFP4_INLINE constexpr std::uint32_t mxint8_magnitude(std::uint32_t magnitude, int byte) noexcept {
  const int stored = static_cast<int>(magnitude >> f32_mantissa_bits);
  const std::uint32_t significand = (magnitude & f32_mantissa_mask) | (stored != 0 ? 1u << f32_mantissa_bits : 0u);
  return shift_to_even(significand, f32_mantissa_bits - mxint8_fraction_bits + byte - (stored != 0 ? stored : 1));
}

/// The scale byte of a block with largest magnitude `amax` (f32 bits): 127 for zeros, 255 for NaN and infinity.
[[nodiscard]] MXFP4_INLINE constexpr std::uint8_t mxint8_scale(std::uint32_t amax) noexcept {
  return amax == 0 ? std::uint8_t{127} : static_cast<std::uint8_t>(amax >> f32_mantissa_bits);
}

/// The codes of MXINT8: the definition that every ISA reproduces bit for bit.
[[nodiscard]] MXFP4_INLINE constexpr int8_block encode_mxint8(const float (&x)[block_size],
                                                              std::uint8_t byte) noexcept {
  int8_block b{};
  if (byte == 255) return b;
  for (int i = 0; i < block_size; ++i) {
    const std::uint32_t bits = float_bits(x[i]), q = mxint8_magnitude(bits & f32_abs_mask, byte);
    const int code = q > int8_max ? int8_max : static_cast<int>(q);
    b.code[i] = static_cast<std::int8_t>(bits >> 31 != 0 ? -code : code);
    b.sum += b.code[i];
  }
  return b;
}

/// 2^(byte - 133), what a code under that scale byte counts; byte < 255.
[[nodiscard]] MXFP4_INLINE constexpr float mxint8_step(std::uint8_t byte) noexcept {
  constexpr int smallest_normal = mxint8_fraction_bits + 1;
  if (byte >= smallest_normal)
    return float_from_bits(static_cast<std::uint32_t>(byte - mxint8_fraction_bits) << f32_mantissa_bits);
  return float_from_bits(1u << (f32_mantissa_bits - smallest_normal + byte));
}

/// Takes the codes under `byte` off the block: exact, since a float less a multiple of the step is a multiple of its
/// own last place and at most a step.
MXFP4_INLINE constexpr void take_off(float (&x)[block_size], const int8_block& codes, std::uint8_t byte) noexcept {
  const float step = mxint8_step(byte);
  for (int i = 0; i < block_size; ++i) x[i] -= static_cast<float>(codes.code[i]) * step;
}

/// The scale byte of the next term: the exponent field of what is left over, but at least the byte before less 8, which
/// is what half a step asks for. So a block that an earlier term has all but exactly gets no factor of its own size.
[[nodiscard]] MXFP4_INLINE constexpr std::uint8_t residual_scale(std::uint32_t amax_left,
                                                                 std::uint8_t byte_before) noexcept {
  constexpr int most = mxint8_fraction_bits + 2;
  const int least = byte_before > most ? byte_before - most : 0;
  const auto byte = static_cast<int>(amax_left >> f32_mantissa_bits);
  return static_cast<std::uint8_t>(byte > least ? byte : least);
}

/// amax / 127; 1 for zeros and what is taken for them, NaN for NaN and infinity.
[[nodiscard]] MXFP4_INLINE constexpr float int8_scale(float amax) noexcept {
  if (float_bits(amax) >= f32_inf) return float_from_bits(f32_nan);
  return amax < int8_smallest_amax ? 1.0f : amax / 127.0f;
}
/// What x is multiplied with: 127 / amax, and 0 where all codes are to be 0.
[[nodiscard]] MXFP4_INLINE constexpr float int8_inverse_scale(float amax) noexcept {
  return float_bits(amax) >= f32_inf || amax < int8_smallest_amax ? 0.0f : 127.0f / amax;
}

/// The codes under a float scale. |x * inverse| is at most 127 and a few ulps, so nearest even is at most 127.
[[nodiscard]] MXFP4_INLINE constexpr int8_block encode_int8(const float (&x)[block_size], float inverse) noexcept {
  int8_block b{};
  if (inverse == 0.0f) return b;
  for (int i = 0; i < block_size; ++i) {
    const std::uint32_t bits = float_bits(multiply(x[i], inverse)), magnitude = bits & f32_abs_mask;
    // the significand counts units of 2^(stored - 150)
    const int stored = static_cast<int>(magnitude >> f32_mantissa_bits);
    const std::uint32_t significand = (magnitude & f32_mantissa_mask) | (stored != 0 ? 1u << f32_mantissa_bits : 0u);
    const auto code = static_cast<int>(shift_to_even(significand, f32_bias + f32_mantissa_bits - stored));
    b.code[i] = static_cast<std::int8_t>(bits >> 31 != 0 ? -code : code);
    b.sum += b.code[i];
  }
  return b;
}

static_assert(mxint8_scale(float_bits(1.99f)) == 127 && mxint8_scale(float_bits(2.0f)) == 128);
static_assert(mxint8_magnitude(float_bits(1.0f), 127) == 64 && mxint8_magnitude(float_bits(1.999f), 127) == 128);
static_assert(mxint8_magnitude(float_bits(0x1p-7f), 127) == 0 && mxint8_magnitude(float_bits(0x1.8p-6f), 127) == 2);
static_assert(mxint8_step(133) == 1.0f && mxint8_step(7) == 0x1p-126f && mxint8_step(6) == 0x1p-127f &&
              mxint8_step(0) == 0x1p-133f);
static_assert(residual_scale(float_bits(0x1p-7f), 127) == 120 && residual_scale(0, 127) == 119 &&
              residual_scale(0, 3) == 0);

/// What an activation block's scale adds to the exponent field of the block's factor. The factor, with which the sum of
/// (doubled weight) * (code) is multiplied, is mantissa * 2^(field - 127) with field = weight's scale byte + this
/// number. It includes the 1/2 that makes up for the doubled weights.
[[nodiscard]] MXFP4_INLINE constexpr int scale_exponent_of(std::uint8_t byte) noexcept {
  return int{byte} - f32_bias - mxint8_fraction_bits - 1;
}
[[nodiscard]] MXFP4_INLINE constexpr int scale_exponent_of(float scale) noexcept {
  return static_cast<int>(float_bits(scale) >> f32_mantissa_bits) - f32_bias - 1;
}

/// Smallest and largest scale_exponent_of of the blocks of a group.
struct scale_exponent_range {
  std::int16_t low = 0, high = 0;
};

}  // namespace detail

/// M x K activations in int8 that own their memory, movable; filled by quantize_activations (kernel/activation.hpp).
/// A block with NaN or infinity (scaling row: a row) has codes 0 and a NaN scale, and makes its token's outputs NaN.
class int8_activations {
 public:
  MXFP4_INLINE int8_activations() = default;  // declared, so that they are inlined too: see MXFP4_INLINE
  MXFP4_INLINE int8_activations(int8_activations&&) = default;
  MXFP4_INLINE int8_activations& operator=(int8_activations&&) = default;
  MXFP4_INLINE ~int8_activations() = default;

  /// Zeros of shape rows x cols, cols a multiple of 32. One object serves any number of quantize_activations calls.
  [[nodiscard]] MXFP4_INLINE static result<int8_activations> create(
      std::int64_t rows, std::int64_t cols, int8_scaling scaling = int8_scaling::e8m0) noexcept {
    if (const status s = detail::check_blocks(rows, cols, "int8_activations"); !s.ok()) return s;
    if (rows > detail::int64_max / 64 || cols > detail::int64_max / 64 / (rows + token_group))
      return status{errc::size_overflow, "rows * cols", rows, 0, "int8_activations"};
    int8_activations x;
    x.rows_ = rows;
    x.cols_ = cols;
    x.scaling_ = scaling;
    const std::int64_t bytes = x.group_offset(x.groups()) + x.groups() * per_group_bytes;
    x.memory_ = detail::allocate(bytes);
    if (x.memory_ == nullptr) return status{errc::out_of_memory, "int8_activations", bytes};
    std::memset(x.memory_.get(), 0, static_cast<std::size_t>(bytes));
    return result<int8_activations>(std::move(x));
  }

  /// M, tokens.
  [[nodiscard]] MXFP4_INLINE std::int64_t rows() const noexcept { return rows_; }
  /// K, elements of a token.
  [[nodiscard]] MXFP4_INLINE std::int64_t cols() const noexcept { return cols_; }
  /// Of a row.
  [[nodiscard]] MXFP4_INLINE std::int64_t blocks() const noexcept { return cols_ / block_size; }
  /// As it was created.
  [[nodiscard]] MXFP4_INLINE int8_scaling scaling() const noexcept { return scaling_; }
  /// 1, 2 or 3: an element is the sum of code * scale over so many terms.
  [[nodiscard]] MXFP4_INLINE int terms() const noexcept { return terms_of(scaling_); }

  /// The integer of an element, or of one of its terms.
  [[nodiscard]] MXFP4_INLINE std::int8_t code(std::int64_t row, std::int64_t col, int term = 0) const noexcept {
    const auto i = static_cast<int>(col % block_size);
    const std::int64_t group = group_of(row);
    const std::uint8_t* const at =
        block(group, col / block_size) + 4 * (i / 4 * width(group) + lane_of(row, term)) + i % 4;
    return static_cast<std::int8_t>(*at);
  }
  /// The E8M0 byte of block b (scaling e8m0, residual2, residual3), 255 for NaN.
  [[nodiscard]] MXFP4_INLINE std::uint8_t scale_byte(std::int64_t row, std::int64_t b, int term = 0) const noexcept {
    return static_cast<std::uint8_t>(static_cast<int>(scale_word(row, b, term) >> detail::f32_mantissa_bits) -
                                     detail::scale_exponent_of(std::uint8_t{0}));
  }
  /// What a code of block b is multiplied with (e8m0, residual2, residual3: 2^(byte - 133), exact).
  [[nodiscard]] MXFP4_INLINE double scale(std::int64_t row, std::int64_t b, int term = 0) const noexcept;

  // ---- what the kernels read and write ----
  /// Groups of tokens.
  [[nodiscard]] MXFP4_INLINE std::int64_t groups() const noexcept { return detail::ceil_div(rows_, rows_per_group()); }
  /// Tokens of a full group: 16, 8 or 5 for 1, 2 or 3 terms.
  [[nodiscard]] MXFP4_INLINE int rows_per_group() const noexcept { return token_group / terms(); }
  /// Tokens of a group that exist: less in the last one.
  [[nodiscard]] MXFP4_INLINE int rows_in(std::int64_t group) const noexcept {
    const std::int64_t left = rows_ - first_row(group);
    return left < rows_per_group() ? static_cast<int>(left) : rows_per_group();
  }
  /// The first token of a group.
  [[nodiscard]] MXFP4_INLINE std::int64_t first_row(std::int64_t group) const noexcept {
    return group * rows_per_group();
  }
  /// The group of a token.
  [[nodiscard]] MXFP4_INLINE std::int64_t group_of(std::int64_t row) const noexcept { return row / rows_per_group(); }
  /// The lane of a token, or of one of its terms, within its group.
  [[nodiscard]] MXFP4_INLINE int lane_of(std::int64_t row, int term = 0) const noexcept {
    return static_cast<int>(row % rows_per_group()) * terms() + term;
  }
  /// Lanes that memory is kept for in a group of so many.
  [[nodiscard]] MXFP4_INLINE static constexpr int width_of(int lanes) noexcept {
    return lanes <= 2 ? lanes : (lanes + 3) / 4 * 4;
  }
  /// The same for a group.
  [[nodiscard]] MXFP4_INLINE int width(std::int64_t group) const noexcept { return width_of(rows_in(group) * terms()); }
  /// Bytes of a block in a group of this width.
  [[nodiscard]] MXFP4_INLINE static constexpr std::int64_t block_bytes_at(int width) noexcept {
    return width * (block_size + 8);
  }
  /// A block of a group: codes, initial sums, scales.
  [[nodiscard]] MXFP4_INLINE const std::uint8_t* block(std::int64_t group, std::int64_t b) const noexcept {
    return memory_.get() + group_offset(group) + b * block_bytes_at(width(group));
  }
  /// The same, to be written.
  [[nodiscard]] MXFP4_INLINE std::uint8_t* block(std::int64_t group, std::int64_t b) noexcept {
    return memory_.get() + group_offset(group) + b * block_bytes_at(width(group));
  }
  /// [token of the group]: what its sums are multiplied with after the last block, its scale (scaling row), else 1; NaN
  /// for a token that has NaN or infinity.
  [[nodiscard]] MXFP4_INLINE const float* finish(std::int64_t group) const noexcept { return tail(group)->finish; }
  [[nodiscard]] MXFP4_INLINE float* finish(std::int64_t group) noexcept {
    return const_cast<float*>(tail(group)->finish);
  }
  /// The range that the fast kernel asks for.
  [[nodiscard]] MXFP4_INLINE detail::scale_exponent_range scale_exponents(std::int64_t group) const noexcept {
    return tail(group)->scale_exponents;
  }
  /// Whoever writes blocks says it.
  MXFP4_INLINE void set_scale_exponents(std::int64_t group, detail::scale_exponent_range scale_exponents) noexcept {
    const_cast<group_tail*>(tail(group))->scale_exponents = scale_exponents;
  }
  /// All of its memory.
  [[nodiscard]] MXFP4_INLINE detail::byte_range bytes() const noexcept {
    return {memory_.get(), group_offset(groups()) + groups() * per_group_bytes};
  }

 private:
  struct group_tail {
    float finish[token_group];
    detail::scale_exponent_range scale_exponents;
  };
  static constexpr std::int64_t per_group_bytes = sizeof(group_tail);

  [[nodiscard]] MXFP4_INLINE std::int64_t group_offset(std::int64_t group) const noexcept {
    if (group == 0) return 0;
    return ((group - 1) * token_group + width(group - 1)) * blocks() * block_bytes_at(1);
  }
  [[nodiscard]] MXFP4_INLINE const group_tail* tail(std::int64_t group) const noexcept {
    return reinterpret_cast<const group_tail*>(memory_.get() + group_offset(groups())) + group;
  }
  [[nodiscard]] MXFP4_INLINE std::uint32_t scale_word(std::int64_t row, std::int64_t b, int term) const noexcept {
    const int w = width(group_of(row));
    std::uint32_t word = 0;
    std::memcpy(&word, block(group_of(row), b) + 4 * (block_quads * w + w + lane_of(row, term)), sizeof word);
    return word;
  }

  detail::aligned_buffer memory_;
  detail::owned_size rows_, cols_;
  int8_scaling scaling_ = int8_scaling::e8m0;
};

MXFP4_INLINE double int8_activations::scale(std::int64_t row, std::int64_t b, int term) const noexcept {
  if (scaling_ == int8_scaling::row) return static_cast<double>(finish(group_of(row))[lane_of(row)]);
  if (scaling_ == int8_scaling::f32)  // the word is half of the scale
    return 2.0 * static_cast<double>(detail::float_from_bits(scale_word(row, b, 0)));
  const std::uint8_t byte = scale_byte(row, b, term);
  return static_cast<double>(decode(static_cast<e8m0>(byte))) / (1 << detail::mxint8_fraction_bits);
}

namespace detail {
[[nodiscard]] MXFP4_INLINE operand operand_of(const int8_activations& x, const char*) noexcept {
  return {{}, x.rows(), x.cols(), {x.bytes(), {}}};
}
}  // namespace detail

}  // namespace mxfp4

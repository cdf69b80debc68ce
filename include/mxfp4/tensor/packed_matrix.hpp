// mxfp4/tensor/packed_matrix.hpp -- weights in the order in which the kernels read them.
// SPDX-License-Identifier: Apache-2.0
//
//   tile16x32_v1: tiles of 16 rows, each a run of blocks of 32 columns, 256 bytes of codes a block in 4 lines
//
//   line g   | row 0: 4 bytes | row 1: 4 bytes | ... | row 15 |      byte i of a row: low nibble   element 4g + i
//            0                4                8              64                     high nibble  element 16 + 4g + i
//
//   codes [tile][block][4 lines][16 rows][4], then scales [tile][block][16 rows]
//
// A line is one register of 512 bits, two of 256 or four of 128; lanes are rows, so no kernel adds across lanes. The
// same bytes on every ISA: a saved matrix may be loaded on any machine. Rows that fill up the last tile have codes 0
// and scale byte 127.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "mxfp4/core/aligned_buffer.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/packed_view.hpp"
#include "mxfp4/tensor/tasks.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

inline constexpr int tile_lines = 4;                     ///< of 64 bytes, in a block of a tile
inline constexpr int tile_line_bytes = 64;               ///< 16 rows x 4 bytes
inline constexpr std::uint8_t tile_padding_scale = 127;  ///< of rows that fill up the last tile: 2^0

/// The extremes of a tile's scale bytes: they decide whether the fast int8 kernel is exact for it (kernel/int8.hpp).
struct scale_range {
  std::uint8_t low = 255;  ///< smallest byte of a block that has a nonzero weight; 255: there is none
  std::uint8_t high = 0;   ///< largest byte of all blocks

  MXFP4_INLINE friend constexpr bool operator==(const scale_range&, const scale_range&) = default;
};

namespace detail {

/// Bytes of row `row` in line `line` of a block in tile order: the codes 4g..4g+3 (low) and 16+4g..16+4g+3 (high).
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t tile_offset(int row, int line) noexcept {
  return tile_line_bytes * line + 4 * row;
}

/// Is every weight of a row in this block +0 or -0?
[[nodiscard]] MXFP4_INLINE bool row_is_zero(const std::uint8_t* block, int row) noexcept {
  std::uint32_t any = 0;
  for (int g = 0; g < tile_lines; ++g) {
    std::uint32_t quad = 0;
    std::memcpy(&quad, block + tile_offset(row, g), sizeof quad);
    any |= quad;
  }
  return (any & 0x77777777u) == 0;
}

/// The range of a tile, or of a part of one: `rows` real rows, `blocks` blocks.
[[nodiscard]] MXFP4_INLINE scale_range range_of(const std::uint8_t* codes, const std::uint8_t* scales,
                                                std::int64_t blocks, int rows) noexcept {
  scale_range range;
  for (std::int64_t b = 0; b < blocks; ++b)
    for (int r = 0; r < rows; ++r) {
      const std::uint8_t byte = scales[b * tile_rows + r];
      if (byte > range.high) range.high = byte;
      if (byte < range.low && !row_is_zero(codes + b * tile_block_bytes, r)) range.low = byte;
    }
  return range;
}

}  // namespace detail

/// N x K weights, movable. Made by pack() (kernel/pack.hpp) or from saved bytes; they own their memory, unless
/// uninitialized() was given some.
class packed_matrix {
 public:
  MXFP4_INLINE packed_matrix() = default;  // declared, so that they are inlined too: see MXFP4_INLINE
  MXFP4_INLINE packed_matrix(packed_matrix&&) = default;
  MXFP4_INLINE packed_matrix& operator=(packed_matrix&&) = default;
  MXFP4_INLINE ~packed_matrix() = default;

  /// Memory for rows x cols, contents unspecified: pack_rows (kernel/pack.hpp) fills it. Whoever fills it otherwise
  /// calls update_range or set_range for each tile afterwards.
  /// errc::out_of_memory, or what check() says of such a shape.
  [[nodiscard]] MXFP4_INLINE static result<packed_matrix> uninitialized(std::int64_t rows, std::int64_t cols) noexcept {
    if (const status s = check_size(rows, cols); !s.ok()) return s;
    const std::int64_t need = memory_bytes(rows, cols);
    detail::aligned_buffer memory = detail::allocate(need);
    if (memory == nullptr) return status{errc::out_of_memory, "packed_matrix", need};
    return result<packed_matrix>(packed_matrix(rows, cols, std::move(memory)));
  }

  /// The same in memory that the caller keeps, and nobody else writes, for as long as the matrix, or one that it is
  /// moved to, is there: so that many small ones, as the experts of a layer, are one piece, which may have huge pages.
  /// @param memory  memory_bytes(rows, cols) or more, at a multiple of 64. Ranges of tiles are written into it at once.
  /// @return        errc::null_pointer, buffer_too_small, misaligned, or what check() says of such a shape.
  [[nodiscard]] MXFP4_INLINE static result<packed_matrix> uninitialized(std::int64_t rows, std::int64_t cols,
                                                                        std::span<std::uint8_t> memory) noexcept {
    if (const status s = check_size(rows, cols); !s.ok()) return s;
    const std::int64_t need = memory_bytes(rows, cols), have = static_cast<std::int64_t>(memory.size());
    if (memory.data() == nullptr && need > 0) return status{errc::null_pointer, "memory", 0, need};
    if (have < need) return status{errc::buffer_too_small, "memory", have, need};
    constexpr auto line = static_cast<std::int64_t>(detail::cache_line);
    if (const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(memory.data()) % line); past != 0)
      return status{errc::misaligned, "memory", past, line};
    return result<packed_matrix>(packed_matrix(rows, cols, detail::aligned_buffer(memory.data(), 0)));
  }

  /// Bytes of memory for a matrix of this shape, a multiple of 64; 0 for a shape that uninitialized() refuses.
  [[nodiscard]] MXFP4_INLINE static std::int64_t memory_bytes(std::int64_t rows, std::int64_t cols) noexcept {
    if (!check_size(rows, cols).ok()) return 0;
    const std::int64_t tiles = detail::ceil_div(rows, tile_rows), blocks = cols / block_size;
    const std::int64_t bytes = blocks == 0 ? 0 : tiles * (blocks * (tile_block_bytes + tile_rows) + 2);
    constexpr auto line = static_cast<std::int64_t>(detail::cache_line);
    return detail::ceil_div(bytes, line) * line;
  }

  /// What bytes() of a matrix of this shape held. errc::shape_mismatch if that is another number of bytes.
  [[nodiscard]] MXFP4_INLINE static result<packed_matrix> from_bytes(std::int64_t rows, std::int64_t cols,
                                                                     std::span<const std::uint8_t> saved) noexcept {
    if (const status s = check_size(rows, cols); !s.ok()) return s;
    const std::int64_t need = detail::ceil_div(rows, tile_rows) * (cols / block_size) * (tile_block_bytes + tile_rows);
    if (const auto have = static_cast<std::int64_t>(saved.size()); have != need)  // before anything is allocated
      return status{errc::shape_mismatch, "saved", have, need};
    result<packed_matrix> made = uninitialized(rows, cols);
    if (!made || need == 0) return made;
    packed_matrix m = *std::move(made);
    std::memcpy(m.memory_.get(), saved.data(), saved.size());
    for (std::int64_t t = 0; t < m.tiles(); ++t) m.update_range(t);
    return result<packed_matrix>(std::move(m));
  }

  /// N, outputs.
  [[nodiscard]] MXFP4_INLINE std::int64_t rows() const noexcept { return rows_; }
  /// K, inputs.
  [[nodiscard]] MXFP4_INLINE std::int64_t cols() const noexcept { return cols_; }
  [[nodiscard]] MXFP4_INLINE std::int64_t blocks() const noexcept { return cols_ / block_size; }  ///< in a row
  /// Ceil(rows / 16).
  [[nodiscard]] MXFP4_INLINE std::int64_t tiles() const noexcept { return detail::ceil_div(rows_, tile_rows); }

  /// As pointers, for the products with f32 activations.
  [[nodiscard]] MXFP4_INLINE packed_view view() const noexcept {
    if (tiles() == 0 || blocks() == 0) return {nullptr, nullptr, tiles(), blocks(), rows_};
    return {codes(0), scales(0), tiles(), blocks(), rows_};
  }

  /// Codes, then scales: what to save. The same bytes on every machine.
  [[nodiscard]] MXFP4_INLINE std::span<const std::uint8_t> bytes() const noexcept {
    return {memory_.get(), static_cast<std::size_t>(code_bytes() + scale_bytes())};
  }
  /// The codes of a tile: all its blocks.
  [[nodiscard]] MXFP4_INLINE const std::uint8_t* codes(std::int64_t tile) const noexcept {
    return memory_.get() + tile * blocks() * tile_block_bytes;
  }
  /// The same, to be written: see uninitialized().
  [[nodiscard]] MXFP4_INLINE std::uint8_t* codes(std::int64_t tile) noexcept {
    return memory_.get() + tile * blocks() * tile_block_bytes;
  }
  /// The scale bytes of a tile: 16 for each block.
  [[nodiscard]] MXFP4_INLINE const std::uint8_t* scales(std::int64_t tile) const noexcept {
    return memory_.get() + code_bytes() + tile * blocks() * tile_rows;
  }
  /// The same, to be written.
  [[nodiscard]] MXFP4_INLINE std::uint8_t* scales(std::int64_t tile) noexcept {
    return memory_.get() + code_bytes() + tile * blocks() * tile_rows;
  }
  /// Of a tile that has columns: without, no ranges are kept.
  [[nodiscard]] MXFP4_INLINE scale_range range(std::int64_t tile) const noexcept {
    const std::uint8_t* const r = memory_.get() + code_bytes() + scale_bytes() + 2 * tile;
    return {r[0], r[1]};
  }
  /// Rows of a tile that exist: 16, less in the last one.
  [[nodiscard]] MXFP4_INLINE int rows_in(std::int64_t tile) const noexcept {
    return static_cast<int>(rows_ - tile * tile_rows < tile_rows ? rows_ - tile * tile_rows : tile_rows);
  }
  /// Finds the range of a tile whose codes and scales have been written.
  MXFP4_INLINE void update_range(std::int64_t tile) noexcept {
    set_range(tile, detail::range_of(codes(tile), scales(tile), blocks(), rows_in(tile)));
  }
  /// The same where it is known.
  MXFP4_INLINE void set_range(std::int64_t tile, scale_range range) noexcept {
    std::uint8_t* const r = memory_.get() + code_bytes() + scale_bytes() + 2 * tile;
    r[0] = range.low;
    r[1] = range.high;
  }

 private:
  MXFP4_INLINE packed_matrix(std::int64_t rows, std::int64_t cols, detail::aligned_buffer memory) noexcept
      : memory_(std::move(memory)), rows_(rows), cols_(cols) {
    if (cols > 0)
      for (std::int64_t t = 0; t < tiles(); ++t) set_range(t, scale_range{});
  }

  /// Does a matrix of this shape fit 63 bits, with all that is kept of it?
  [[nodiscard]] MXFP4_INLINE static status check_size(std::int64_t rows, std::int64_t cols) noexcept {
    if (const status s = detail::check_blocks(rows, cols, "packed_matrix"); !s.ok()) return s;
    const std::int64_t tiles = detail::ceil_div(rows, tile_rows), blocks = cols / block_size;
    constexpr std::int64_t per_block = tile_block_bytes + tile_rows;
    if (blocks > 0 && tiles > (detail::int64_max / 2 - tiles) / per_block / blocks)
      return {errc::size_overflow, "rows * cols", rows, 0, "packed_matrix"};
    return {};
  }

  [[nodiscard]] MXFP4_INLINE std::int64_t code_bytes() const noexcept { return tiles() * blocks() * tile_block_bytes; }
  [[nodiscard]] MXFP4_INLINE std::int64_t scale_bytes() const noexcept { return tiles() * blocks() * tile_rows; }

  detail::aligned_buffer memory_;
  detail::owned_size rows_, cols_;
};

namespace detail {
[[nodiscard]] MXFP4_INLINE byte_range bytes_of(const packed_matrix& w) noexcept {
  return {w.bytes().data(), static_cast<std::int64_t>(w.bytes().size())};
}
[[nodiscard]] MXFP4_INLINE operand operand_of(const packed_matrix& w, const char*) noexcept {
  return {{}, w.rows(), w.cols(), {bytes_of(w), {}}};
}

/// Can rows x cols weights be the rows of `packed` from `first` on? For pack_rows.
[[nodiscard]] MXFP4_INLINE status check_rows(std::int64_t rows, std::int64_t cols, std::int64_t first,
                                             const packed_matrix& packed) noexcept {
  if (cols != packed.cols()) return {errc::shape_mismatch, "cols", cols, packed.cols(), "w"};
  if (first < 0 || first > packed.rows()) return {errc::out_of_range, "first", first, packed.rows()};
  if (first % tile_rows != 0) return {errc::shape_mismatch, "first", first, first - first % tile_rows};
  const std::int64_t left = packed.rows() - first;
  if (rows > left) return {errc::too_large, "rows", rows, left, "w"};
  if (rows % tile_rows != 0 && rows < left) {
    const std::int64_t whole = ceil_div(rows, tile_rows) * tile_rows;
    return {errc::shape_mismatch, "rows", rows, whole < left ? whole : left, "w"};
  }
  return {};
}
}  // namespace detail

inline namespace MXFP4_ISA_NS {

/// The inverse of pack(): every code and every scale byte where `out` keeps it.
/// @param out  the shape of w, any layout; no overlap with w.
/// @return     ok, or what is wrong with the arguments; nothing is written then.
template <block_layout Layout>
status unpack(const packed_matrix& w, const mx_view<Layout>& out, const run_options& options = {}) {
  if (const status s = check(out, "out"); !s.ok()) return s;
  if (out.rows != w.rows()) return {errc::shape_mismatch, "rows", out.rows, w.rows(), "out"};
  if (out.cols != w.cols()) return {errc::shape_mismatch, "cols", out.cols, w.cols(), "out"};
  const detail::byte_range own = detail::bytes_of(w);
  if (detail::overlap(detail::codes_of(out), own) || detail::overlap(detail::scales_of(out), own) ||
      detail::overlap_itself(out))
    return {errc::overlap, "out"};
  if (out.rows == 0 || out.cols == 0) return {};
  const block_tasks tasks(w.rows(), w.blocks());
  options.executor.run(tasks.count(), [&](std::size_t index) noexcept {
    tasks.for_each_row(index, [&](std::int64_t n, std::int64_t first, std::int64_t last) noexcept {
      for (std::int64_t b = first; b < last; ++b) {
        const std::uint8_t* const block = w.codes(n / tile_rows) + b * tile_block_bytes;
        const int row = static_cast<int>(n % tile_rows);
        e2m1 codes[block_size]{};
        for (int k = 0; k < block_code_bytes; ++k) {
          const unsigned byte = block[detail::tile_offset(row, k / 4) + k % 4];
          codes[k] = static_cast<e2m1>(byte & 0x0Fu);
          codes[k + block_code_bytes] = static_cast<e2m1>(byte >> 4);
        }
        pack_block<typename Layout::order>(codes, out.block_codes(n, b));
        *out.block_scale(n, b) = w.scales(n / tile_rows)[b * tile_rows + row];
      }
    });
  });
  detail::fill_padding(out);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4

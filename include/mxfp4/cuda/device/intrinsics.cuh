// mxfp4/cuda/device/intrinsics.cuh -- the functions by which kernels use the GPU.
// SPDX-License-Identifier: Apache-2.0
//
//   nvcc                      any other compiler
//   cuda/device/ptx.cuh       the tests' emulator: each thread is a fibre, barriers wait for all, memory is checked
//
// Both define the same functions in mxfp4::cuda::device, so the same kernel runs on the device and, on the host, under
// AddressSanitizer. What a kernel must do, so that the emulator sees every access:
//   - global and shared memory are touched through load*, store*, copy_async*, ldmatrix* and atomic_* alone;
//   - collectives (barriers, shuffles, ldmatrix, mma) are reached by all 32 lanes of a warp, or all threads of a block;
//   - device functions are not noexcept, since the emulator reports a fault by throwing.
//
// Fragments of mma.m16n8k16 (16-bit elements; g = lane / 4, t = lane % 4; PTX ISA, "Matrix Fragments"):
//   A 16 x 16  register r, half h: row g + 8 * (r & 1), column 2 * t + h + 8 * (r >> 1)
//   B 16 x 8   register r, half h: row 2 * t + h + 8 * r, column g
//   C, D 16 x 8  register c:       row g + 8 * (c >> 1), column 2 * t + (c & 1)
// Fragments of mma.m16n8k32 (8-bit elements), C and D as above:
//   A 16 x 32  register r, byte i: row g + 8 * (r & 1), column 4 * t + i + 16 * (r >> 1)
//   B 32 x 8   register r, byte i: row 4 * t + i + 16 * r, column g
// ldmatrix m8n8.b16: lanes 8i .. 8i + 7 give the addresses of the rows of matrix i (16 bytes each, 16-byte aligned);
//   register i of a lane: the 4 bytes at offset 4 * t of row g of matrix i. With .trans: its elements (2t, g) and
//   (2t + 1, g).
//
// wgmma.m64nNk16 (sm_90a; 16-bit elements, sums in f32): four warps, of which the first has a number divisible by four,
// multiply 64 x 16 by 16 x N. Warp w of the four has rows 16 * (w % 4) and on:
//   A 64 x 16  in registers, each warp's 16 rows as in mma.m16n8k16
//   B 16 x N   in shared memory, where a shared_operand says
//   D 64 x N   register 4 * j + c: of the warp's rows g + 8 * (c >> 1), column 8 * j + 2 * t + (c & 1)
// It runs on while the threads do other things. What they must keep to:
//   - wgmma_fence(registers...) after the last access to A's and D's registers, before the wgmma that takes them; not
//     for the D of a wgmma that is under way, which the next one takes over in order;
//   - wgmma_commit() closes a group; until wgmma_wait<Pending>() says that the group has ended, D is undefined, and
//     neither A's registers, nor D's, nor B may change. The arrays live until then;
//   - wgmma reads shared memory through the "async proxy", threads and their copies write it through another one: a
//     thread that wrote (and has waited for its copies) calls async_proxy_fence(), and a barrier of the block follows,
//     before wgmma reads.
#pragma once

#include <cstdint>

#include "mxfp4/core/bits.hpp"
#include "mxfp4/core/config.hpp"
#include "mxfp4/core/float_types.hpp"

/// A function of a kernel: device code under nvcc, host code under the emulator.
#if defined(__CUDACC__)
#define MXFP4_DEVICE __device__ __forceinline__
#else
#define MXFP4_DEVICE inline
#endif

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

inline constexpr int warp_size = 32;

/// Sixteen bytes that move in one instruction; 16-byte aligned.
struct alignas(16) word4 {
  std::uint32_t x, y, z, w;
};
/// Eight bytes likewise; 8-byte aligned.
struct alignas(8) word2 {
  std::uint32_t x, y;
};

/// How an operand of wgmma lies in shared memory. Its rows are along K, cut into pieces of 16 bytes.
enum class operand_order : std::uint8_t {
  plain = 0,         ///< eight rows of one piece are 128 bytes; `leading` bytes on is the next piece of each row
  swizzled_128 = 1,  ///< rows of 128 bytes, piece p of row r at p ^ (r % 8); eight rows aligned to 1024 bytes
  swizzled_64 = 2,   ///< rows of 64 bytes, piece p at p ^ (r / 2 % 4); eight rows aligned to 512
  swizzled_32 = 3,   ///< rows of 32 bytes, piece p at p ^ (r / 4 % 2); eight rows aligned to 256
};

/// N rows of 16-bit elements in shared memory, of which a wgmma takes 16 columns. The bits are the PTX ISA's matrix
/// descriptor: 0-13 address, 16-29 leading offset, 32-45 stride, in units of 16 bytes; 49-51 base offset, zero where
/// the pattern is aligned; 62-63 order.
struct shared_operand {
  std::uint64_t bits;

  /// @param address  shared_address() of the first row, a multiple of what the order asks
  /// @param stride   bytes from eight rows to the next eight
  /// @param leading  see operand_order::plain; the others do not read it
  [[nodiscard]] MXFP4_HD static constexpr shared_operand at(std::uint32_t address, operand_order order, int stride,
                                                            int leading = 16) {
    const auto field = [](auto bytes) { return std::uint64_t{static_cast<std::uint32_t>(bytes) >> 4 & 0x3FFFu}; };
    return {field(address) | field(leading) << 16 | field(stride) << 32 | static_cast<std::uint64_t>(order) << 62};
  }
  /// The same rows `bytes` on, a multiple of 16: 32 for the next 16 columns of a swizzled operand, within the row.
  [[nodiscard]] MXFP4_HD constexpr shared_operand advanced(int bytes) const {
    return {bits + static_cast<std::uint64_t>(bytes / 16)};
  }
};

}  // namespace mxfp4::cuda::device

#if defined(__CUDACC__)
#include "mxfp4/cuda/device/ptx.cuh"
#include "mxfp4/cuda/device/ptx_wgmma.cuh"
#elif defined(MXFP4_CUDA_EMULATOR)  // the header of an emulator, quotes included: what these headers are tested with
#include MXFP4_CUDA_EMULATOR
#else
#error "mxfp4/cuda/*.cuh need nvcc: compile the including file as CUDA (a .cu file, or LANGUAGE CUDA)"
#endif

// mxfp4/cuda/intrinsics.cuh -- side: the thin layer between a kernel's text and a GPU.
// SPDX-License-Identifier: Apache-2.0
//
//   nvcc                      any other compiler
//   cuda/ptx.cuh              the tests' emulator: each thread a fibre, barriers a rendezvous, memory checked
//
// Both define the same functions in mxfp4::cuda::device, so one kernel text runs on the device and, on the host, under
// AddressSanitizer. What a kernel must hold to, for the emulator to see all that it does:
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
// Reads: floors 0-1.  Read by: cuda/.
#pragma once

#include <cstdint>

#include "mxfp4/bits.hpp"
#include "mxfp4/float_types.hpp"

/// A function of a kernel: device code under nvcc, host code under the emulator.
#if defined(__CUDACC__)
#define MXFP4_DEVICE __device__ __forceinline__
#else
#define MXFP4_DEVICE inline
#endif

namespace mxfp4::cuda::device {

inline constexpr int warp_size = 32;

/// Sixteen bytes that move in one instruction; 16-byte aligned.
struct alignas(16) word4 {
  std::uint32_t x, y, z, w;
};
/// Eight bytes likewise; 8-byte aligned.
struct alignas(8) word2 {
  std::uint32_t x, y;
};

}  // namespace mxfp4::cuda::device

#if defined(__CUDACC__)
#include "mxfp4/cuda/ptx.cuh"
#elif __has_include("cuda/emulator/intrinsics.hpp")
#include "cuda/emulator/intrinsics.hpp"
#else
#error "mxfp4/cuda/*.cuh need nvcc (compile the including file as CUDA), or the emulator of this project's tests"
#endif

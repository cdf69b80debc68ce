// mxfp4/cuda/device/launch.cuh -- how a kernel of this library is started.
// SPDX-License-Identifier: Apache-2.0
//
// A kernel is a struct, so that its body needs no __global__ and the tests' emulator can run it too:
//
//   struct scale_rows {
//     static constexpr int threads = 128;            // of a block, a multiple of 32
//     static constexpr int blocks_per_processor = 4; // that must fit a multiprocessor at once: it limits the registers
//     struct arguments { ... };                      // trivially copyable
//     static MXFP4_DEVICE void run(const arguments& a) { ... }
//   };
//
// A kernel that not every architecture can run has a member `compiled`, for example `static constexpr bool compiled =
// device::target::wgmma;`. Where it is false, the __global__ function is compiled with an empty body and a limit of 32
// threads. has_kernel recognises it by that limit, and launch_if_compiled returns cudaErrorNotSupported.
//
// Nothing here allocates, synchronises or waits, so launches can be captured in a graph.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/device/intrinsics.cuh"

#if defined(__CUDACC__)
#include <cuda_runtime_api.h>
#endif

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

/// Blocks of a launch: x up to 2^31 - 1, y and z up to 65535.
struct grid {
  std::int64_t x = 1, y = 1, z = 1;
};

namespace detail {

inline constexpr std::int64_t max_grid_x = 0x7FFFFFFF, max_grid_yz = 0xFFFF;
/// Dynamic shared memory that a block may have without cudaFuncSetAttribute.
inline constexpr std::size_t plain_shared_bytes = 48 * 1024;

[[nodiscard]] constexpr bool fits(const grid& g) noexcept {
  return g.x > 0 && g.x <= max_grid_x && g.y > 0 && g.y <= max_grid_yz && g.z > 0 && g.z <= max_grid_yz;
}

/// Does the architecture that is being compiled for have this kernel?
template <class Kernel>
[[nodiscard]] MXFP4_HD constexpr bool is_compiled() noexcept {
  if constexpr (requires { Kernel::compiled; }) return Kernel::compiled;
  else return true;
}

#if defined(__CUDACC__)
template <class Kernel>
inline constexpr int entry_threads = is_compiled<Kernel>() ? Kernel::threads : device::warp_size;

template <class Kernel>
__global__ void __launch_bounds__(entry_threads<Kernel>, Kernel::blocks_per_processor)
    entry(const __grid_constant__ typename Kernel::arguments arguments) {
  if constexpr (is_compiled<Kernel>()) Kernel::run(arguments);
}
#endif

}  // namespace detail

/// Starts Kernel::run in `blocks` blocks of Kernel::threads threads with `shared_bytes` of dynamic shared memory.
/// @return cudaErrorInvalidConfiguration where the grid is empty or too large; else what the runtime says of the
///         launch. Faults of the kernel itself come with a later call, as always in CUDA.
template <class Kernel>
[[nodiscard]] cudaError_t launch(const grid& blocks, std::size_t shared_bytes, cudaStream_t stream,
                                 const typename Kernel::arguments& arguments) {
  if (!detail::fits(blocks)) return cudaErrorInvalidConfiguration;
#if defined(__CUDACC__)
  if (shared_bytes > detail::plain_shared_bytes) {
    const cudaError_t error = cudaFuncSetAttribute(detail::entry<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  const dim3 g(static_cast<unsigned>(blocks.x), static_cast<unsigned>(blocks.y), static_cast<unsigned>(blocks.z));
  detail::entry<Kernel><<<g, Kernel::threads, shared_bytes, stream>>>(arguments);
  return cudaGetLastError();
#else
  static_cast<void>(stream);
  if (shared_bytes > emulator::device_settings.max_shared_bytes) return cudaErrorInvalidValue;
  emulator::launch({static_cast<int>(blocks.x), static_cast<int>(blocks.y), static_cast<int>(blocks.z)},
                   Kernel::threads, shared_bytes, [&] { Kernel::run(arguments); });
  return cudaSuccess;
#endif
}

/// Does the code that the current device runs have the kernel? A program for sm_90 has no wgmma, one for sm_90a has.
/// Asks the runtime for the attributes of the __global__ function, which neither waits nor allocates.
template <class Kernel>
[[nodiscard]] cudaError_t has_kernel(bool& has) {
#if defined(__CUDACC__)
  cudaFuncAttributes entry{};
  const cudaError_t error = cudaFuncGetAttributes(&entry, detail::entry<Kernel>);
  has = error == cudaSuccess && entry.maxThreadsPerBlock >= Kernel::threads;
  return error;
#else
  has = detail::is_compiled<Kernel>() || emulator::device_settings.wgmma;
  return cudaSuccess;
#endif
}

/// launch, and cudaErrorNotSupported where the code that the current device runs lacks the kernel.
template <class Kernel>
[[nodiscard]] cudaError_t launch_if_compiled(const grid& blocks, std::size_t shared_bytes, cudaStream_t stream,
                                             const typename Kernel::arguments& arguments) {
  bool has = false;
  if (const cudaError_t error = has_kernel<Kernel>(has); error != cudaSuccess) return error;
  return has ? launch<Kernel>(blocks, shared_bytes, stream, arguments) : cudaErrorNotSupported;
}

/// Multiprocessors of the current device.
[[nodiscard]] inline cudaError_t multiprocessors(int& count) {
#if defined(__CUDACC__)
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
#else
  count = emulator::device_settings.multiprocessors;
  return cudaSuccess;
#endif
}

}  // namespace mxfp4::cuda

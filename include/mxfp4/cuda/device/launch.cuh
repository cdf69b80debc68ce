// mxfp4/cuda/device/launch.cuh -- how a kernel of this library is started.
// SPDX-License-Identifier: Apache-2.0
//
// A kernel is a struct, so that its body needs no __global__ and the tests' emulator can run it too:
//
//   struct scale_rows {
//     static constexpr int threads = 128;            // of a block, a multiple of 32
//     static constexpr int blocks_per_processor = 4; // that must fit a multiprocessor at once: it limits the registers
//     static constexpr int shared_bytes = 4096;      // of dynamic shared memory, at the most; no member: none
//     struct arguments { ... };                      // trivially copyable
//     static MXFP4_DEVICE void run(const arguments& a) { ... }
//   };
//
// A kernel that not every architecture can run has a member `compiled`, for example `static constexpr bool compiled =
// device::target::wgmma;`. Where it is false, the __global__ function is compiled with an empty body and a limit of 32
// threads. has_kernel recognises it by that limit, and launch returns cudaErrorNotSupported.
//
// Nothing here allocates, synchronises or waits but for the first use of a kernel on a device, when the driver loads
// its code: see preload. Any number of threads may launch at once.
#pragma once

#include <atomic>
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
inline constexpr int plain_shared_bytes = 48 * 1024;

[[nodiscard]] constexpr bool fits(const grid& g) noexcept {
  return g.x > 0 && g.x <= max_grid_x && g.y > 0 && g.y <= max_grid_yz && g.z > 0 && g.z <= max_grid_yz;
}

/// Does the architecture that is being compiled for have this kernel?
template <class Kernel>
[[nodiscard]] MXFP4_HD constexpr bool is_compiled() noexcept {
  if constexpr (requires { Kernel::compiled; }) return Kernel::compiled;
  else return true;
}

/// The most dynamic shared memory with which the kernel is launched, whatever the arguments.
template <class Kernel>
[[nodiscard]] constexpr int most_shared_bytes() noexcept {
  if constexpr (requires { Kernel::shared_bytes; }) return Kernel::shared_bytes;
  else return 0;
}

#if defined(__CUDACC__)
template <class Kernel>
inline constexpr int entry_threads = is_compiled<Kernel>() ? Kernel::threads : device::warp_size;

template <class Kernel>
__global__ void __launch_bounds__(entry_threads<Kernel>, Kernel::blocks_per_processor)
    entry(const __grid_constant__ typename Kernel::arguments arguments) {
  if constexpr (is_compiled<Kernel>()) Kernel::run(arguments);
}
/// By which the runtime knows the kernel.
template <class Kernel>
[[nodiscard]] const void* function_of() noexcept {
  return reinterpret_cast<const void*>(&entry<Kernel>);
}
#else
template <class Kernel>
[[nodiscard]] const void* function_of() noexcept {
  static emulator::function f{Kernel::threads, is_compiled<Kernel>(), sizeof(typename Kernel::arguments),
                              [](const void* a) { Kernel::run(*static_cast<const typename Kernel::arguments*>(a)); }};
  return &f;
}
#endif

/// What is known of a kernel on each device. Remembered as the function that it was found out for: one kernel is
/// another function in each translation unit where nvcc gives those of templates internal linkage, as nvcc 13 does.
struct kernel_state {
  static constexpr int devices = 64;          ///< those with higher numbers are asked each time
  std::atomic<const void*> ready[devices]{};  ///< there, and allowed the shared memory that it takes
  std::atomic<const void*> not_compiled[devices]{};
};
template <class Kernel>
inline constinit kernel_state state_of{};

/// Asks the runtime whether the current device's code has the kernel and allows it most_shared_bytes. That is the same
/// number for every launch, so that no thread takes from another what it needs.
template <class Kernel>
[[nodiscard]] cudaError_t load_kernel(int device, bool& has) {
  const void* const function = function_of<Kernel>();
  cudaFuncAttributes attributes{};
  if (const cudaError_t error = cudaFuncGetAttributes(&attributes, function); error != cudaSuccess) return error;
  has = attributes.maxThreadsPerBlock >= Kernel::threads;
  constexpr int shared = most_shared_bytes<Kernel>();
  if (has && shared > plain_shared_bytes) {
    const cudaError_t error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess) return error;
  }
  if (device < kernel_state::devices) {
    auto& slot = has ? state_of<Kernel>.ready : state_of<Kernel>.not_compiled;
    slot[device].store(function, std::memory_order_release);
  }
  return cudaSuccess;
}

}  // namespace detail

/// Does the code that the current device runs have the kernel? A program for sm_90 has no wgmma, one for sm_90a has.
/// The runtime is asked once for each device; from then on the kernel may be launched with its shared memory.
template <class Kernel>
[[nodiscard]] cudaError_t has_kernel(bool& has) {
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  if (device < detail::kernel_state::devices) {
    const void* const function = detail::function_of<Kernel>();
    const detail::kernel_state& state = detail::state_of<Kernel>;
    has = state.ready[device].load(std::memory_order_acquire) == function;
    if (has || state.not_compiled[device].load(std::memory_order_acquire) == function) return cudaSuccess;
  }
  return detail::load_kernel<Kernel>(device, has);
}

/// Starts Kernel::run in `blocks` blocks of Kernel::threads threads with `shared_bytes` of dynamic shared memory, at
/// most Kernel::shared_bytes.
/// @return cudaErrorInvalidConfiguration where the grid is empty or too large; cudaErrorNotSupported where the code
///         that the current device runs lacks the kernel; else what the runtime says of this launch. An error that
///         cudaGetLastError still holds from elsewhere is neither returned nor cleared. Faults of the kernel itself
///         come with a later call, as always in CUDA.
template <class Kernel>
[[nodiscard]] cudaError_t launch(const grid& blocks, std::size_t shared_bytes, cudaStream_t stream,
                                 const typename Kernel::arguments& arguments) {
  if (!detail::fits(blocks)) return cudaErrorInvalidConfiguration;
  bool has = false;
  if (const cudaError_t error = has_kernel<Kernel>(has); error != cudaSuccess) return error;
  if (!has) return cudaErrorNotSupported;
  const dim3 g(static_cast<unsigned>(blocks.x), static_cast<unsigned>(blocks.y), static_cast<unsigned>(blocks.z));
  void* parameters[] = {const_cast<typename Kernel::arguments*>(&arguments)};
  return cudaLaunchKernel(detail::function_of<Kernel>(), g, dim3(static_cast<unsigned>(Kernel::threads)), parameters,
                          shared_bytes, stream);
}

/// The kernels from which a function of this library chooses: an argument of preload. Each header names its own, for
/// example gemm_kernels<bf16, float>.
template <class... Kernels>
struct kernel_set {};

namespace detail {

[[nodiscard]] inline cudaError_t load_all(int, kernel_set<>) { return cudaSuccess; }
template <class First, class... Rest>
[[nodiscard]] cudaError_t load_all(int device, kernel_set<First, Rest...>) {
  bool has = false;
  const cudaError_t error = load_kernel<First>(device, has);
  return error != cudaSuccess ? error : load_all(device, kernel_set<Rest...>{});
}

}  // namespace detail

/// Loads all kernels of the sets on the current device, so that no later call has to:
///
///   cudaError_t error = preload<gemm_kernels<bf16, float>, moe_kernels<bf16, float>>();
///
/// By default the driver loads a kernel when it is first used (CUDA_MODULE_LOADING=LAZY), which takes memory and time
/// and may wait for all work of the device: in a capture, beside a kernel that waits for another, or in the first token
/// that is timed, that is too late. Once for each device, before; and again after cudaDeviceReset, which forgets what
/// was set, and in a further context of the same device.
/// @return cudaSuccess, or what the runtime says. Kernels that the device's code lacks are passed over.
template <class... Sets>
[[nodiscard]] cudaError_t preload() {
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  ((error = error != cudaSuccess ? error : detail::load_all(device, Sets{})), ...);
  return error;
}

/// Multiprocessors of the current device.
[[nodiscard]] inline cudaError_t multiprocessors(int& count) {
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
}

}  // namespace mxfp4::cuda

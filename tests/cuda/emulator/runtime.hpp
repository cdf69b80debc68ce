// tests/cuda/emulator/runtime.hpp -- the few calls of the CUDA runtime that the launch functions make.
// SPDX-License-Identifier: Apache-2.0
//
// Numbers of the errors and what the calls do: CUDA Runtime API. Streams run at once, so a stream is never waited for;
// what is launched into one that is being captured runs when the graph is. Any number of host threads may call.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "cuda/emulator/block.hpp"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900
};
using cudaStream_t = struct CUstream_st*;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0, cudaStreamCaptureStatusActive = 1 };
struct cudaFuncAttributes {
  int maxThreadsPerBlock, maxDynamicSharedSizeBytes;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

/// A __global__ function. Its attribute belongs to it and to a device, not to a launch: what one thread sets, another
/// thread's launch meets.
struct function {
  static constexpr int plain_shared_bytes = 48 * 1024;

  int threads;
  bool compiled;  ///< for every device; otherwise for those with wgmma
  std::size_t argument_bytes;
  void (*run)(const void* arguments);
  std::map<int, int> shared_bytes = {};  ///< by device: what cudaFuncSetAttribute allowed

  [[nodiscard]] int max_threads() const { return compiled || device_settings.wgmma ? threads : 32; }
  [[nodiscard]] int allowed() const {
    const auto set = shared_bytes.find(device_settings.device);
    return set == shared_bytes.end() ? plain_shared_bytes : set->second;
  }
};

/// Of the runtime: one kernel runs at a time.
struct runtime_state {
  std::recursive_mutex mutex;
  std::set<cudaStream_t> capturing;
  std::vector<std::function<void()>> captured;
  std::function<void()> before_launch;  ///< a test's: called by cudaLaunchKernel, when the attributes have been set
  int attribute_calls = 0;              ///< of cudaFuncGetAttributes and cudaFuncSetAttribute
};
inline runtime_state runtime;
inline thread_local cudaError_t last_error = cudaSuccess;

inline cudaError_t failed(cudaError_t error) { return last_error = error; }

/// From here on launches into the stream are recorded ...
inline void begin_capture(cudaStream_t stream) { runtime.capturing.insert(stream); }
/// ... until here; the graph is what then runs them, as often as it is called.
inline std::function<void()> end_capture(cudaStream_t stream) {
  runtime.capturing.erase(stream);
  return [nodes = std::exchange(runtime.captured, {})] {
    for (const auto& node : nodes) node();
  };
}

}  // namespace mxfp4::cuda::emulator

/// The thread's latest error; success does not clear it.
inline cudaError_t cudaPeekAtLastError() { return mxfp4::cuda::emulator::last_error; }
inline cudaError_t cudaGetLastError() { return std::exchange(mxfp4::cuda::emulator::last_error, cudaSuccess); }

inline cudaError_t cudaGetDevice(int* device) {
  *device = mxfp4::cuda::emulator::device_settings.device;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = mxfp4::cuda::emulator::device_settings.multiprocessors;
  return cudaSuccess;
}

inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* entry) {
  using namespace mxfp4::cuda::emulator;
  const std::scoped_lock lock(runtime.mutex);
  const auto& f = *static_cast<const function*>(entry);
  ++runtime.attribute_calls;
  *attributes = {f.max_threads(), f.allowed()};
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* entry, cudaFuncAttribute, int value) {
  using namespace mxfp4::cuda::emulator;
  const std::scoped_lock lock(runtime.mutex);
  auto& f = *static_cast<function*>(const_cast<void*>(entry));
  ++runtime.attribute_calls;
  if (value < 0 || static_cast<std::size_t>(value) > device_settings.max_shared_bytes)
    return failed(cudaErrorInvalidValue);
  f.shared_bytes[device_settings.device] = value;
  return cudaSuccess;
}

inline cudaError_t cudaLaunchKernel(const void* entry, dim3 grid, dim3 threads, void** arguments,
                                    std::size_t shared_bytes, cudaStream_t stream) {
  using namespace mxfp4::cuda::emulator;
  if (runtime.before_launch) runtime.before_launch();
  const std::scoped_lock lock(runtime.mutex);
  const auto& f = *static_cast<const function*>(entry);
  if (threads.x > static_cast<unsigned>(f.max_threads())) return failed(cudaErrorInvalidConfiguration);
  if (shared_bytes > static_cast<std::size_t>(f.allowed())) return failed(cudaErrorInvalidValue);
  const auto* const from = static_cast<const std::max_align_t*>(arguments[0]);
  std::vector<std::max_align_t> copy(f.argument_bytes / sizeof(std::max_align_t) + 1);  // the caller's may be gone
  std::memcpy(copy.data(), from, f.argument_bytes);
  auto run = [=, run_one = f.run, copy = std::move(copy)] {
    launch({static_cast<int>(grid.x), static_cast<int>(grid.y), static_cast<int>(grid.z)}, static_cast<int>(threads.x),
           shared_bytes, [&] { run_one(copy.data()); });
  };
  if (runtime.capturing.count(stream) != 0) runtime.captured.push_back(std::move(run));
  else run();
  return cudaSuccess;
}

inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = mxfp4::cuda::emulator::runtime.capturing.count(stream) != 0 ? cudaStreamCaptureStatusActive
                                                                        : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  using namespace mxfp4::cuda::emulator;
  if (kind == cudaMemcpyDeviceToHost && device_memory.first_unwritten(from, bytes) >= 0)
    throw fault("cudaMemcpyAsync reads device memory that was never written");
  if (kind == cudaMemcpyHostToDevice) device_memory.written_by_host(to, bytes);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  mxfp4::cuda::emulator::device_memory.written_by_host(to, bytes);
  std::memset(to, value, bytes);
  return cudaSuccess;
}
/// Ends a capture that is going on in the stream, as the runtime does.
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  using namespace mxfp4::cuda::emulator;
  if (runtime.capturing.count(stream) == 0) return cudaSuccess;
  runtime.captured.clear();
  return failed(cudaErrorStreamCaptureUnsupported);
}

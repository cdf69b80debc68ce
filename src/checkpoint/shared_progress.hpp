// src/checkpoint/shared_progress.hpp -- bytes that several threads read, as one count for the caller's progress.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "io/guarded.hpp"
#include "mxfp4/core/version.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// Calls of `progress` do not meet: where one is under way, another thread's count waits for the next.
class shared_progress {
 public:
  /// @param options  has `progress` and `stop`; it lives as long as this. @param total  bytes that will be read.
  template <class Options>
  shared_progress(const Options& options, std::uint64_t total)
      : progress_(options.progress), stop_(options.stop), total_(total) {}
  void add(std::uint64_t bytes) {
    const std::uint64_t done = done_ += bytes;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock) progress_(done, total_);
  }
  /// @throws a file_error that is interrupted() and names `path` where the caller wants the work to end.
  void require_running(const std::string& path) const {
    if (stop_ && stop_()) throw io::stopped(path);
  }

 private:
  const std::function<void(std::uint64_t, std::uint64_t)>& progress_;
  const io::stop_function& stop_;
  std::uint64_t total_;
  std::atomic<std::uint64_t> done_ = 0;
  std::mutex mutex_;
};

}  // namespace mxfp4::checkpoint

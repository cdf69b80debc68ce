// bench/checkpoint.cpp -- the tool's own pipeline, FP8 file -> MXFP4 file -> BF16 file, beside its parts alone.
// SPDX-License-Identifier: Apache-2.0
//
// Input from the page cache of the folder for temporary files, output to memory (/dev/shm, where it is writable): a new
// file each time, the last one deleted outside the time. Quantising has two limits, of which the lower counts: the
// kernel alone, and a loop that reads the input and writes as many bytes as the output has, on as many threads.
// Dequantising: such a loop that only writes. What the hashes of a directory's result cost (checkpoint_hashed): the
// pipeline that hashes what it appends; its limit is the one that does not. G weights/s; job_seconds is what the
// pipeline's rate means for 215 GB of FP8.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "io/content_hash.hpp"
#include "limits.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/checkpoint/quantize_shard.hpp"
#include "mxfp4/dispatch.hpp"
#include "mxfp4/io/safetensors_writer.hpp"
#include "mxfp4/kernel/quantize_fp8.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::bench;
namespace fs = std::filesystem;

constexpr double job_weights = 215.0;    ///< 10^9: FP8 has a byte each
constexpr std::int64_t chunk = 1 << 18;  ///< weights

/// A folder that goes away with everything in it.
class folder {
 public:
  explicit folder(const fs::path& parent) {
    if (!make(parent) && !make(fs::temp_directory_path())) throw std::runtime_error("no folder for files: set TMPDIR");
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string file(const char* name) const { return (path_ / name).string(); }

 private:
  bool make(const fs::path& parent) {
    std::string name = (parent / "mxfp4_bench_XXXXXX").string();
    if (::access(parent.c_str(), W_OK) != 0 || ::mkdtemp(name.data()) == nullptr) return false;
    path_ = name;
    return true;
  }
  fs::path path_;
};

/// Experts as FP8 with block scales, in a file, and what the pipeline made of it.
class files {
 public:
  static constexpr std::int64_t n = 1536;
  files() : k_(chosen.smoke ? 256 : 3072), matrices_(chosen.smoke ? 1 : 48), weights_(make_numbers<e4m3>(n * k_)) {
    std::vector<io::tensor_info> tensors;
    for (std::int64_t i = 0; i < matrices_; ++i) {
      tensors.push_back({name(i), io::dtype::f8_e4m3, {n, k_}});
      tensors.push_back({name(i) + "_scale_inv", io::dtype::f32, {n / fp8_block, k_ / fp8_block}});
    }
    const std::vector<float> scales(size(n * k_ / fp8_block / fp8_block), 0.011f);
    io::safetensors_writer out = io::safetensors_writer::create(fp8(), tensors, {}).value();
    for (std::int64_t i = 0; i < matrices_; ++i) {
      out.append(name(i), std::as_bytes(weights_.bytes())).value();
      out.append(name(i) + "_scale_inv", std::as_bytes(std::span(scales))).value();
    }
    out.commit().value();
  }
  [[nodiscard]] std::string fp8() const { return source_.file("fp8.safetensors"); }
  [[nodiscard]] std::string mxfp4() const { return memory_.file("mxfp4.safetensors"); }
  [[nodiscard]] std::string other() const { return memory_.file("other"); }
  [[nodiscard]] std::int64_t weights() const { return matrices_ * n * k_; }
  /// Before a new one is written. A file that is not there is none to delete.
  static void remove(const std::string& file) {
    std::error_code ignored;
    fs::remove(file, ignored);
  }

  void quantize(int threads) const {
    checkpoint::quantize_file_options options;
    options.recipe = recipe_id::compressed_tensors;
    options.include = "experts";
    options.threads = threads;
    options.existing = io::existing_file::replace;
    benchmark::DoNotOptimize(checkpoint::quantize_file(fp8(), mxfp4(), options).value());
  }
  /// One thread, as quantize_checkpoint does it.
  void quantize_hashed() const {
    const auto in = checkpoint::checkpoint_reader::open(fp8()).value();
    const auto plan =
        checkpoint::make_plan(in.tensor_infos(), {"experts", {}, checkpoint::fp8_policy::copy}, fp8()).value();
    std::vector<io::tensor_info> tensors;
    std::vector<std::size_t> sources;
    for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
      const auto& outputs = plan.tensors[i].outputs;
      tensors.insert(tensors.end(), outputs.begin(), outputs.end());
      if (!outputs.empty()) sources.push_back(i);
    }
    auto out = io::safetensors_writer::create(mxfp4(), tensors, {}).value();
    std::map<std::string, io::content_hash, std::less<>> hashes;
    for (const io::tensor_info& t : tensors) hashes[t.name];
    checkpoint::shard_options options;
    options.recipe = recipe_id::compressed_tensors;
    options.threads = 1;
    options.on_bytes = [&](std::string_view name, std::span<const std::byte> bytes) {
      hashes.find(name)->second.add(bytes);
    };
    benchmark::DoNotOptimize(checkpoint::quantize_shard(in, plan, sources, out, options).value());
    for (const auto& [name, hash] : hashes) benchmark::DoNotOptimize(hash.text());
    out.commit().value();
  }
  void dequantize() const {
    benchmark::DoNotOptimize(
        checkpoint::dequantize_file(
            mxfp4(), other(), io::dtype::bf16, [](std::uint64_t, std::uint64_t) {}, {}, io::existing_file::replace)
            .value());
  }
  /// The first matrix against the plain loop.
  [[nodiscard]] bool is_right() const {
    const io::safetensors_reader result = io::safetensors_reader::open(mxfp4()).value();
    const auto found = checkpoint::find_mxfp4_tensors(result);
    if (std::ssize(found) != matrices_) return false;
    const checkpoint_bytes expected(n, k_, 1);
    const mx_view<> out = expected.view(0);
    const memory<float> scales(n * k_ / fp8_block / fp8_block);
    std::fill(scales.begin(), scales.end(), 0.011f);
    const std::int64_t across = k_ / fp8_block;
    if (!reference::quantize_fp8<recipe::compressed_tensors>({weights_.data(), n, k_, k_},
                                                             {scales.data(), n / fp8_block, across, across}, out)
             .ok())
      return false;
    std::vector<std::byte> codes(size(n * k_ / 2)), bytes(size(n * k_ / block_size));
    result.read(*found[0].packed, 0, codes).value();
    result.read(*found[0].scale, 0, bytes).value();
    return std::memcmp(codes.data(), out.codes, codes.size()) == 0 &&
           std::memcmp(bytes.data(), out.scales, bytes.size()) == 0;
  }

 private:
  [[nodiscard]] static std::string name(std::int64_t i) {
    return "model.layers.0.block_sparse_moe.experts." + std::to_string(i) + ".w1.weight";
  }
  folder source_{fs::temp_directory_path()}, memory_{"/dev/shm"};
  std::int64_t k_, matrices_;
  memory<e4m3> weights_;
};

class descriptor {
 public:
  descriptor(const std::string& path, int flags) : fd_(::open(path.c_str(), flags, 0600)) {
    if (fd_ < 0) throw std::runtime_error(path + ": cannot be opened");
  }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() { ::close(fd_); }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

/// Each thread its part of the weights, so many at a time that read and written bytes stay in its cache.
template <class Transfer>
void in_chunks(int threads, std::int64_t weights, Transfer transfer) {
  on_threads(threads, [=](int i) {
    static thread_local const memory<std::uint8_t> buffer(2 * chunk);
    const std::int64_t chunks = weights / chunk + 1, end = chunks * (i + 1) / threads;
    for (std::int64_t c = chunks * i / threads; c < end; ++c)
      transfer(buffer.data(), c * chunk, std::min(chunk, weights - c * chunk));
  });
}

[[nodiscard]] work read_and_write(const std::shared_ptr<files>& f, int threads) {
  return {"reading and writing", 1e-9 * static_cast<double>(f->weights()),
          [f, threads] {
            const descriptor in(f->fp8(), O_RDONLY), out(f->other(), O_WRONLY | O_CREAT | O_TRUNC);
            in_chunks(threads, f->weights(), [&](std::uint8_t* buffer, std::int64_t first, std::int64_t count) {
              benchmark::DoNotOptimize(::pread(in.get(), buffer, size(count), first));
              benchmark::DoNotOptimize(::pwrite(out.get(), buffer, size(count / block_size * block_bytes),
                                                first / block_size * block_bytes));
            });
          },
          [f] { files::remove(f->other()); }};
}

[[nodiscard]] work write_bf16(const std::shared_ptr<files>& f) {
  return {"writing the output", 1e-9 * static_cast<double>(f->weights()),
          [f] {
            const descriptor out(f->other(), O_WRONLY | O_CREAT | O_TRUNC);
            in_chunks(1, f->weights(), [&](const std::uint8_t* buffer, std::int64_t first, std::int64_t count) {
              benchmark::DoNotOptimize(::pwrite(out.get(), buffer, size(2 * count), 2 * first));
            });
          },
          [f] { files::remove(f->other()); }};
}

/// 64 Mi weights again and again, which no cache holds.
[[nodiscard]] work kernel_alone(int threads) {
  const std::int64_t rows = chosen.smoke ? 128 : 1 << 14, cols = 4096, across = cols / fp8_block;
  const auto w = std::make_shared<memory<e4m3>>(make_numbers<e4m3>(rows * cols));
  const auto scales = std::make_shared<memory<float>>(rows / fp8_block * across);
  std::fill(scales->begin(), scales->end(), 0.011f);
  const auto blocks = std::make_shared<checkpoint_bytes>(rows, cols, 1);
  return {"the e4m3 kernel", 1e-9 * static_cast<double>(rows * cols), [=] {
            const status s = kernel::quantize_fp8<recipe::compressed_tensors>(
                {w->data(), rows, cols, cols}, {scales->data(), rows / fp8_block, across, across}, blocks->view(0),
                {.executor = executor_for(threads)});
            benchmark::DoNotOptimize(s);
          }};
}

[[nodiscard]] std::shared_ptr<files> made() {
  static const auto all = std::make_shared<files>();
  return all;
}

void add_rows() {
  const auto chosen_isa = dispatch::isa();
  const std::string isa = chosen_isa ? *chosen_isa : "none";  // the tools' kernels are dispatch's
  for (const int threads : {1, 2})
    add({"checkpoint_quantize", "e4m3", "mxfp4", "", 0, 0, 0, "files", isa, threads}, [=] {
      const auto f = made();
      f->quantize(threads);
      subject s{f->is_right(),
                "G weights/s",
                {"checkpoint_quantize", 1e-9 * static_cast<double>(f->weights()),
                 [f, threads] { f->quantize(threads); }, [f] { files::remove(f->mxfp4()); }},
                {kernel_alone(threads), read_and_write(f, threads)}};
      s.limit_is_lowest = true;
      s.job = job_weights;
      return s;
    });
  add({"checkpoint_hashed", "e4m3", "mxfp4", "", 0, 0, 0, "files", isa, 1}, [] {
    const auto f = made();
    f->quantize_hashed();
    const double amount = 1e-9 * static_cast<double>(f->weights());
    const auto prepare = [f] { files::remove(f->mxfp4()); };
    return subject{f->is_right(),
                   "G weights/s",
                   {"checkpoint_hashed", amount, [f] { f->quantize_hashed(); }, prepare},
                   {{"without hashes", amount, [f] { f->quantize(1); }, prepare}}};
  });
  add({"checkpoint_dequantize", "mxfp4", "bf16", "", 0, 0, 0, "files", isa, 1}, [] {
    const auto f = made();
    f->quantize(1);
    subject s{f->is_right(),
              "G weights/s",
              {"checkpoint_dequantize", 1e-9 * static_cast<double>(f->weights()), [f] { f->dequantize(); },
               [f] { files::remove(f->other()); }},
              {write_bf16(f)}};
    s.job = job_weights;
    return s;
  });
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, add_rows); }

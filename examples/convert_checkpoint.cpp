// examples/convert_checkpoint.cpp -- a checkpoint of BF16, F16, F32 or FP8 weights to MXFP4, its progress, and Ctrl-C.
// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <cstdio>
#include <mxfp4/checkpoint/quantize.hpp>
using namespace mxfp4;

volatile std::sig_atomic_t interrupt = 0;

struct percent final : checkpoint::checkpoint_observer {
  void on_progress(std::uint64_t done, std::uint64_t total, const error_statistics& so_far) override {
    const double share = 100.0 * static_cast<double>(done) / static_cast<double>(total);
    std::fprintf(stderr, "\r%5.1f %%, relative error %.4f", share, so_far.relative_error());
  }
};

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: %s CHECKPOINT OUTPUT, both directories\n", argv[0]), 2;
  std::signal(SIGINT, [](int) { interrupt = 1; });
  checkpoint::checkpoint_settings settings;  // experts, with the bytes of compressed-tensors; other FP8 becomes BF16
  checkpoint::checkpoint_run run;            // as many threads as there are
  run.stop = [] { return interrupt != 0; };  // what is whole by then stays, and the same call goes on from there
  percent observer;
  const auto done = checkpoint::quantize_checkpoint(argv[1], argv[2], settings, run, observer);
  // An error has the file, the tensor, the value and what was expected; what() makes the sentence of them.
  if (!done) return std::fprintf(stderr, "\n%s\n", done.error().what()), 1;
  std::printf("\n%zu matrices quantised, %.2f MB -> %.2f MB\n", done->quantized,
              static_cast<double>(done->bytes_before) / 1e6, static_cast<double>(done->bytes_after) / 1e6);
}

// tests/calibrate.memory.test.cpp -- a calibration keeps to --memory and 64 MiB, whatever its Hessians take together.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <string>

#include "program.support.hpp"

namespace {

using namespace mxfp4::test;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

void require_own_memory() {
#if defined(__SANITIZE_ADDRESS__)
  SKIP("the sanitizer's own memory is beyond the limit");
#endif
  if (read_text(MXFP4_PROGRAM).starts_with("#!")) SKIP("the emulator's own memory is beyond the limit");
}

/// Heap, stacks and private maps of the program end at --memory and 64 MiB: what asks for more does not get it.
void calibrates(const std::string& model, const std::string& option, const std::string& text, std::uint64_t memory) {
  const scratch_folder folder;
  const outcome o = mxfp4_run({"quantize", model, folder / "out", option, text, "--tokens", "1024", "--context", "256",
                               "--threads", "2", "--memory", std::to_string(memory)},
                              {.data_bytes = memory + 64 * mib});
  INFO(o.err);
  CHECK(o.code == 0);
}

}  // namespace

TEST_CASE("calibrate: Hessians of four times --memory", "[calibrate][memory]") {
  require_own_memory();
  const scratch_folder folder;
  constexpr std::uint64_t hidden = 512, experts = 128, memory = 32 * mib;
  static_assert(experts * hidden * hidden * sizeof(float) == 4 * memory);
  const outcome made = run({MXFP4_GENERATE, "--checkpoint", folder / "model", "--layers", "1", "--hidden",
                            std::to_string(hidden), "--intermediate", "32", "--experts", std::to_string(experts),
                            "--heads", "2", "--key-value-heads", "1", "--head-dim", "64", "--vocabulary", "256"});
  INFO(made.err);
  REQUIRE(made.code == 0);
  std::string ids;
  for (std::uint32_t i = 0, state = 1; i < 1024; ++i)
    ids += std::to_string((state = state * 1664525u + 1013904223u) >> 24) + " ";
  calibrates(folder / "model", "--calibrate-ids", write_text(folder / "ids", ids), memory);
}

TEST_CASE("calibrate: the model in miniature, in little memory", "[calibrate][memory]") {
  require_own_memory();
  const std::string model = MXFP4_TINY_MODEL;
  calibrates(model, "--calibrate", model + "/../calibration.txt", 16 * mib);
}

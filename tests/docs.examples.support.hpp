// tests/docs.examples.support.hpp -- what the examples of the manual begin with: docs/how-to.md says it to the reader.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "mxfp4/quantize.hpp"
#include "support/threads.hpp"

/// A matrix as a checkpoint has it, tokens, a pool, and paths of this test's own; each example of a page gets fresh
/// ones.
struct given {
  std::int64_t rows = 64, cols = 96, m = 3;
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(64 * 96 / 2, 0x2B);
  std::vector<std::uint8_t> scales = std::vector<std::uint8_t>(64 * 96 / 32, 121);
  std::vector<float> tokens = std::vector<float>(3 * 96, 0.5f);
  mxfp4::test::threads pool{2};
  std::string model = MXFP4_MODEL, shard = std::string(MXFP4_MODEL) + "/model-00000-of-00005.safetensors";
  std::string out = (std::filesystem::temp_directory_path() / ("mxfp4.docs." + std::to_string(::getpid()))).string();

  ~given() {
    std::filesystem::remove_all(out);
    std::filesystem::remove(out + ".gguf");
  }
};

/// The names of a `given` as local ones, whether the example uses them or not.
#define MXFP4_GIVEN(all) [[maybe_unused]] auto& [rows, cols, m, codes, scales, tokens, pool, model, shard, out] = all

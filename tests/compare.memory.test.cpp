// tests/compare.memory.test.cpp -- a comparison takes 64 MiB above its activations, one expert and a piece of the head.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "program.support.hpp"

namespace {

using namespace mxfp4::test;

constexpr std::uint64_t mib = std::uint64_t{1} << 20, piece_of_head = 8 * mib;
constexpr std::uint64_t tokens = 96, context = 32;

struct sizes {
  std::uint64_t hidden, intermediate, heads, vocabulary;
};
constexpr std::uint64_t head_dim = 128;

/// Of the four models: hidden states of all tokens, twice; of one: a window's q, k, v, their cache, what heads mix.
constexpr std::uint64_t activations(const sizes& s) {
  const std::uint64_t query = s.heads * head_dim;
  return sizeof(float) * (4 * 2 * tokens * s.hidden + context * (2 * s.hidden + 2 * query + 4 * head_dim));
}
constexpr std::uint64_t expert(const sizes& s) { return 3 * s.hidden * s.intermediate * 2; }  // FP8 is widened to BF16

/// Heap, stacks and private maps of the program end there: what asks for more does not get it.
void compares(const sizes& s) {
  require_own_memory();
  const scratch_folder folder;
  const std::string model = folder / "model", out = folder / "details";
  const outcome made = run({MXFP4_GENERATE,
                            "--checkpoint",
                            model,
                            "--shards",
                            "1",
                            "--layers",
                            "1",
                            "--experts",
                            "2",
                            "--key-value-heads",
                            "1",
                            "--head-dim",
                            std::to_string(head_dim),
                            "--hidden",
                            std::to_string(s.hidden),
                            "--intermediate",
                            std::to_string(s.intermediate),
                            "--heads",
                            std::to_string(s.heads),
                            "--vocabulary",
                            std::to_string(s.vocabulary)});
  INFO(made.err);
  REQUIRE(made.code == 0);
  std::string ids;
  for (std::uint64_t i = 0; i < tokens; ++i) ids += std::to_string(i * 7 % s.vocabulary) + " ";
  const std::vector<std::string> arguments = {"compare",
                                              model,
                                              model,
                                              "--recipes",
                                              "ocp,min_mse",
                                              "--ids",
                                              write_text(folder / "ids", ids),
                                              "--context",
                                              std::to_string(context),
                                              "--threads",
                                              "2"};
  const outcome o = mxfp4_run(arguments, {.data_bytes = activations(s) + expert(s) + piece_of_head + 64 * mib});
  INFO(o.err);
  CHECK(o.code == 0);
}

}  // namespace

TEST_CASE("compare: heads of twice 64 MiB", "[compare][memory]") {
  constexpr sizes s = {128, 32, 2, 1 << 18};
  static_assert(2 * s.hidden * s.vocabulary * 2 == 128 * mib);
  compares(s);
}

TEST_CASE("compare: experts of 96 MiB", "[compare][memory]") {
  constexpr sizes s = {512, 32768, 2, 256};
  static_assert(expert(s) == 96 * mib);
  compares(s);
}

TEST_CASE("compare: an attention of 128 MiB", "[compare][memory]") {
  constexpr sizes s = {512, 32, 512, 256};
  static_assert(2 * s.hidden * s.heads * head_dim * 2 == 128 * mib);
  compares(s);
}

// tests/calibrate.memory.test.cpp -- a calibration keeps to --memory and 64 MiB, whatever its Hessians take together.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "family.support.hpp"
#include "program.support.hpp"

namespace {

using namespace mxfp4::test;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// Heap, stacks and private maps of the program end at --memory and 64 MiB: what asks for more does not get it.
void calibrates(const std::string& model, const std::string& option, const std::string& text, std::uint64_t memory,
                const std::string& context = "256", const std::vector<std::string>& further = {}) {
  const scratch_folder folder;
  std::vector<std::string> arguments = {"quantize", model,      folder / "out",        option,  text,
                                        "--tokens", "1024",     "--context",           context, "--threads",
                                        "2",        "--memory", std::to_string(memory)};
  arguments.insert(arguments.end(), further.begin(), further.end());
  const outcome o = mxfp4_run(arguments, {.data_bytes = memory + 64 * mib});
  INFO(o.err);
  CHECK(o.code == 0);
}

/// 1024 of them, of 32 - `shift` bits.
std::string some_ids(int shift) {
  std::string ids;
  for (std::uint32_t i = 0, state = 1; i < 1024; ++i)
    ids += std::to_string((state = state * 1664525u + 1013904223u) >> shift) + " ";
  return ids;
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
  calibrates(folder / "model", "--calibrate-ids", write_text(folder / "ids", some_ids(24)), memory);
}

TEST_CASE("calibrate: the model in miniature, in little memory", "[calibrate][memory]") {
  require_own_memory();
  const std::string model = MXFP4_TINY_MODEL;
  calibrates(model, "--calibrate", model + "/../calibration.txt", 16 * mib);
}

TEST_CASE("calibrate: one layer without experts, whose attention or block has long rows", "[calibrate][memory]") {
  require_own_memory();
  constexpr std::int64_t longest = 1280;  // H and what goes with it take 62 MiB
  for (const bool block : {false, true}) {
    CAPTURE(block);
    recorded_family family("llama");
    nlohmann::json rules;
    for (const auto& [name, rule] : family.rules.items())
      if (name.find("layers.1.") == std::string::npos && name.find("layers.2.") == std::string::npos)
        rules[name] = rule;
    family.rules = rules;
    family.config["num_hidden_layers"] = 1;
    const auto set = [&family](const std::string& part, std::size_t axis, std::int64_t size) {
      family.rules["model.layers.0." + part]["shape"][axis] = size;
    };
    if (block) {
      family.config["intermediate_size"] = longest;
      set("mlp.down_proj.weight", 1, longest);
      for (const std::string part : {"mlp.gate_proj.", "mlp.up_proj."})
        for (const char* kind : {"weight", "bias"}) set(part + kind, 0, longest);
    } else {
      family.config["num_attention_heads"] = longest / 16;
      set("self_attn.o_proj.weight", 1, longest);
      for (const char* kind : {"weight", "bias"}) set(std::string("self_attn.q_proj.") + kind, 0, longest);
    }
    const scratch_folder folder;
    const std::string model = family.write(folder / "model"), ids = write_text(folder / "ids", some_ids(26));
    const outcome refused = mxfp4_run({"quantize", model, folder / "out", "--linears", "--calibrate-ids", ids,
                                       "--context", "64", "--threads", "2", "--memory", "1kB"});
    CAPTURE(refused.err);
    const std::size_t at = refused.err.find("needs ");
    REQUIRE(at != std::string::npos);
    const std::uint64_t least = std::stoull(refused.err.substr(at + 6));
    CHECK(least > 40 * longest * longest);
    CHECK(least < 60 * longest * longest);
    calibrates(model, "--calibrate-ids", ids, least, "64", {"--linears"});
  }
}

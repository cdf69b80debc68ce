// tests/model.golden.test.cpp -- the forward pass against logits of transformers, for a trained model.
// SPDX-License-Identifier: Apache-2.0
//
// tests/vectors/minimax/golden.json: prompts and the files of their logits, float32 [tokens][vocabulary], which
// transformers (minimax_m2, float32 on the CPU, FP8 weights widened to bf16) computed for examples/minimax/model.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/reader_json.hpp"
#include "model/generate.hpp"
#include "support/vectors.hpp"

TEST_CASE("model: logits of a trained model are those of transformers", "[model][golden]") {
  using namespace mxfp4::checkpoint;
  using namespace mxfp4::io;
  using namespace mxfp4::model;
  const std::string golden = std::string(MXFP4_TEST_VECTORS) + "/minimax/golden.json";
  const auto json = nlohmann::json::parse(std::ifstream(golden));
  const checkpoint_reader checkpoint = checkpoint_reader::open(MXFP4_TINY_MODEL).value();
  const model_config config = read_model_config(read_config(checkpoint), "config.json");
  REQUIRE(json["prompts"].size() >= 3);
  for (const auto& prompt : json["prompts"]) {
    // Where two experts are this close, rounding may choose the other one, and then no bound holds.
    REQUIRE(prompt["router_margin"].get<double>() > 1e-3);
    const auto ids = prompt["ids"].get<std::vector<std::int64_t>>();
    const std::vector<float> expected = mxfp4::test::load<float>("minimax/" + prompt["logits"].get<std::string>());
    generator model(checkpoint, config, {}, UINT64_MAX);
    const token_rows logits = model.take(ids, false);
    REQUIRE(expected.size() == logits.data.size());
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::fmax(largest, std::fabs(static_cast<double>(expected[i])));
      difference =
          std::fmax(difference, std::fabs(static_cast<double>(expected[i]) - static_cast<double>(logits.data[i])));
    }
    CAPTURE(ids.size(), difference, largest);
    CHECK(difference <= 1e-4 * largest);
  }
}

// tests/cli.plan.test.cpp -- mxfp4 plan: what it prints, of the published model and of a directory.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint.support.hpp"

namespace {

using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using mxfp4::io::dtype;
using nlohmann::json;
using strings = std::vector<std::string>;

const std::string published = MXFP4_TEST_VECTORS "/minimax_m2/config.json";

outcome plan(strings rest) {
  rest.insert(rest.begin(), "plan");
  return mxfp4_run(rest);
}

json report(strings rest) {
  rest.insert(rest.begin(), "plan");
  return mxfp4_json(rest);
}

}  // namespace

TEST_CASE("cli: plan, MiniMax-M2.7 by its config.json", "[cli][plan]") {
  CHECK(plan({published}).out ==
        "what              tensors     before      after\n"
        "F8_E4M3 to MXFP4    47616  224.74 GB  119.36 GB\n"
        "F8_E4M3 to BF16       248    2.73 GB    5.46 GB\n"
        "BF16 as it is         251    2.46 GB    2.46 GB\n"
        "F32 as it is          124  195.10 MB  195.10 MB\n"
        "\n"
        "quantised: 15872 experts, 47616 matrices, 224680476672 weights\n"
        "230.12 GB (214.3 GiB) -> 127.48 GB (118.7 GiB): 1.805 x\n"
        "2 x 120.00 GB: 112.5 GB left for the KV cache and activations\n"
        "config.json declares nothing of activations: vLLM 0.33 (read, not run) makes MXFP4 of them where the GPU has "
        "such a kernel, else they stay in 16 bits. --activations chooses\n"
        "a token's KV cache in BF16 is 253.95 kB: at most 443085 tokens\n"
        "quantize --calibrate with 65536 tokens: 4.01 GB of memory, 676.33 MB for each further core; 122.58 GB on the "
        "disk while it runs; some 398 hours of one core\n");
  const outcome kept = plan({published, "--others", "fp8", "--devices", "1", "--memory", "80"});
  CHECK_THAT(kept.out, ContainsSubstring("F8_E4M3 as it is      248    2.73 GB    2.73 GB\n"));
  CHECK_THAT(kept.out, ContainsSubstring("-> 124.75 GB (116.2 GiB): 1.845 x\n"));
  CHECK_THAT(kept.out, ContainsSubstring("\n1 x 80.00 GB: 44.7 GB too little for the weights\n"));

  const json r = report({published});
  CHECK(r["tensors"] == 96103);
  CHECK(r["experts"] == 15872);
  CHECK(r["matrices"] == 47616);
  CHECK(r["weights"] == 224'680'476'672);
  CHECK(r["bytes_before"] == 230'121'630'720);
  CHECK(r["bytes_after"] == 127'477'628'928);
  CHECK(std::abs(r["ratio"].get<double>() - 1.8052) < 5e-5);
  CHECK(r["memory"]["left"] == 112'522'371'072);
  CHECK(r["memory"]["cache_bytes_per_token"] == 62 * 2 * 8 * 128 * 2);
  CHECK(r["quantization_config"]["ignore"].size() == 7);
  CHECK(r["actions"].size() == 4);
  CHECK_FALSE(r.contains("list"));

  // Codes and scales of all experts, and of two layers the hidden states of two models.
  CHECK(r["calibration"]["disk"] == 224'680'476'672 / 32 * 17 + 2 * 2 * std::int64_t{65536} * 3072 * 4);
  // States; those normed, 9 slots of 16 bytes a token, logits; H of all tokens; and one expert.
  CHECK(r["calibration"]["memory"] ==
        std::int64_t{1'610'612'736} + (1'610'612'736 + 9'437'184 + 67'108'864) + 37'748'736 + 676'331'520);
  // Weights and codes, inputs and activations of 2048 tokens; 40 bytes for a pair of columns, 24 for a weight.
  CHECK(r["calibration"]["memory_an_expert"] == 84'934'656 + 100'663'296 + 377'487'360 + 113'246'208);
  CHECK_FALSE(report({published, "--exclude", "w1"}).contains("calibration"));
}

TEST_CASE("cli: plan, what servers multiply the weights with", "[cli][plan]") {
  struct row {
    const char* activations;
    const char* text;
  };
  for (const auto& [activations, text] :
       {row{"none", "config.json declares nothing of activations: vLLM 0.33 (read, not run) makes MXFP4 of them"},
        row{"fp8",
            "config.json declares FP8 activations, a scale for each group of 128: vLLM 0.33 (read, not run) takes"},
        row{"mxfp4", "config.json declares MXFP4 activations: vLLM 0.33 (read, not run) makes them while it runs"}}) {
    CAPTURE(activations);
    CHECK_THAT(plan({published, "--activations", activations}).out, ContainsSubstring(text));
    const json r = report({published, "--activations", activations});
    CHECK_THAT(r["activations"].get<std::string>(), ContainsSubstring(text));
    const json input = r["quantization_config"]["config_groups"]["group_0"]["input_activations"];
    CHECK((std::string(activations) == "none" ? input == nullptr
                                              : input["num_bits"] == (std::string(activations) == "fp8" ? 8 : 4)));
  }
  const scratch_folder folder;
  const auto checkpoint = [&folder](const char* name, const char* model_type, const std::vector<tensor>& tensors) {
    return write_checkpoint(folder / name, {{"model.safetensors", tensors}},
                            std::string(R"({"hidden_size":64,"model_type":")") + model_type + "\"}");
  };
  const auto zeros = [](const char* name, std::vector<std::int64_t> shape) {
    std::size_t bytes = 2;
    for (const std::int64_t n : shape) bytes *= static_cast<std::size_t>(n);
    return tensor{{name, dtype::bf16, std::move(shape)}, std::string(bytes, '\0')};
  };
  const std::string narrow = checkpoint("narrow", "qwen3_moe", {zeros("l.experts.0.w1.weight", {32, 64})});
  const outcome o = plan({narrow, "--activations", "fp8"});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("is multiplied with 64 activations, expected a multiple of 128"));
  CHECK_FALSE(report({checkpoint("dense", "llama", {zeros("q.weight", {32, 64})})}).contains("activations"));
  const std::string stacks = checkpoint(
      "gpt_oss", "gpt_oss", {zeros("l.experts.gate_up_proj", {2, 64, 128}), zeros("l.experts.down_proj", {2, 64, 64})});
  CHECK_THAT(
      plan({stacks}).out,
      ContainsSubstring("config.json has no place for activations in the form of gpt-oss: vLLM 0.32 (read, not run) "
                        "leaves them in 16 bits or makes MXFP8 of them, by the kernel that it takes for the GPU.\n"));
  CHECK_THAT(plan({stacks, "--activations", "fp8"}).err,
             ContainsSubstring("the form of gpt-oss declares no activations"));
}

TEST_CASE("cli: plan, a directory says the same as its config.json", "[cli][plan]") {
  const scratch_folder folder;
  const std::string dir = folder / "m";
  REQUIRE(run({MXFP4_GENERATE, "--checkpoint", dir}).code == 0);
  json by_config = report({dir + "/config.json"}), by_headers = report({dir});
  CHECK(by_config["tensors"] == 55);
  by_config.erase("input");
  by_headers.erase("input");
  CHECK(by_headers["stray_files"] == json{"leftover.safetensors"});
  by_config.erase("stray_files");
  by_headers.erase("stray_files");
  std::sort(by_config["quantization_config"]["ignore"].begin(), by_config["quantization_config"]["ignore"].end());
  std::sort(by_headers["quantization_config"]["ignore"].begin(), by_headers["quantization_config"]["ignore"].end());
  CHECK(by_config == by_headers);

  const json listed = report({dir, "--list", "--exclude", "layers[.]0"});
  CHECK(listed["experts"] == 2);
  REQUIRE(listed["list"].size() == 55);
  int quantized = 0;
  for (const json& t : listed["list"]) {
    const std::string name = t["name"];
    if (t["action"] == "quantize") {
      ++quantized;
      CHECK_THAT(name, ContainsSubstring("layers.1.block_sparse_moe.experts."));
      CHECK(t["reason"] == "");
      REQUIRE(t["outputs"].size() == 2);
      CHECK(t["outputs"][0]["name"] == name + "_packed");
      CHECK(t["outputs"][1]["name"] == name + "_scale");
    }
    if (name.find("layers.0.block_sparse_moe.experts.") != std::string::npos && t["dtype"] == "F8_E4M3") {
      CHECK(t["action"] == "widen_fp8");
      CHECK(t["reason"] == "name is excluded");
    }
  }
  CHECK(quantized == 6);
  CHECK_THAT(plan({dir, "--list"}).out, ContainsSubstring("why not MXFP4\n"));

  // A single shard is a plan for that file; weights and block scales of other files are missing then.
  const outcome shard = plan({dir + "/model-00000-of-00004.safetensors"});
  CHECK(shard.code == 1);
  CHECK_THAT(shard.err, ContainsSubstring("F8_E4M3 without"));
  CHECK_THAT(plan({dir, "--include", "nothing"}).out, ContainsSubstring("nothing would be quantised"));
}

TEST_CASE("cli: plan, what it cannot use", "[cli][plan][bad_input]") {
  const scratch_folder folder;
  struct row {
    strings line;
    int code;
    const char* message;
  };
  const std::string llama = write_text(folder / "llama.json", R"({"model_type": "llama"})");
  const std::string twice = write_text(folder / "twice.json", R"({"model_type": "minimax_m2", "model_type": "a"})");
  const std::string text = write_text(folder / "text.json", "not JSON");
  const row rows[] = {
      {{folder / "none.json"}, 1, "none.json: cannot open for reading"},
      {{llama}, 1, "llama.json: model_type is \"llama\", expected \"minimax_m2\""},
      {{twice}, 1, "twice.json: the key 'model_type' is there twice"},
      {{text}, 1, "text.json: is not JSON"},
      {{folder / ""}, 1, "safetensors"},
      {{published, "--include", "("}, 2, "'(' is not a regular expression"},
      {{published, "--others", "int8"}, 2, "is 'int8', expected one of bf16, fp8"},
      {{published, "--devices", "0"}, 2, "--devices"},
      {{published, "--memory", "0"}, 2, "--memory"},
      {{}, 2, "IN is required"},
  };
  for (const auto& [line, code, message] : rows) {
    CAPTURE(line);
    const outcome o = plan(line);
    CHECK(o.code == code);
    CHECK(o.out == "");
    CHECK_THAT(o.err, ContainsSubstring(message));
  }
}

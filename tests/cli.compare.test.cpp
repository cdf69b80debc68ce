// tests/cli.compare.test.cpp -- mxfp4 compare and mxfp4 run: what they find, what they refuse, in how much memory.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "model.support.hpp"
#include "program.support.hpp"

namespace {

using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinRel;
using nlohmann::json;
using strings = std::vector<std::string>;

std::string text_file(const scratch_folder& folder) {
  return write_text(folder / "text", "In the beginning was the word, and it had four bits.");
}

std::string model_in(const scratch_folder& folder, weight_kind kind = weight_kind::fp8) {
  return tiny_model(kind).write(folder / "model");
}

}  // namespace

TEST_CASE("compare: a recipe on the fly is the checkpoint that quantize writes", "[cli][compare]") {
  const scratch_folder folder;
  const std::string model = model_in(folder), text = text_file(folder), out = folder / "mxfp4", all = folder / "all";
  REQUIRE(mxfp4_run({"quantize", model, out, "--recipe", "min_mse"}).code == 0);
  const strings arguments = {"compare",   model, out,         "--recipes", "min_mse,ocp", "--text", text,
                             "--context", "16",  "--details", all,         "--threads",   "2"};
  const json summary = mxfp4_json(arguments), details = json::parse(read_text(all));
  REQUIRE(summary["targets"].size() == 3);
  json a = details["targets"][0], b = details["targets"][1];
  CHECK((a["recipe"].is_null() && b["recipe"] == "min_mse" && b["name"] == "min_mse" && a["name"] == out));
  CHECK(a["bytes"] > b["bytes"]);  // the rest of it became BF16
  for (const char* key : {"recipe", "name", "bytes"}) a.erase(key), b.erase(key);
  CHECK(a == b);
  CHECK(details["targets"][2]["per_token"] != a["per_token"]);
  CHECK(a["kld"]["mean"] > 0);
  CHECK(a["degradation"] != 0);

  CHECK((summary["tokens"] == 52 && summary["context"] == 16));
  CHECK(summary["targets"][0]["predictions"] == 15 + 15 + 15 + 3);
  for (const char* key : {"kld", "original_entropy", "original_nll", "nll"}) CHECK(a["per_token"][key].size() == 48);
  CHECK(a["layers"].size() == tiny_model::layers);
  CHECK(!summary["targets"][0].contains("experts"));

  // The errors that quantize recorded itself: its kernel adds up in float.
  const json report = json::parse(read_text(out + "/mxfp4_report.json"));
  REQUIRE(report["experts"].size() == a["experts"].size());
  for (const json& e : a["experts"])
    for (const json& r : report["experts"])
      if (r["layer"] == e["layer"] && r["expert"] == e["expert"])
        CHECK_THAT(e["relative_error"].get<double>(), WithinRel(r["relative_error"].get<double>(), 1e-7));

  strings one_thread = arguments;
  one_thread.back() = "1";
  one_thread.emplace_back("--overwrite");
  REQUIRE(mxfp4_run(one_thread).code == 0);
  CHECK(json::parse(read_text(all)) == details);
}

TEST_CASE("compare: a model and itself, as a table", "[cli][compare]") {
  const scratch_folder folder;
  const std::string model = model_in(folder), text = text_file(folder);
  const outcome o = mxfp4_run({"compare", model, model, "--text", text, "--tokens", "20"});
  CHECK(o.code == 0);
  CHECK(o.err == "");
  CHECK(o.out.starts_with("| | " + model + " | " + model + " |\n|---|---:|---:|\n| size | "));
  for (const char* line :
       {"| perplexity degradation |  | 0.00 % |\n", "| KLD mean |  | 0.0000 |\n",
        "| tokens with KLD > 1 |  | 0 of 19 |\n", "| top-1 agreement |  | 100.00 % |\n",
        "| router agreement |  | 100.00 % |\n", "| expert error, min .. max |  | 0.0000 .. 0.0000 |\n",
        "\n20 tokens in windows of 512, activations f32; "})
    CHECK_THAT(o.out, ContainsSubstring(line));
}

TEST_CASE("compare: tokens as numbers are the bytes of a text", "[cli][compare]") {
  const scratch_folder folder;
  const std::string model = model_in(folder), text = write_text(folder / "t", "byte"),
                    ids = write_text(folder / "i", "98, 121\n116 101\n");
  CHECK(mxfp4_json({"compare", model, "--recipes", "ocp", "--text", text}) ==
        mxfp4_json({"compare", model, "--recipes", "ocp", "--ids", ids}));
  CHECK(mxfp4_json({"compare", model, "--recipes", "ocp", "--text", text, "--activations", "int8"})["targets"] !=
        mxfp4_json({"compare", model, "--recipes", "ocp", "--text", text})["targets"]);
}

TEST_CASE("compare: bad input is an error that names it, and leaves no file", "[cli][compare][bad_input]") {
  struct row {
    const char* message;
    std::function<void(tiny_model&, json& config)> break_it;
  };
  const std::string w1 = "model.layers.1.block_sparse_moe.experts.3.w1.weight";
  const auto set = [](const char* key, const json& value) {
    return [key, value](tiny_model&, json& config) { config[key] = value; };
  };
  const row rows[] = {
      {"experts.3.w1.weight': is missing, expected it, or 'model.layers.1",
       [&](tiny_model& m, json&) { m.tensors.erase(w1); }},
      {"experts.3.w1.weight_scale_inv': is missing, expected [1, 2]",
       [&](tiny_model& m, json&) { m.tensors.erase(w1 + "_scale_inv"); }},
      {"experts.3.w1.weight': is [160, 32], expected [32, 160]",
       [&](tiny_model& m, json&) {
         m.tensors[w1].shape = {160, 32};
       }},
      {"experts.3.w1.weight': is I8, expected F32 or F16 or BF16 or F8_E4M3",
       [&](tiny_model& m, json&) { m.tensors[w1].type = dtype::i8; }},
      {"'lm_head.weight': is missing, expected it, or 'lm_head.weight_packed'",
       [](tiny_model& m, json&) { m.tensors.erase("lm_head.weight"); }},
      {"'model.norm.weight': is [32], expected [160]",
       [](tiny_model& m, json&) {
         m.tensors["model.norm.weight"] = {dtype::f32, {32}, std::string(128, '\0')};
       }},
      {"model_type is \"gpt_neo\", expected deepseek_v3, gpt_oss, llama", set("model_type", "gpt_neo")},
      {"use_qk_norm is false, expected true", set("use_qk_norm", false)},
      {"scoring_func is \"softmax\", expected \"sigmoid\"", set("scoring_func", "softmax")},
      {"rope_scaling is {\"factor\":2}, expected null", set("rope_scaling", {{"factor", 2}})},
      {"rotary_dim is 7, expected an even number up to head_dim, 12", set("rotary_dim", 7)},
      {"rotary_dim is 14, expected an even number", set("rotary_dim", 14)},
      {"rope_theta is \"big\", expected a number above 0", set("rope_theta", "big")},
      {"num_attention_heads is 3, expected a multiple of num_key_value_heads, 2", set("num_attention_heads", 3)},
      {"num_experts_per_tok is 6, expected at most num_local_experts, 5", set("num_experts_per_tok", 6)},
      {"has no hidden_size", [](tiny_model&, json& c) { c.erase("hidden_size"); }},
      {"head_dim is 0, expected", set("head_dim", 0)},
      {"the logit of token 7 at position 0 is NaN or infinite",
       [](tiny_model& m, json&) {
         std::string& data = m.tensors["lm_head.weight"].data;
         data[7 * 160 * 2] = '\xC0', data[7 * 160 * 2 + 1] = '\x7F';
       }},
      {"layer 1: the router's",
       [](tiny_model& m, json&) {
         m.tensors["model.layers.1.block_sparse_moe.e_score_correction_bias"].data = bytes_of<float>({0, 0, NAN, 0, 0});
       }},
      {"tokenizer.json: is missing, and only a vocabulary of 256 is bytes, not one of 300", set("vocab_size", 300)},
  };
  const scratch_folder folder;
  const std::string text = text_file(folder), details = folder / "details";
  int number = 0;
  for (const row& r : rows) {
    CAPTURE(r.message);
    tiny_model tiny(weight_kind::fp8);
    json config = tiny_model::config();
    r.break_it(tiny, config);
    const std::string model = tiny.write(folder / std::to_string(number++), config);
    const outcome o = mxfp4_run({"compare", model, model, "--text", text, "--details", details});
    CHECK(o.code == 1);
    CHECK(o.out == "");
    CHECK_THAT(o.err, ContainsSubstring(r.message));
    CHECK_THAT(o.err, ContainsSubstring(model));
    CHECK(!std::filesystem::exists(details));
  }
}

TEST_CASE("compare, run: bad tokens and options", "[cli][compare][bad_input]") {
  const scratch_folder folder;
  const std::string model = model_in(folder), text = text_file(folder), none = folder / "none";
  tiny_model other_model(weight_kind::bf16);
  json config = tiny_model::config();
  config["rope_theta"] = 5;
  const std::string other = other_model.write(folder / "other", config);
  std::filesystem::copy(model, folder / "bare");
  std::filesystem::remove(folder / "bare" + "/config.json");
  const auto file = [&](const std::string& name, const std::string& bytes) { return write_text(folder / name, bytes); };
  const auto long_text = file("long", std::string(600, 'a'));
  struct row {
    int code;
    const char* message;
    strings arguments;
  };
  const row rows[] = {
      {2, "nothing to compare with: name QUANTISED, or --recipes", {"compare", model, "--text", text}},
      {2, "no tokens: name a file with --text or --ids", {"compare", model, model}},
      {2, "'best' is not a recipe", {"compare", model, "--recipes", "ocp,best", "--text", text}},
      {2, "--context: is 513, expected 2 .. 512", {"compare", model, model, "--text", text, "--context", "513"}},
      {2, "--text excludes --ids", {"compare", model, model, "--text", text, "--ids", text}},
      {2,
       "is 'int4', expected one of f32, int8, int8-residual2, int8-residual3, mxfp8, fp8, mxfp4",
       {"compare", model, model, "--text", text, "--activations", "int4"}},
      {1, "cannot open", {"compare", model, model, "--text", none}},
      {1, "cannot open", {"compare", model, none, "--text", text}},
      {1, "has no config.json", {"compare", model, folder / "bare", "--text", text}},
      {1, "rope_theta is 5.0, expected 10000.0 as the original has it", {"compare", model, other, "--text", text}},
      {1, "the text has 0 tokens, expected at least 2", {"compare", model, model, "--text", file("empty", "")}},
      {1, "the text has 1 tokens, expected at least 2", {"compare", model, model, "--text", file("one", "a")}},
      {1,
       "token 256 at position 2 is outside the vocabulary, expected 0 .. 255",
       {"compare", model, model, "--ids", file("far", "1 2 256 3")}},
      {1, "token 1 is '-2', expected a number", {"compare", model, model, "--ids", file("minus", "1 -2")}},
      {1,
       "token 0 is '99999999999999999999', expected",
       {"compare", model, model, "--ids", file("big", "99999999999999999999")}},
      {2, "--prompt: is empty, expected a text to go on with", {"run", model}},
      {2, "--ids: has no number, expected tokens to go on with", {"run", model, "--ids", " ,"}},
      {2,
       "--tokens: 510 after 3 of the prompt, expected at most 512 in all",
       {"run", model, "--prompt", "abc", "--tokens", "510"}},
      {1, "token 999 at position 1 is outside the vocabulary", {"run", model, "--ids", "1,999"}},
      {2, "--temperature", {"run", model, "--prompt", "a", "--temperature", "-1"}},
  };
  for (const row& r : rows) {
    CAPTURE(r.arguments);
    const outcome o = mxfp4_run(r.arguments);
    CHECK(o.code == r.code);
    CHECK(o.out == "");
    CHECK_THAT(o.err, ContainsSubstring(r.message));
  }
}

TEST_CASE("plots: three pictures of a comparison", "[plots]") {
  if (run({MXFP4_PYTHON, "-c", "import matplotlib"}).code != 0) SKIP("no Python with matplotlib");
  const scratch_folder folder;
  const std::string model = model_in(folder), text = text_file(folder), details = folder / "d", png = folder / "png";
  const std::string script = MXFP4_PLOTS "/plot_compare.py";
  // The second one is as far from the original as itself: KLD and errors are 0, which no logarithm has.
  REQUIRE(mxfp4_run({"compare", model, model, "--recipes", "ocp", "--text", text, "--details", details}).code == 0);
  const outcome o = run({MXFP4_PYTHON, script, details, png});
  CAPTURE(o.err);
  CHECK(o.code == 0);
  for (const char* name : {"kld_histogram.png", "kld_entropy.png", "expert_error_map.png"}) {
    CAPTURE(name);
    const std::string picture = read_text(png + "/" + name);
    CHECK(picture.starts_with("\x89PNG\r\n"));
    CHECK(picture.size() > 5000);
  }
  json broken = json::parse(read_text(details));
  broken["targets"][1].erase("per_token");
  const outcome bad = run({MXFP4_PYTHON, script, write_text(folder / "bad", broken.dump()), png});
  CHECK(bad.code == 1);
  CHECK_THAT(bad.err, ContainsSubstring("has no 'per_token': write it with mxfp4 compare --details"));
  CHECK_THAT(run({MXFP4_PYTHON, script, folder / "none"}).err, ContainsSubstring("No such file"));
}

TEST_CASE("run: the same seed gives the same text, on any number of threads", "[cli][run]") {
  const scratch_folder folder;
  const std::string model = model_in(folder, weight_kind::mxfp4_experts);
  const strings arguments = {"run", model, "--prompt", "word", "--tokens", "12", "--seed", "7", "--threads"};
  const auto with = [&](strings more) {
    strings all = arguments;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const json one = mxfp4_json(with({"1"}));
  CHECK(one["ids"].size() == 12);
  CHECK(mxfp4_json(with({"2"}))["ids"] == one["ids"]);
  CHECK(mxfp4_json(with({"2", "--memory", "1kB"}))["ids"] == one["ids"]);
  CHECK(mxfp4_json(with({"1", "--memory", "1kB"}))["expert_loads"] > one["expert_loads"]);
  CHECK(mxfp4_json({"run", model, "--ids", "119,111,114,100", "--tokens", "12", "--seed", "7"})["ids"] == one["ids"]);
  CHECK(mxfp4_json({"run", model, "--prompt", "word", "--tokens", "12", "--seed", "8"})["ids"] != one["ids"]);

  const outcome text = mxfp4_run(with({"1"}));
  std::string bytes;
  for (const json& id : one["ids"]) bytes += static_cast<char>(id.get<int>());
  CHECK(text.out == bytes + "\n");
  CHECK_THAT(text.err, ContainsSubstring("tokens/s; ") && ContainsSubstring(" of experts in memory, "));
}

TEST_CASE("run, compare: where there is a tokenizer.json, it reads and writes the text", "[cli][run]") {
  const scratch_folder folder;
  const std::string model = model_in(folder), text = write_text(folder / "t", "abc"),
                    ids = write_text(folder / "i", "158 157 156");
  // Byte b is token 255 - b, and is called as GPT-2 does: by itself where it can be printed, by a character from 256
  // on.
  json vocabulary = json::object();
  for (int byte = 0, next = 256; byte < 256; ++byte) {
    const bool printed = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    const int point = printed ? byte : next++;
    const std::string name =
        point < 128 ? std::string(1, static_cast<char>(point))
                    : std::string{static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 63))};
    vocabulary[name] = 255 - byte;
  }
  const json tokenizer = {{"added_tokens", json::array()},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
                          {"post_processor", nullptr},
                          {"decoder", {{"type", "ByteLevel"}}},
                          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", json::array()}}}};
  write_text(model + "/tokenizer.json", tokenizer.dump());
  CHECK(mxfp4_json({"compare", model, "--recipes", "ocp", "--text", text}) ==
        mxfp4_json({"compare", model, "--recipes", "ocp", "--ids", ids}));
  const json answer = mxfp4_json({"run", model, "--ids", "158,157", "--tokens", "2", "--temperature", "0"});
  CHECK(answer["text"].is_null());
  const int first = answer["ids"][0], second = answer["ids"][1];
  const strings numbers_in = {"run", model, "--ids", "158,157", "--tokens", "2", "--temperature", "0"};
  CHECK(mxfp4_run(numbers_in).out == std::to_string(first) + " " + std::to_string(second) + " \n");
  const strings text_in = {"run", model, "--prompt", "ab", "--tokens", "2", "--temperature", "0"};
  CHECK(mxfp4_run(text_in).out == std::string{static_cast<char>(255 - first), static_cast<char>(255 - second), '\n'});
  write_text(model + "/tokenizer.json", "{}");
  const outcome bad = mxfp4_run({"run", model, "--prompt", "xyz"});
  CHECK(bad.code == 1);
  CHECK_THAT(bad.err, ContainsSubstring("tokenizer.json"));
}

TEST_CASE("run: the likeliest token is the golden forward pass's", "[cli][run]") {
  const scratch_folder folder;
  const tiny_model tiny(weight_kind::bf16);
  const std::string model = tiny.write(folder / "m");
  const json answer = mxfp4_json({"run", model, "--ids", "5,6,7", "--tokens", "6", "--temperature", "0"});
  std::vector<std::int64_t> ids = {5, 6, 7};
  for (const json& id : answer["ids"]) {
    const numbers logits = forward_oracle(tiny, variant::none).run(ids).logits.back();
    ids.push_back(std::max_element(logits.begin(), logits.end()) - logits.begin());
    CHECK(id == ids.back());
  }
}

TEST_CASE("compare: memory is that of an expert, not of the model", "[cli][compare][memory]") {
  require_own_memory();
  const scratch_folder folder;
  const std::string model = folder / "model", ids = write_text(folder / "ids", "3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 3");
  REQUIRE(run({MXFP4_GENERATE, "--checkpoint", "--layers", "2", "--hidden", "512", "--intermediate", "512", "--experts",
               "64", "--vocabulary", "256", model})
              .code == 0);
  constexpr std::uint64_t limit = std::uint64_t{48} << 20;  // experts: 2 * 64 * 3 * 512 * 512 bytes
  static_assert(2 * 64 * 3 * 512 * 512 >= 2 * limit);
  const outcome o =
      mxfp4_run({"compare", model, "--recipes", "ocp", "--ids", ids, "--threads", "2"}, {.data_bytes = limit});
  INFO(o.err);
  CHECK(o.code == 0);
}

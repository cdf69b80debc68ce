// tests/model.families.test.cpp -- the forward pass of each family against logits and tokens of transformers.
// SPDX-License-Identifier: Apache-2.0
//
// tests/vectors/family_logits: tiny models with all that a family can have, made by a rule; what transformers (float32,
// eager attention) computes for them was recorded by tests/interop/family_logits.py.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/reader_json.hpp"
#include "family.support.hpp"
#include "model/attention.hpp"
#include "model/evaluate.hpp"
#include "model/generate.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using namespace mxfp4::model;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;

constexpr double bound = 1e-4;  // of the largest logit

model_config config_of(const checkpoint_reader& checkpoint) {
  return read_model_config(read_config(checkpoint), "config.json");
}

token_rows logits_of(const checkpoint_reader& checkpoint, const model_config& config, std::span<const std::int64_t> ids,
                     const product_options& options = {}) {
  generator model(checkpoint, config, options, UINT64_MAX);
  return model.take(ids, false);
}

/// The largest difference, in units of the largest logit.
double distance(const std::vector<float>& expected, const token_rows& logits) {
  REQUIRE(expected.size() == logits.data.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto x = static_cast<double>(expected[i]);
    difference = std::fmax(difference, std::fabs(x - static_cast<double>(logits.data[i])));
    largest = std::fmax(largest, std::fabs(x));
  }
  return difference / largest;
}

}  // namespace

TEST_CASE("families: logits are those of transformers", "[model][families][golden]") {
  for (const std::string name : recorded_families) {
    const recorded_family family(name);
    REQUIRE(family.router_margin > 1e-3);  // rounding chooses no other expert
    const scratch_folder folder;
    const checkpoint_reader checkpoint = checkpoint_reader::open(family.write(folder / "m")).value();
    const double error = distance(family.logits, logits_of(checkpoint, config_of(checkpoint), family.ids));
    CAPTURE(name, error);
    CHECK(error <= bound);
  }
}

TEST_CASE("families: greedy generation adds the tokens of transformers", "[model][families][generate]") {
  for (const std::string name : recorded_families) {
    CAPTURE(name);
    const recorded_family family(name);
    REQUIRE(family.token_margin > 1e-3);
    const scratch_folder folder;
    const checkpoint_reader checkpoint = checkpoint_reader::open(family.write(folder / "m")).value();
    generator model(checkpoint, config_of(checkpoint), {}, UINT64_MAX);
    std::vector<std::int64_t> added;
    std::mt19937_64 random;
    token_rows logits = model.take(family.ids);
    while (added.size() < family.added.size()) {
      added.push_back(sample(logits.data, 0, random));
      logits = model.take({&added.back(), 1});
    }
    CHECK(added == family.added);
  }
}

TEST_CASE("families: threads, pieces and forgotten experts change no bit", "[model][families][cache]") {
  for (const std::string name : recorded_families) {
    const recorded_family family(name);
    const scratch_folder folder;
    const checkpoint_reader checkpoint = checkpoint_reader::open(family.write(folder / "m")).value();
    const model_config config = config_of(checkpoint);
    const threads two{2};
    for (const activation_type type :
         {activation_type::f32, activation_type::int8, activation_type::int8_residual2, activation_type::int8_residual3,
          activation_type::mxfp8, activation_type::fp8, activation_type::mxfp4}) {
      if (type != activation_type::f32 && name != "gpt_oss_native") continue;  // they meet MXFP4 weights alone
      const token_rows all = logits_of(checkpoint, config, family.ids, {type, {}});
      CHECK(logits_of(checkpoint, config, family.ids, {type, two}).data == all.data);
      generator forgetful(checkpoint, config, {type, {}}, 0);
      CHECK(forgetful.take(family.ids, false).data == all.data);
      for (const std::size_t piece : {std::size_t{1}, std::size_t{7}}) {
        CAPTURE(name, type, piece);
        generator model(checkpoint, config, {type, {}}, 0);
        std::vector<float> logits;
        for (std::size_t first = 0; first < family.ids.size(); first += piece) {
          const token_rows part =
              model.take(std::span(family.ids).subspan(first, std::min(piece, family.ids.size() - first)), false);
          logits.insert(logits.end(), part.data.begin(), part.data.end());
        }
        CHECK(logits == all.data);
      }
    }
  }
}

TEST_CASE("families: an attention whose weights stay in the file has the same bits", "[model][families]") {
  const auto attended = [](const checkpoint_reader& checkpoint, const recorded_family& family, std::uint64_t keep) {
    const model_config config = config_of(checkpoint);
    token_rows x = read_embeddings(checkpoint, config, family.ids, 0);
    kv_cache cache;
    rotary_table rotary(config);
    attention(checkpoint, config, 0, keep).add_to(x, 0, x.count, cache, rotary, {});
    return x.data;
  };
  for (const std::string name : recorded_families) {
    const recorded_family family(name);
    const scratch_folder folder;
    const checkpoint_reader checkpoint = checkpoint_reader::open(family.write(folder / "m")).value();
    const std::vector<float> kept = attended(checkpoint, family, UINT64_MAX);
    for (const std::uint64_t keep : {0u, 2000u, 6000u}) {  // none, some and most of a tiny layer
      CAPTURE(name, keep);
      CHECK(attended(checkpoint, family, keep) == kept);
    }
  }

  // Heads of latent attention begin anywhere in FP8's blocks of 128 rows: as if it were stored widened.
  recorded_family family("deepseek_v3");
  constexpr std::int64_t value = 52, rows = 4 * (16 + value), rank = 32;
  const std::string weight = "model.layers.0.self_attn.kv_b_proj.weight";
  family.config["v_head_dim"] = value;
  for (const std::string layer : {"0", "1", "2"}) {
    family.rules["model.layers." + layer + ".self_attn.kv_b_proj.weight"]["shape"] = {rows, rank};
    family.rules["model.layers." + layer + ".self_attn.o_proj.weight"]["shape"] = {64, 4 * value};
  }
  tensor_map narrow = family.tensors(), wide = narrow;
  std::vector<std::uint8_t> codes;
  std::vector<std::uint16_t> widened;
  const std::vector<float> scales = {0.25f, 0.5f, 1.0f};  // of rows 0 .. 127, 128 .. 255, and the rest
  for (std::int64_t i = 0; i < rows * rank; ++i) {
    codes.push_back(static_cast<std::uint8_t>(0x20 + i * 7 % 32 + i % 2 * 0x80));
    const float number = mxfp4::decode(static_cast<mxfp4::e4m3>(codes.back()));
    widened.push_back(
        static_cast<std::uint16_t>(mxfp4::encode_bf16(number * scales[static_cast<std::size_t>(i / rank / 128)])));
  }
  narrow[weight] = {dtype::f8_e4m3, {rows, rank}, bytes_of(codes)};
  narrow[weight + "_scale_inv"] = {dtype::f32, {3, 1}, bytes_of(scales)};
  wide[weight] = {dtype::bf16, {rows, rank}, bytes_of(widened)};
  const scratch_folder folder;
  write_checkpoint(folder / "narrow", narrow, family.config);
  write_checkpoint(folder / "wide", wide, family.config);
  const checkpoint_reader a = checkpoint_reader::open(folder / "narrow").value(),
                          b = checkpoint_reader::open(folder / "wide").value();
  CHECK(attended(a, family, UINT64_MAX) == attended(b, family, UINT64_MAX));
  CHECK(attended(a, family, 0) == attended(b, family, UINT64_MAX));
}

TEST_CASE("families: what is easily mistaken is a hundred times the bound away", "[model][families]") {
  struct mistake {
    const char* name;
    std::function<void(model_config&)> make;
  };
  const auto windows_of = [](std::int64_t change) {
    return [change](model_config& c) {
      for (std::int64_t& w : c.attention.windows) w = w == 0 ? 0 : change == 0 ? 0 : w + change;
    };
  };
  const mistake no_window = {"no window", windows_of(0)}, long_window = {"a window one longer", windows_of(1)},
                short_window = {"a window one shorter", windows_of(-1)};
  const mistake all_slide = {"the window in every layer", [](model_config& c) {
                               for (std::int64_t& w : c.attention.windows) w = c.attention.windows[0];
                             }};
  const mistake no_qkv_bias = {"q, k, v without bias", [](model_config& c) { c.attention.qkv_bias = false; }};
  const mistake no_o_bias = {"o without bias", [](model_config& c) { c.attention.o_bias = false; }};
  const mistake no_norm = {"q, k without norm", [](model_config& c) { c.attention.norm = head_norm::none; }};
  const mistake neighbours = {"rotary pairs of neighbours",
                              [](model_config& c) { c.attention.rotary.neighbours = true; }};
  const mistake not_scaled = {"positions not scaled", [](model_config& c) {
                                rotary_description& r = c.attention.rotary;
                                for (std::size_t i = 0; i < r.frequencies.size(); ++i)
                                  r.frequencies[i] =
                                      std::pow(r.theta, -2.0 * static_cast<double>(i) / static_cast<double>(r.dim));
                              }};
  const mistake no_magnitude = {"YaRN without its magnitude",
                                [](model_config& c) { c.attention.rotary.magnitude = 1; }};
  const mistake by_sigmoid = {"experts by sigmoid",
                              [](model_config& c) { c.experts.route.scoring = mxfp4::scoring_func::sigmoid; }};
  const mistake by_softmax = {"experts by softmax",
                              [](model_config& c) { c.experts.route.scoring = mxfp4::scoring_func::softmax; }};
  const mistake other_sum = {"weights renormalised or not",
                             [](model_config& c) { c.experts.route.renormalize = !c.experts.route.renormalize; }};
  const mistake gelu = {"gelu", [](model_config& c) { c.experts.function.act = mxfp4::hidden_act::gelu_tanh; }};
  const mistake one_expert = {"one expert a token", [](model_config& c) { c.shape.experts_per_token = 1; }};
  struct row {
    const char* family;
    std::vector<mistake> mistakes;
  };
  const std::vector<mistake> of_gpt_oss = {
      no_window,
      long_window,
      short_window,
      all_slide,
      no_qkv_bias,
      no_o_bias,
      neighbours,
      not_scaled,
      no_magnitude,
      by_sigmoid,
      gelu,
      one_expert,
      {"no sinks", [](model_config& c) { c.attention.sinks = false; }},
      {"softmax before the choice",
       [](model_config& c) {
         c.experts.route.scoring = mxfp4::scoring_func::softmax;
         c.experts.route.renormalize = false;
       }},
      {"the router without bias", [](model_config& c) { c.experts.router_bias = false; }},
      {"silu", [](model_config& c) { c.experts.function.act = mxfp4::hidden_act::silu; }},
      {"alpha 1", [](model_config& c) { c.experts.function.alpha = 1; }},
      {"no limit", [](model_config& c) { c.experts.function.limit = 1e9f; }}};
  const row rows[] = {
      {"deepseek_v3",
       {no_qkv_bias,
        no_o_bias,
        not_scaled,
        by_softmax,
        other_sum,
        gelu,
        one_expert,
        {"rotary pairs in halves", [](model_config& c) { c.attention.rotary.neighbours = false; }},
        {"the first dimensions turned", [](model_config& c) { c.attention.rotary.first = 0; }},
        {"q k without mscale_all_dim", [](model_config& c) { c.attention.scale = 1 / std::sqrt(24.0f); }},
        {"no groups", [](model_config& c) { c.experts.route.n_group = 1; }},
        {"no bias in the choice", [](model_config& c) { c.experts.choice_bias = ""; }},
        {"no scale of the weights", [](model_config& c) { c.experts.route.scale = 1; }},
        {"no shared expert", [](model_config& c) { c.experts.shared = ""; }}}},
      {"gpt_oss", of_gpt_oss},
      {"gpt_oss_native", of_gpt_oss},
      {"llama",
       {no_qkv_bias,
        no_o_bias,
        neighbours,
        not_scaled,
        gelu,
        {"the MLP without biases", [](model_config& c) { c.experts.biases = false; }}}},
      {"minimax_m2",
       {no_norm,
        neighbours,
        other_sum,
        gelu,
        one_expert,
        {"no bias in the choice", [](model_config& c) { c.experts.choice_bias = ""; }},
        {"all dimensions turned",
         [](model_config& c) {
           c.attention.rotary.frequencies.push_back(0.1);
           c.attention.rotary.dim += 2;
         }}}},
      {"mixtral", {no_window, long_window, short_window, neighbours, by_sigmoid, other_sum, gelu, one_expert}},
      {"olmoe", {no_norm, neighbours, by_sigmoid, other_sum, gelu, one_expert}},
      {"qwen3",
       {no_window, long_window, all_slide, no_qkv_bias, no_o_bias, no_norm, neighbours, not_scaled, no_magnitude,
        gelu}},
      {"qwen3_moe",
       {no_window, long_window, no_qkv_bias, no_o_bias, no_norm, neighbours, by_sigmoid, other_sum, gelu, one_expert}}};
  for (const auto& [name, mistakes] : rows) {
    const recorded_family family(name);
    const scratch_folder folder;
    const checkpoint_reader checkpoint = checkpoint_reader::open(family.write(folder / "m")).value();
    for (const mistake& m : mistakes) {
      CAPTURE(name, m.name);
      model_config config = config_of(checkpoint);
      m.make(config);
      CHECK(distance(family.logits, logits_of(checkpoint, config, family.ids)) >= 100 * bound);
    }
  }
}

TEST_CASE("families: experts' biases reach the logits", "[model][families]") {
  for (const char* part : {"gate_up_proj_bias", "down_proj_bias"}) {
    recorded_family family("gpt_oss_native");
    for (const auto& [name, rule] : family.rules.items())
      if (name.ends_with(part)) family.rules[name]["spread"] = 0.0;
    const scratch_folder folder;
    const checkpoint_reader checkpoint = checkpoint_reader::open(family.write(folder / "m")).value();
    CAPTURE(part);
    CHECK(distance(family.logits, logits_of(checkpoint, config_of(checkpoint), family.ids)) >= 100 * bound);
  }
}

TEST_CASE("families: a config as older versions write it", "[model][families]") {
  for (const std::string name : recorded_families) {
    CAPTURE(name);
    const recorded_family family(name);
    nlohmann::json old = family.config, scaling = old.at("rope_parameters");
    old.erase("rope_parameters");
    old["rope_theta"] = scaling.at("rope_theta");
    scaling.erase("rope_theta");
    if (scaling.at("rope_type") == "default") scaling = nullptr;
    else if (name == "qwen3") scaling["type"] = scaling.at("rope_type"), scaling.erase("rope_type");
    old["rope_scaling"] = scaling;
    if (old["model_type"] == "gpt_oss") old.erase("layer_types"), old.erase("swiglu_alpha");
    const scratch_folder folder;
    const checkpoint_reader checkpoint = checkpoint_reader::open(family.write(folder / "m", old)).value();
    CHECK(distance(family.logits, logits_of(checkpoint, config_of(checkpoint), family.ids)) <= bound);
  }
}

TEST_CASE("families: windows of a comparison are texts of their own", "[model][families][evaluate]") {
  for (const std::string name : {"gpt_oss_native", "qwen3_moe", "llama"}) {
    CAPTURE(name);
    const recorded_family family(name);
    const scratch_folder folder;
    const checkpoint_reader checkpoint = checkpoint_reader::open(family.write(folder / "m")).value();
    evaluation_options options;
    options.context = 16;
    const std::vector<evaluation_target> targets = {{"itself", &checkpoint, {}}};
    const auto results = evaluate(checkpoint, targets, config_of(checkpoint), family.ids, options);
    REQUIRE(results[0].tokens.size() == 15 + 7);
    const token_rows logits = logits_of(checkpoint, config_of(checkpoint), std::span(family.ids).first(16));
    for (std::size_t t = 0; t < 15; ++t) {
      const std::span<const float> row(logits.row(static_cast<std::int64_t>(t)), static_cast<std::size_t>(logits.size));
      CHECK(results[0].tokens[t].reference_nll == compare_logits(row, row, family.ids[t + 1]).reference_nll);
      CHECK(results[0].tokens[t].kld == 0.0);
    }
    const std::size_t experts = name == "llama" ? 0u : name == "qwen3_moe" ? 2u * 4u : 3u * 4u;  // one layer is dense
    CHECK(results[0].experts.size() == experts);
  }
}

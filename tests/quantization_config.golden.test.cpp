// tests/quantization_config.golden.test.cpp -- config.json of the result, and which modules its readers take as MXFP4.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/config_check.hpp"
#include "checkpoint/family.hpp"
#include "checkpoint/minimax_m2.hpp"
#include "checkpoint/quantization_config.hpp"
#include "io/strict_json.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using nlohmann::ordered_json;

constexpr int layers = 3, experts = 12;  // numbers of two digits among them

ordered_json source_config() {
  ordered_json config = read_json<ordered_json>(MXFP4_TEST_VECTORS "/minimax_m2/config.json");
  config["num_hidden_layers"] = layers;
  config["num_local_experts"] = experts;
  return config;
}

quantization_plan plan_of(fp8_policy others, const char* exclude = nullptr) {
  plan_options options;
  options.others = others;
  if (exclude != nullptr) options.exclude = exclude;
  return make_plan(minimax_m2_tensors(read_minimax_m2_shape(source_config(), "c")), options, "c").value();
}

module_resolver resolver_of(fp8_policy others, const char* exclude = nullptr) {
  return {make_quantization_config(plan_of(others, exclude), "minimax_m2", "c"), "c"};
}

std::string layer(int n) { return "model.layers." + std::to_string(n) + "."; }

}  // namespace

TEST_CASE("quantization_config: the published model's, word for word", "[config][golden]") {
  const ordered_json config = make_config(source_config(), plan_of(fp8_policy::widen), "c");
  const char* const expected = R"json({
  "quant_method": "compressed-tensors",
  "format": "mxfp4-pack-quantized",
  "quantization_status": "compressed",
  "config_groups": {
    "group_0": {
      "targets": [
        "re:.*\\.experts\\.[0-9]+\\.(gate_proj|up_proj|down_proj|w1|w2|w3)$"
      ],
      "weights": {
        "num_bits": 4,
        "type": "float",
        "symmetric": true,
        "group_size": 32,
        "strategy": "group",
        "block_structure": null,
        "dynamic": false,
        "actorder": null,
        "scale_dtype": "torch.uint8",
        "zp_dtype": null,
        "observer": "memoryless_minmax",
        "observer_kwargs": {}
      },
      "input_activations": null,
      "output_activations": null,
      "format": "mxfp4-pack-quantized"
    }
  },
  "ignore": [
    "re:.*\\.embed_tokens$",
    "re:.*\\.q_proj$",
    "re:.*\\.k_proj$",
    "re:.*\\.v_proj$",
    "re:.*\\.o_proj$",
    "re:.*\\.gate$",
    "lm_head"
  ],
  "kv_cache_scheme": null,
  "global_compression_ratio": null,
  "version": "0.20.0",
  "transform_config": {}
})json";
  CHECK(config["quantization_config"].dump(2) == expected);

  // Everything else is the source's, in its order, and takes the old quantization_config's place.
  ordered_json rest = config, source = source_config();
  rest["quantization_config"] = source["quantization_config"];
  CHECK(rest.dump(2) == source.dump(2));
  CHECK_THAT(config.dump(2), ContainsSubstring("\"rms_norm_eps\": 1e-06,"));

  source.erase("quantization_config");
  const ordered_json appended = make_config(source, plan_of(fp8_policy::widen), "c");
  CHECK(std::prev(appended.end()).key() == "quantization_config");
}

TEST_CASE("quantization_config: FP8 that stays is a second group", "[config][golden]") {
  const ordered_json config = make_quantization_config(plan_of(fp8_policy::keep), "minimax_m2", "c");
  CHECK(config["format"] == "mixed-precision");
  CHECK(config["config_groups"].size() == 2);
  CHECK(config["config_groups"]["group_0"]["targets"] ==
        ordered_json{"re:.*\\.experts\\.[0-9]+\\.(gate_proj|up_proj|down_proj|w1|w2|w3)$"});
  CHECK(config["config_groups"]["group_0"]["format"] == "mxfp4-pack-quantized");
  const char* const expected = R"({"targets":["Linear"],"weights":{"num_bits":8,"type":"float","symmetric":true,)"
                               R"("group_size":null,"strategy":"block","block_structure":[128,128],"dynamic":false,)"
                               R"("actorder":null,"scale_dtype":null,"zp_dtype":null,"observer":"memoryless_minmax",)"
                               R"("observer_kwargs":{}},"input_activations":{"num_bits":8,"type":"float",)"
                               R"("symmetric":true,"group_size":128,"strategy":"group","block_structure":null,)"
                               R"("dynamic":true,"actorder":null,"scale_dtype":null,"zp_dtype":null,"observer":null,)"
                               R"("observer_kwargs":{}},"output_activations":null,"format":"float-quantized"})";
  CHECK(config["config_groups"]["group_1"].dump() == expected);
  CHECK(config["ignore"] == ordered_json{"re:.*\\.embed_tokens$", "re:.*\\.gate$", "lm_head"});
}

TEST_CASE("quantization_config: every module under both spellings", "[config]") {
  for (const fp8_policy others : {fp8_policy::widen, fp8_policy::keep}) {
    const module_resolver r = resolver_of(others);
    const std::string attention = others == fp8_policy::keep ? "group_1" : "";
    for (int l = 0; l < layers; ++l) {
      for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj"}) {
        CAPTURE(l, name);
        if (others == fp8_policy::keep || std::string(name) != "qkv_proj")
          CHECK(r.group_of(layer(l) + "self_attn." + name) == attention);
      }
      for (const char* moe : {"block_sparse_moe", "mlp"}) {
        CHECK(r.group_of(layer(l) + moe + ".gate").empty());
        for (int e = 0; e < experts; ++e)
          for (const char* part : {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"}) {
            CAPTURE(l, moe, e, part);
            CHECK(r.group_of(layer(l) + moe + ".experts." + std::to_string(e) + "." + part) == "group_0");
          }
      }
      CHECK(r.group_of(layer(l) + "input_layernorm", "MiniMaxM2RMSNorm").empty());
    }
    CHECK(r.group_of("lm_head").empty());
    CHECK(r.group_of("model.embed_tokens", "Embedding").empty());
    // vLLM fuses q, k, v: it ignores the fused layer if it ignores each of them.
    if (others == fp8_policy::widen)
      for (const char* part : {"q_proj", "k_proj", "v_proj"}) CHECK(r.ignores(layer(1) + "self_attn." + part));
  }
}

TEST_CASE("quantization_config: a layer's experts that are left out", "[config]") {
  for (const fp8_policy others : {fp8_policy::widen, fp8_policy::keep}) {
    const module_resolver r = resolver_of(others, "layers\\.1\\..*experts");
    const std::string left = others == fp8_policy::keep ? "group_1" : "";
    for (const char* moe : {"block_sparse_moe", "mlp"})
      for (const char* part : {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"})
        for (const int e : {0, 11}) {
          CAPTURE(moe, part, e);
          const std::string tail = std::string(moe) + ".experts." + std::to_string(e) + "." + part;
          CHECK(r.group_of(layer(0) + tail) == "group_0");
          CHECK(r.group_of(layer(1) + tail) == left);
          CHECK(r.group_of(layer(2) + tail) == "group_0");
          // A layer that is not there: the pattern of layer 1 does not fit it, and beside FP8 no pattern does.
          CHECK(r.group_of("model.layers.11." + tail) == (others == fp8_policy::keep ? "group_1" : "group_0"));
        }
  }
}

TEST_CASE("quantization_config: single experts and single matrices that are left out", "[config]") {
  const module_resolver one = resolver_of(fp8_policy::widen, "layers\\.0\\..*experts\\.1\\.");
  for (int e = 0; e < experts; ++e) {
    CAPTURE(e);
    const std::string n = std::to_string(e);
    CHECK(one.group_of(layer(0) + "block_sparse_moe.experts." + n + ".w2") == (e == 1 ? "" : "group_0"));
    CHECK(one.group_of(layer(0) + "mlp.experts." + n + ".down_proj") == (e == 1 ? "" : "group_0"));
    CHECK(one.group_of(layer(1) + "mlp.experts." + n + ".down_proj") == "group_0");
  }
  const module_resolver down = resolver_of(fp8_policy::widen, "w2");
  CHECK(down.group_of(layer(2) + "block_sparse_moe.experts.3.w2").empty());
  CHECK(down.group_of(layer(2) + "mlp.experts.3.down_proj").empty());
  CHECK(down.group_of(layer(2) + "block_sparse_moe.experts.3.w1") == "group_0");
  CHECK(down.group_of(layer(2) + "mlp.experts.3.gate_proj") == "group_0");
}

TEST_CASE("quantization_config: names that others have too need more of the name", "[config]") {
  // A dense layer and shared experts have a gate_proj, as the experts do.
  linear_modules modules;
  for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
    modules.mxfp4.push_back("model.layers.1.mlp.experts.0." + std::string(part));
    modules.left.push_back("model.layers.0.mlp." + std::string(part));
    modules.left.push_back("model.layers.1.mlp.shared_experts." + std::string(part));
  }
  modules.left.insert(modules.left.end(), {"model.layers.1.mlp.gate", "vision.a+b"});
  const ordered_json config = make_quantization_config(modules, "c");
  CHECK(config["ignore"].dump() ==
        R"(["re:.*\\.mlp\\.gate_proj$","re:.*\\.shared_experts\\.gate_proj$","re:.*\\.mlp\\.up_proj$",)"
        R"("re:.*\\.shared_experts\\.up_proj$","re:.*\\.mlp\\.down_proj$","re:.*\\.shared_experts\\.down_proj$",)"
        R"("re:.*\\.gate$","re:.*\\.a\\+b$","lm_head"])");
  const module_resolver r(config, "c");
  for (const std::string& m : modules.mxfp4) CHECK(r.group_of(m) == "group_0");
  for (const std::string& m : modules.left) CHECK(r.group_of(m).empty());

  modules.fp8.swap(modules.left);
  const module_resolver fp8(make_quantization_config(modules, "c"), "c");
  CHECK(fp8.group_of("model.layers.0.mlp.gate_up_proj") == "group_1");
  CHECK(fp8.group_of("model.layers.1.mlp.shared_experts.gate_up_proj") == "group_1");
  CHECK(fp8.group_of("model.layers.1.mlp.experts.0.gate_proj") == "group_0");
}

TEST_CASE("quantization_config: exact name before pattern before class; ignore before all", "[config]") {
  const auto resolve = [](const char* groups, const char* ignore, const char* module) {
    const ordered_json config = {{"config_groups", ordered_json::parse(groups)},
                                 {"ignore", ordered_json::parse(ignore)}};
    return module_resolver(config, "c").group_of(module);
  };
  const char* const three =
      R"({"class": {"targets": ["Linear"]}, "pattern": {"targets": ["re:.*q"]}, "exact": {"targets": ["a.q"]}})";
  CHECK(resolve(three, "[]", "a.q") == "exact");
  CHECK(resolve(three, "[]", "b.q") == "pattern");
  CHECK(resolve(three, "[]", "b.q.x") == "pattern");  // from the start, and open at the end
  CHECK(resolve(three, "[]", "b.r") == "class");
  CHECK(resolve(R"({"g": {"targets": ["re:q"]}})", "[]", "a.q").empty());
  CHECK(resolve(R"({"g": {"targets": ["Conv"]}})", "[]", "a.q").empty());
  CHECK(resolve(three, R"(["a.q"])", "a.q").empty());
  CHECK(resolve(three, R"(["re:a"])", "a.q").empty());
  CHECK(resolve(three, R"(["Linear"])", "a.q").empty());
  CHECK(resolve(three, R"(["q"])", "a.q") == "exact");
  CHECK(resolve(three, "null", "a.q") == "exact");
  // The traps: a pattern for the file's names misses vLLM's; one without an end takes more than the router.
  const char* const w1 = R"({"g": {"targets": ["re:.*\\.w[123]$"]}})";
  CHECK(resolve(w1, "[]", "model.layers.0.block_sparse_moe.experts.0.w1") == "g");
  CHECK(resolve(w1, "[]", "model.layers.0.mlp.experts.0.gate_proj").empty());
  CHECK(resolve(R"({"g": {"targets": ["Linear"]}})", R"(["re:.*\\.gate"])", "model.layers.0.mlp.experts.0.gate_proj")
            .empty());
}

TEST_CASE("quantization_config: what cannot be resolved is an error", "[config][bad_input]") {
  struct row {
    const char* config;
    const char* message;
  };
  const row rows[] = {
      {"[]", "config_groups is null, expected an object"},
      {R"({"config_groups": {}})", "config_groups is {}, expected an object with a group"},
      {R"({"config_groups": {"g": []}})", "targets of 'g' is null, expected names"},
      {R"({"config_groups": {"g": {"targets": []}}})", "targets of 'g' is [], expected names"},
      {R"({"config_groups": {"g": {"targets": [1]}}})", "targets of 'g' holds 1, expected a string"},
      {R"({"config_groups": {"g": {"targets": ["re:("]}}})", "targets of 'g' holds 're:(', expected a regular"},
      {R"({"config_groups": {"g": {"targets": ["a"]}}, "ignore": "a"})", "ignore is \"a\", expected an array"},
      {R"({"config_groups": {"g": {"targets": ["a"]}}, "ignore": [null]})", "ignore holds null, expected a string"},
  };
  for (const auto& [config, message] : rows) {
    CAPTURE(config);
    CHECK_THROWS_MATCHES(module_resolver(ordered_json::parse(config), "c"), file_error,
                         MessageMatches(ContainsSubstring("c: ") && ContainsSubstring(message)));
  }
  const ordered_json beyond = {{"config_groups", {{"g", {{"targets", {"re:(?!a)b"}}}}}}};
  const module_resolver unsure(beyond, "c");
  REQUIRE(unsure.unchecked().size() == 1);
  CHECK_THAT(unsure.unchecked()[0], ContainsSubstring("targets of 'g' holds 're:(?!a)b': invalid perl operator"));
  CHECK(unsure.group_of("b").empty());
  CHECK_THROWS_MATCHES(make_config(ordered_json::array(), plan_of(fp8_policy::widen), "m"), file_error,
                       MessageMatches(ContainsSubstring("m: config.json is not a JSON object")));
  CHECK_THROWS_MATCHES(make_quantization_config(plan_of(fp8_policy::widen, "experts"), "minimax_m2", "m"), file_error,
                       MessageMatches(ContainsSubstring("m: no tensor is quantised, expected one")));
}

TEST_CASE("quantization_config: names of modules", "[config]") {
  CHECK(module_of("a.b.weight") == "a.b");
  CHECK(module_of("a.b.weight_packed") == "a.b");
  CHECK(module_of("a.b.weight_scale") == "a.b");
  CHECK(module_of("a.experts.gate_up_proj_packed") == "a.experts.gate_up_proj");
  CHECK(module_of("a.b.bias") == "a.b.bias");
  CHECK(vllm_module_name("m.layers.3.block_sparse_moe.experts.7.w1") == "m.layers.3.mlp.experts.7.gate_proj");
  CHECK(vllm_module_name("m.layers.3.block_sparse_moe.experts.7.w2") == "m.layers.3.mlp.experts.7.down_proj");
  CHECK(vllm_module_name("m.layers.3.block_sparse_moe.experts.7.w3") == "m.layers.3.mlp.experts.7.up_proj");
  CHECK(vllm_module_name("m.layers.3.block_sparse_moe.gate") == "m.layers.3.mlp.gate");
  CHECK(vllm_module_name("lm_head") == "lm_head");
  CHECK(vllm_module_name("a.w1") == "a.w1");
}

TEST_CASE("quantization_config: what is left is ignored whatever it is called, and no expert is", "[config]") {
  // A tied model has no lm_head; an encoder's modules stand at the top; experts have the names of a dense layer's.
  linear_modules modules;
  for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
    modules.mxfp4.push_back("model.layers.1.feed_forward.experts.3." + std::string(part));
    modules.left.push_back("model.layers.0.feed_forward." + std::string(part));
  }
  modules.left.insert(modules.left.end(), {"pooler.dense", "classifier", "encoder.layer.0.output.dense", "embed_out"});
  modules.mxfp4.push_back("encoder.layer.0.attention.dense");
  const ordered_json config = make_quantization_config(modules, "c");
  const module_resolver r(config, "c");
  for (const std::string& m : modules.left) CHECK(r.ignores(m));
  for (const std::string& m : modules.mxfp4) CHECK(r.group_of(m) == "group_0");
  for (const char* m : {"lm_head", "bert.pooler.dense"}) CHECK(r.ignores(m));
  for (const ordered_json& entry : config["ignore"]) CHECK(entry != "re:.*\\.gate_proj$");
  // A linear layer is quantised: the class is a target, beside the experts' pattern.
  CHECK(config["config_groups"]["group_0"]["targets"] ==
        ordered_json{"re:.*\\.experts\\.[0-9]+\\.(gate_proj|up_proj|down_proj|w1|w2|w3)$", "Linear"});

  modules.mxfp4.emplace_back("lm_head");
  CHECK_FALSE(module_resolver(make_quantization_config(modules, "c"), "c").ignores("lm_head"));
}

TEST_CASE("quantization_config: experts without a gate, as vLLM asks for them", "[config]") {
  linear_modules modules;
  for (const char* part : {"up_proj", "down_proj"}) modules.mxfp4.push_back(std::string("l.3.mixer.experts.0.") + part);
  const module_resolver without(make_quantization_config(modules, "m"), "m");
  CHECK(without.group_of("l.3.mixer.experts.0.None") == "group_0");

  ordered_json config = {{"quantization_config", make_quantization_config(modules, "m")}};
  const std::vector<stored_module> stored = {{modules.mxfp4[0], storage::mxfp4, weight_role::expert, false, false},
                                             {modules.mxfp4[1], storage::mxfp4, weight_role::expert, false, false}};
  std::string found;
  const finding_function add = [&found](severity, const std::string& where, const std::string& what) {
    found += where + " " + what + "\n";
  };
  check_quantization_config(config, stored, add);
  CHECK(found.empty());
  config["quantization_config"]["config_groups"]["group_0"]["targets"].erase(1);
  check_quantization_config(config, stored, add);
  CHECK(found == "'l.3.mixer.experts.0.None' is not quantised by targets and ignore, but stored MXFP4\n");
  modules.mxfp4.emplace_back("l.3.mixer.experts.0.gate_proj");
  const module_resolver with(make_quantization_config(modules, "m"), "m");
  CHECK(with.group_of("l.3.mixer.experts.0.None").empty());
}

TEST_CASE("quantization_config: a stack stands for its experts", "[config]") {
  linear_modules modules;
  modules.mxfp4 = {"model.layers.0.experts.gate_up_proj", "model.layers.0.experts.down_proj"};
  for (const char* part : {"gate_proj", "up_proj", "down_proj"})
    modules.left.push_back("model.layers.0.mlp." + std::string(part));
  const module_resolver r(make_quantization_config(modules, "c"), "c");
  for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
    CHECK(r.group_of("model.layers.0.experts.0." + std::string(part)) == "group_0");
    CHECK(r.group_of("model.layers.0.experts.7." + std::string(part)) == "group_0");
    CHECK(r.ignores("model.layers.0.mlp." + std::string(part)));
  }
}

TEST_CASE("quantization_config: what a family asks for is ignored, but for what is quantised", "[config]") {
  linear_modules modules;
  modules.mxfp4 = {"encoder.layer.0.intermediate.dense"};
  modules.also_ignored = find_family("bert").also_ignored;
  const ordered_json config = make_quantization_config(modules, "c");
  CHECK(config["ignore"] == ordered_json{"cls.predictions.decoder", "re:(.*\\.)?pooler\\.dense$", "lm_head"});
  modules.mxfp4.emplace_back("pooler.dense");
  CHECK(make_quantization_config(modules, "c")["ignore"] == ordered_json{"cls.predictions.decoder", "lm_head"});
}

TEST_CASE("quantization_config: gpt_oss has that of its own form; text_config's goes", "[config][golden]") {
  const auto tensor = [](const char* name, std::vector<std::int64_t> shape) {
    const std::uint64_t bytes = tensor_bytes(dtype::bf16, shape).value();
    return tensor_info{name, dtype::bf16, std::move(shape), 0, bytes};
  };
  plan_options options;
  options.model_type = "gpt_oss";
  const quantization_plan plan = make_plan({tensor("model.embed_tokens.weight", {64, 96}),
                                            tensor("model.layers.0.self_attn.q_proj.weight", {32, 96}),
                                            tensor("model.layers.1.self_attn.q_proj.weight", {32, 96}),
                                            tensor("model.layers.0.mlp.router.weight", {4, 96}),
                                            tensor("model.layers.0.mlp.experts.gate_up_proj", {4, 96, 128}),
                                            tensor("model.layers.0.mlp.experts.down_proj", {4, 64, 96})},
                                           options, "c")
                                     .value();
  const ordered_json source = {{"model_type", "gpt_oss"},
                               {"text_config", {{"quantization_config", {{"quant_method", "fp8"}}}, {"x", 1}}}};
  const ordered_json config = make_config(source, plan, "c");
  CHECK(config["quantization_config"].dump() ==
        R"({"quant_method":"mxfp4","modules_to_not_convert":["model.embed_tokens",)"
        R"("model.layers.*.self_attn.q_proj","model.layers.*.mlp.router"]})");
  CHECK(config["text_config"].dump() == R"({"x":1})");
}

TEST_CASE("quantization_config: the activations that a server uses are declared", "[config][golden]") {
  // What compressed-tensors 0.20 has under these names, and weights that are the same.
  const auto plan = plan_of(fp8_policy::widen);
  const ordered_json none = make_quantization_config(plan, "minimax_m2", "c");
  for (const auto& [activations, expected] :
       {std::pair{declared_activations::fp8,
                  R"({"num_bits":8,"type":"float","symmetric":true,"group_size":128,"strategy":"group",)"
                  R"("block_structure":null,"dynamic":true,"actorder":null,"scale_dtype":null,"zp_dtype":null,)"
                  R"("observer":null,"observer_kwargs":{}})"},
        std::pair{
            declared_activations::mxfp4,
            R"({"num_bits":4,"type":"float","symmetric":true,"group_size":32,"strategy":"group",)"
            R"("block_structure":null,"dynamic":true,"actorder":null,"scale_dtype":"torch.uint8","zp_dtype":null,)"
            R"("observer":null,"observer_kwargs":{}})"}}) {
    ordered_json config = make_quantization_config(plan, "minimax_m2", "c", activations);
    ordered_json& input = config["config_groups"]["group_0"]["input_activations"];
    CHECK(input.dump() == expected);
    input = nullptr;
    CHECK(config == none);
  }
}

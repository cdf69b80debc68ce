// src/checkpoint/verify_other_forms.cpp -- see verify_other_forms.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/verify_other_forms.hpp"

#include <algorithm>
#include <array>

#include "checkpoint/config_check.hpp"
#include "checkpoint/family.hpp"
#include "checkpoint/quantization_config.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

[[nodiscard]] std::string method_of(const verification& v) {
  return json_text_member(json_member_or_null(v.config, "quantization_config"), "quant_method");
}

void expect(verification& v, const ordered_json& object, const std::string& place, const char* key,
            const ordered_json& expected) {
  if (const std::string problem = unexpected_member(object, place, key, expected); !problem.empty())
    v.error("config", config_file_name, problem);
}

[[nodiscard]] std::vector<std::string> names_in(const ordered_json& list) {
  std::vector<std::string> names;
  if (list.is_array())
    for (const ordered_json& name : list)
      if (name.is_string()) names.push_back(name.get<std::string>());
  return names;
}

/// As transformers 5.24 has it: a name in the list leaves out that module, those in it, and what ends with it.
[[nodiscard]] bool is_left_out(const std::vector<std::string>& names, const std::string& module) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return module.ends_with(name) || (module.starts_with(name) && module[name.size()] == '.');
  });
}

void expect_form(verification& v, weight_form form, const char* program) {
  for (const stored_tensor& t : v.tensors)
    if (t.kind == storage::mxfp4 && t.form != form)
      v.error("config", quote_name(t.name), std::string("is MXFP4 under names that are not ") + program + "'s");
}

void check_fp8(verification& v, const ordered_json& config) {
  const bool fp4_experts = json_member_or_null(config, "expert_dtype") == "fp4";
  if (fp4_experts) expect_form(v, weight_form::deepseek_v4, "DeepSeek-V4");
  plan_options model;
  read_model(v.config, model);
  const model_family& family = find_family(model.model_type);
  const ordered_json list = json_member_or_null(config, "modules_to_not_convert");
  const std::vector<std::string> left_out = names_in(list);
  for (const stored_tensor& t : v.tensors) {
    const std::string module = module_of(t.name);
    const weight_role role = role_of({t.name, t.data->info->type, t.shape}, family);
    if (t.kind == storage::mxfp4 && !fp4_experts)
      v.error("config", quote_name(t.name), "is MXFP4, and quantization_config says FP8 without expert_dtype \"fp4\"");
    if (t.kind == storage::fp8) {
      const scale_grid said = model.fp8_grid.value_or(scale_grid{});
      if (t.fp8_grid != said && t.scale->info->elements() > 1)
        v.error("config", quote_name(t.name),
                "has scales for " + std::to_string(t.fp8_grid.rows) + " x " + std::to_string(t.fp8_grid.cols) +
                    " weights, and weight_block_size says " + std::to_string(said.rows) + " x " +
                    std::to_string(said.cols));
      if (is_left_out(left_out, module))
        v.error("config", quote_name(t.name), "is FP8, and modules_to_not_convert says that it is not");
    }
    const bool is_linear = role == weight_role::expert || role == weight_role::linear || role == weight_role::output;
    if (t.kind == storage::plain && is_linear && list.is_array() && !is_left_out(left_out, module))
      v.error("config", quote_name(t.name),
              std::string("is ") + t.type_name() +
                  ", and modules_to_not_convert does not name it: loaders take it for "
                  "FP8");
  }
}

void check_quark(verification& v, const ordered_json& config) {
  expect_form(v, weight_form::quark, "Quark");
  const ordered_json weight = json_member_or_null(json_member_or_null(config, "global_quant_config"), "weight");
  const std::string place = ".global_quant_config.weight";
  expect(v, weight, place, "dtype", "fp4");
  expect(v, weight, place, "qscheme", "per_group");
  expect(v, weight, place, "group_size", block_size);
  expect(v, weight, place, "scale_format", "e8m0");
  const std::vector<std::string> excluded = names_in(json_member_or_null(config, "exclude"));
  for (const stored_tensor& t : v.tensors)
    if (t.kind == storage::mxfp4 && std::find(excluded.begin(), excluded.end(), module_of(t.name)) != excluded.end())
      v.error("config", quote_name(t.name), "is MXFP4, and exclude says that it is not");
}

void check_auto_round(verification& v, const ordered_json& config) {
  expect_form(v, weight_form::compressed_tensors, "AutoRound");
  expect(v, config, "", "bits", 4);
  expect(v, config, "", "group_size", block_size);
  const ordered_json type = json_member_or_null(config, "data_type");
  if (type != "mx_fp" && type != "mx_fp4" && type != "mx_fp4e2m1")
    v.error("config", config_file_name,
            "quantization_config.data_type is " + json_shown(type) + ", expected \"mx_fp\"");
}

void check_modelopt(verification& v, const ordered_json& config) {
  expect_form(v, weight_form::quark, "ModelOpt");
  expect(v, config, "", "quant_algo", "MXFP4");
}

struct other_program {
  std::string_view method;
  void (*run)(verification& v, const ordered_json& config);
};
constexpr std::array programs = {other_program{"fp8", check_fp8}, other_program{"quark", check_quark},
                                 other_program{"auto-round", check_auto_round},
                                 other_program{"modelopt", check_modelopt}};

}  // namespace

bool is_of_another_program(const verification& v) {
  const std::string method = method_of(v);
  return std::any_of(programs.begin(), programs.end(), [&](const other_program& p) { return p.method == method; });
}

void check_other_config(verification& v) {
  const std::string method = method_of(v);
  for (const other_program& p : programs)
    if (p.method == method) p.run(v, json_member_or_null(v.config, "quantization_config"));
}

}  // namespace mxfp4::checkpoint

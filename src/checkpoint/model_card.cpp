// src/checkpoint/model_card.cpp -- see model_card.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/model_card.hpp"

#include <algorithm>
#include <cstdio>

#include "checkpoint/quantization_config.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

namespace {

using nlohmann::ordered_json;

template <class... Numbers>
[[nodiscard]] std::string formatted(const char* format, Numbers... numbers) {
  char text[120];
  std::snprintf(text, sizeof text, format, numbers...);
  return text;
}

[[nodiscard]] std::string gigabytes(std::uint64_t bytes) {
  return formatted(bytes < 1'000'000'000 ? "%.6f GB" : "%.2f GB", static_cast<double>(bytes) / 1e9);
}

[[nodiscard]] std::string ratio(std::uint64_t before, std::uint64_t after) {
  return after == 0 ? "" : formatted("%.3f x", static_cast<double>(before) / static_cast<double>(after));
}

[[nodiscard]] std::string share(std::int64_t part, std::int64_t all) {
  return formatted("%lld (%.3g %%)", static_cast<long long>(part),
                   all > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0.0);
}

/// A JSON string is a YAML string.
[[nodiscard]] std::string yaml(const std::string& text) {
  return ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

[[nodiscard]] std::string front_matter(const card_options& options, const ordered_json& config) {
  std::string text = "---\nbase_model: " + yaml(options.base_model) +
                     "\nbase_model_relation: quantized\nlicense: " + yaml(options.license) + "\n";
  if (!options.license_name.empty()) text += "license_name: " + yaml(options.license_name) + "\n";
  if (!options.license_link.empty()) text += "license_link: " + yaml(options.license_link) + "\n";
  text += "library_name: transformers\npipeline_tag: text-generation\ntags:\n- mxfp4\n- compressed-tensors\n- vllm\n";
  if (config.is_object() && config.contains("model_type") && config["model_type"].is_string())
    text += "- " + yaml(config["model_type"].get<std::string>()) + "\n";
  return text + "---\n\n";
}

[[nodiscard]] std::string size_table(const quality_report& r) {
  const auto line = [](const std::string& what, std::int64_t tensors, std::uint64_t before, std::uint64_t after) {
    return "| " + what + " | " + std::to_string(tensors) + " | " + gigabytes(before) + " | " + gigabytes(after) +
           " | " + ratio(before, after) + " |\n";
  };
  return "## Size\n\n| | tensors | before | after | ratio |\n|---|---|---|---|---|\n" +
         line("MXFP4", r.quantized_tensors, r.mxfp4_bytes_before, r.mxfp4_bytes_after) +
         line("everything else", r.other_tensors, r.bytes_before - r.mxfp4_bytes_before,
              r.bytes_after - r.mxfp4_bytes_after) +
         line("all", r.quantized_tensors + r.other_tensors, r.bytes_before, r.bytes_after) + "\n";
}

[[nodiscard]] std::string place(const quality_row& r) {
  return "layer " + std::to_string(r.layer) + ", expert " + std::to_string(r.expert);
}

[[nodiscard]] std::string quality_table(const quality_report& r) {
  const error_statistics& s = r.total;
  std::string text =
      "## Quality of the weights\n\nThe error is relative, \\|W - Q\\| / \\|W\\| in the Frobenius norm, W what "
      "the source's readers compute with.\n\n| | |\n|---|---|\n| relative error | " +
      formatted("%.4f", s.relative_error()) + " |\n";
  const auto by_error = [](const quality_row& a, const quality_row& b) {
    return a.statistics.relative_error() < b.statistics.relative_error();
  };
  if (!r.experts.empty()) {
    const auto [best, worst] = std::minmax_element(r.experts.begin(), r.experts.end(), by_error);
    text += "| best expert | " + formatted("%.4f", best->statistics.relative_error()) + " (" + place(*best) + ") |\n";
    text +=
        "| worst expert | " + formatted("%.4f", worst->statistics.relative_error()) + " (" + place(*worst) + ") |\n";
  }
  text += "| cut to the largest code | " + share(s.saturated, s.weights) + " |\n";
  text += "| rounded to zero | " + share(s.zeroed, s.weights) + " |\n";
  text += "| lost (finite before, not representable after) | " + share(s.lost, s.weights) + " |\n";
  return text + "| not finite before | " + share(s.nonfinite, s.weights) + " |\n\n";
}

[[nodiscard]] std::string comparison_table(const measured_quality& q) {
  const auto row = [](const char* what, const std::string& value) {
    return std::string("| ") + what + " | " + value + " |\n";
  };
  const std::string activations =
      q.activations.empty() ? "" : " Its weights were multiplied with activations in " + q.activations + ".";
  return "## Quality on a text\n\n" +
         formatted(
             "%lld tokens in windows of %lld, beside the base model; KLD is KL(base \\|\\| this) of the next token, in "
             "nats.",
             static_cast<long long>(q.tokens), static_cast<long long>(q.context)) +
         activations + "\n\n| | |\n|---|---|\n" +
         row("perplexity of the base model", formatted("%.4f", q.original_perplexity)) +
         row("perplexity", formatted("%.4f (%+.2f %%)", q.perplexity, 100 * q.degradation)) +
         row("KLD, mean", formatted("%.4f", q.kld_mean)) + row("KLD, median", formatted("%.4f", q.kld_median)) +
         row("KLD, 95th percentile", formatted("%.4f", q.kld_p95)) +
         row("KLD, 99th percentile", formatted("%.4f", q.kld_p99)) + row("KLD, largest", formatted("%.4f", q.kld_max)) +
         row("tokens with a KLD above 1", share(q.above_one_nat, q.predictions)) +
         row("same first choice", formatted("%.2f %%", 100 * q.top1_agreement)) + "\n";
}

[[nodiscard]] std::string serving(const card_options& options, const ordered_json& config) {
  return "## How to serve it\n\n" +
         activations_text(config.is_object() ? config.value("quantization_config", ordered_json()) : ordered_json()) +
         "\n\n```sh\nvllm serve " + options.name +
         " --tensor-parallel-size 2\n```\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
         "tokenizer = AutoTokenizer.from_pretrained(\"" +
         options.name +
         "\")\nmodel = "
         "AutoModelForCausalLM.from_pretrained(\"" +
         options.name +
         "\", dtype=\"auto\", device_map=\"auto\")\n```\n\n"
         "transformers needs a version of compressed-tensors that decompresses `mxfp4-pack-quantized`.\n\n";
}

}  // namespace

std::string model_card(const card_options& options, const quality_report& report, const ordered_json& config) {
  std::string text = front_matter(options, config);
  text += "# " + options.name + "\n\n[" + options.base_model + "](https://huggingface.co/" + options.base_model +
          ") with " + std::to_string(report.total.weights) +
          " weights in MXFP4 (OCP Microscaling: 32 weights of 4 bits share "
          "one 8-bit scale, 4.25 bits a weight), in the format `mxfp4-pack-quantized` of compressed-tensors. "
          "Recipe: `" +
          report.recipe + "`" + (report.calibration.empty() ? "" : ", " + report.calibration) + ". ";
  text += report.others == "fp8" ? "Other matrices in FP8 stayed as they are.\n\n"
                                 : "Other matrices in FP8, if any, became BF16; nothing else was changed.\n\n";
  text += size_table(report);
  if (options.measured) text += comparison_table(*options.measured);
  text += quality_table(report);
  if (!options.plots.empty()) {
    text += "## Plots\n\n";
    for (const std::string& plot : options.plots) {
      const std::string file = plot.substr(plot.rfind('/') + 1), title = file.substr(0, file.rfind('.'));
      text += "![" + title + "](" + plot + ")\n\n";
    }
  }
  text += serving(options, config) + "## Licence\n\n";
  text += "That of the base model" + std::string(options.has_license_file ? ": see [LICENSE](LICENSE)" : "") + ".\n";
  return text;
}

}  // namespace mxfp4::checkpoint

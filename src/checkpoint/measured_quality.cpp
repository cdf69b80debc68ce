// src/checkpoint/measured_quality.cpp -- see measured_quality.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/measured_quality.hpp"

#include "io/strict_json.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

measured_quality read_comparison(const std::string& path) {
  const auto json = read_json<nlohmann::ordered_json>(path);
  const auto number = [&path](const auto& object, const char* key, const char* place) {
    return json_value<double>(object, key, path, place);
  };
  measured_quality q;
  q.tokens = json_value<std::int64_t>(json, "tokens", path, "");
  q.context = json_value<std::int64_t>(json, "context", path, "");
  q.activations = json_text_member(json, "activations");  // goes into Markdown
  if (q.activations.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos)
    throw file_error({.file = path, .value = "activations is " + quote_name(q.activations), .expected = "a name"});
  q.original_perplexity = number(json_member(json, "original", path, ""), "perplexity", "original");
  for (const auto& target : json_array(json, "targets", path, "")) {
    if (!json_member(target, "recipe", path, "targets").is_null())
      continue;  // quantised on the way: not the checkpoint that the card is for
    const auto& kld = json_member(target, "kld", path, "targets");
    q.predictions = json_value<std::int64_t>(target, "predictions", path, "targets");
    q.perplexity = number(target, "perplexity", "targets");
    q.degradation = number(target, "degradation", "targets");
    q.above_one_nat = json_value<std::int64_t>(target, "tokens_above_one_nat", path, "targets");
    q.top1_agreement = number(target, "top1_agreement", "targets");
    q.kld_mean = number(kld, "mean", "targets.kld");
    q.kld_median = number(kld, "median", "targets.kld");
    q.kld_p95 = number(kld, "p95", "targets.kld");
    q.kld_p99 = number(kld, "p99", "targets.kld");
    q.kld_max = number(kld, "max", "targets.kld");
    return q;
  }
  throw file_error({.file = path, .value = "compares no checkpoint", .expected = "mxfp4 compare ORIGINAL QUANTISED"});
}

}  // namespace mxfp4::checkpoint

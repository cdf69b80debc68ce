// src/checkpoint/measured_quality.cpp -- see measured_quality.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/measured_quality.hpp"

#include "io/strict_json.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

measured_quality read_comparison(const std::string& path) {
  const auto json = read_json<nlohmann::ordered_json>(path);
  try {
    measured_quality q;
    json.at("tokens").get_to(q.tokens);
    json.at("context").get_to(q.context);
    json.at("original").at("perplexity").get_to(q.original_perplexity);
    for (const auto& target : json.at("targets")) {
      if (!target.at("recipe").is_null()) continue;  // quantised on the way: not the checkpoint that the card is for
      const auto& kld = target.at("kld");
      target.at("predictions").get_to(q.predictions);
      target.at("perplexity").get_to(q.perplexity);
      target.at("degradation").get_to(q.degradation);
      target.at("tokens_above_one_nat").get_to(q.above_one_nat);
      target.at("top1_agreement").get_to(q.top1_agreement);
      kld.at("mean").get_to(q.kld_mean);
      kld.at("median").get_to(q.kld_median);
      kld.at("p95").get_to(q.kld_p95);
      kld.at("p99").get_to(q.kld_p99);
      kld.at("max").get_to(q.kld_max);
      return q;
    }
  } catch (const nlohmann::json::exception& error) {
    throw file_error(
        {.file = path, .value = "is not what mxfp4 compare writes", .expected = "its --json", .advice = error.what()});
  }
  throw file_error({.file = path, .value = "compares no checkpoint", .expected = "mxfp4 compare ORIGINAL QUANTISED"});
}

}  // namespace mxfp4::checkpoint

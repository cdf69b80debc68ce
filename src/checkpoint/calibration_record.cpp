// src/checkpoint/calibration_record.cpp -- see calibration_record.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/calibration_record.hpp"

#include <cstdio>
#include <cstdlib>

#include "checkpoint/quantize_journal.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

std::optional<calibration_record> read_calibration(const ordered_json& settings, const std::string& path) {
  if (!settings.is_object() || !settings.contains("calibration")) return std::nullopt;
  constexpr const char* place = "settings.calibration";
  const ordered_json& found = settings.at("calibration");
  calibration_record c;
  c.method = json_value<std::string>(found, "method", path, place);
  c.text = json_value<std::string>(found, "text", path, place);
  c.tokens = json_value<std::int64_t>(found, "tokens", path, place);
  c.context = json_value<std::int64_t>(found, "context", path, place);
  for (const ordered_json& print : json_array(found, "fingerprints", path, place))
    if (print.is_string()) c.fingerprints.push_back(print.get<std::string>());
  return c;
}

std::optional<calibration_record> calibration_of(const std::string& directory) {
  const ordered_json head = read_report_head(directory);
  return head.is_object() ? read_calibration(head.value("settings", ordered_json()), directory + "/" + report_file_name)
                          : std::nullopt;
}

double rounded_fact(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return std::strtod(text, nullptr);
}

std::string calibration_text(const calibration_record& c) {
  if (c.method == "imatrix")
    return "chosen by an importance matrix of llama.cpp with the hash " + c.text +
           (c.tokens > 0 ? ", of " + std::to_string(c.tokens) + " tokens" : "");
  return "calibrated on " + std::to_string(c.tokens) + " tokens in windows of " + std::to_string(c.context) +
         ", of a text with the hash " + c.text;
}

std::unordered_map<std::string, std::string> read_plain_hashes(const ordered_json& report, const std::string& path) {
  std::unordered_map<std::string, std::string> hashes;
  for (const ordered_json& entry : json_array(report, "quantized", path, "")) {
    if (!entry.is_object() || !entry.contains("calibration")) continue;
    constexpr const char* place = "quantized.calibration";
    const ordered_json& facts = entry.at("calibration");
    const ordered_json& plain = json_member(facts, "plain", path, place);
    if (!plain.is_object() || plain.size() != 2) fail_member(plain, "plain", "two tensors' hashes", path, place);
    for (const auto& [tensor, hash] : plain.items())
      hashes[tensor] = json_value<std::string>(plain, tensor.c_str(), path, "plain");
  }
  return hashes;
}

}  // namespace mxfp4::checkpoint

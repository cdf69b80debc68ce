// src/checkpoint/quality_report.cpp -- see quality_report.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/quality_report.hpp"

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <string_view>

#include "checkpoint/calibration_record.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "checkpoint/sealed_json.hpp"
#include "checkpoint/statistics_json.hpp"
#include "checkpoint/written_files.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/quantize.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

/// The number behind "layers." or "experts." in a name, or -1.
[[nodiscard]] std::int64_t number_behind(std::string_view name, std::string_view word) {
  const std::size_t at = name.find(word);
  if (at == std::string_view::npos || (at > 0 && name[at - 1] != '.')) return -1;
  const std::string_view text = name.substr(at + word.size());
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = end == text.data() + text.size() || *end == '.';
  return error == std::errc{} && is_whole && value >= 0 ? value : -1;
}

[[nodiscard]] matrix_calibration read_matrix_calibration(const ordered_json& facts, const std::string& file) {
  constexpr const char* place = "quantized.calibration";
  matrix_calibration c;
  if (facts.contains("tokens")) c.tokens = json_value<std::int64_t>(facts, "tokens", file, place);
  else c.tokens = -1;
  if (c.tokens < 0 && facts.contains("tokens"))
    fail_member(facts.at("tokens"), "tokens", "a number from 0 on", file, place);
  if (c.tokens == 0) return c;
  if (facts.contains("objective")) c.objective = json_value<double>(facts, "objective", file, place);
  if (!(c.objective >= 0)) fail_member(facts.at("objective"), "objective", "a number from 0 on", file, place);
  if (!facts.contains("rows_kept")) return c;
  c.rows = json_value<std::int64_t>(facts, "rows", file, place);
  if (c.rows < 0) fail_member(facts.at("rows"), "rows", "a number from 0 on", file, place);
  c.kept = json_value<std::int64_t>(facts, "rows_kept", file, place);
  if (c.kept < 0 || c.kept > c.rows)
    fail_member(facts.at("rows_kept"), "rows_kept", "no more than the matrix has", file, place);
  return c;
}

[[nodiscard]] quality_row read_matrix(const ordered_json& entry, const std::string& file) {
  constexpr const char* place = "quantized";
  quality_row row;
  row.name = json_value<std::string>(entry, "name", file, place);
  const std::string module = module_of(row.name);
  row.part = module.substr(module.rfind('.') + 1);
  row.layer = number_behind(row.name, "layers.");
  row.expert = entry.contains("expert") ? json_value<std::int64_t>(entry, "expert", file, place)
                                        : number_behind(row.name, "experts.");
  row.type = json_value<std::string>(entry, "dtype", file, place);
  row.statistics = statistics_from_json(entry, file, place);
  if (entry.contains("calibration")) row.calibration = read_matrix_calibration(entry.at("calibration"), file);
  return row;
}

/// Experts carry no histogram of their own.
[[nodiscard]] quality_row read_expert(ordered_json entry, const std::string& file) {
  constexpr const char* place = "experts";
  quality_row row;
  row.name = json_value<std::string>(entry, "module", file, place);
  row.layer = json_value<std::int64_t>(entry, "layer", file, place);
  row.expert = json_value<std::int64_t>(entry, "expert", file, place);
  if (!entry.contains("scale_histogram")) entry["scale_histogram"] = ordered_json::object();
  row.statistics = statistics_from_json(entry, file, place);
  return row;
}

[[nodiscard]] std::string quoted(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string text = "\"";
  for (const char c : cell) text += c == '"' ? "\"\"" : std::string(1, c);
  return text + "\"";
}

/// Enough digits to read the same double back.
[[nodiscard]] std::string exact(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

[[nodiscard]] std::string statistics_cells(const error_statistics& s) {
  return std::to_string(s.weights) + "," + exact(s.relative_error()) + "," + exact(s.max_error) + "," +
         std::to_string(s.saturated) + "," + std::to_string(s.zeroed) + "," + std::to_string(s.lost) + "," +
         std::to_string(s.nonfinite) + "," + std::to_string(s.nan_blocks) + "\n";
}
constexpr const char* statistics_titles =
    "weights,relative_error,max_error,saturated,zeroed,lost,nonfinite,nan_blocks\n";

}  // namespace

file_result<quality_report> read_quality_report(const std::string& path) {
  return guarded([&]() -> quality_report {
    std::error_code error;
    const std::string file = std::filesystem::is_directory(path, error) ? path + "/" + report_file_name : path;
    require_finished(path);
    const std::string text = read_json_text(file);
    const auto json = parse_json<ordered_json>(text, file);
    if (json.is_object() && json.contains("hash")) require_seal(text, file);
    quality_report r;
    const ordered_json& settings = json_member(json, "settings", file, "");
    r.recipe = json_value<std::string>(settings, "recipe", file, "settings");
    r.others = json_value<std::string>(settings, "others", file, "settings");
    if (const auto calibration = read_calibration(settings, file)) {
      r.calibration = calibration_text(*calibration);
      r.calibration_method = calibration->method;
    }
    for (const ordered_json& entry : json_array(json, "quantized", file, "")) {
      r.matrices.push_back(read_matrix(entry, file));
      r.mxfp4_bytes_before += json_value<std::uint64_t>(entry, "bytes", file, "quantized");
      r.mxfp4_bytes_after += json_value<std::uint64_t>(entry, "mxfp4_bytes", file, "quantized");
    }
    for (const ordered_json& entry : json_array(json, "experts", file, ""))
      r.experts.push_back(read_expert(entry, file));
    const ordered_json& total = json_member(json, "total", file, "");
    r.total = statistics_from_json(total, file, "total");
    r.quantized_tensors = json_value<std::int64_t>(total, "tensors", file, "total");
    r.other_tensors = std::ssize(json_array(json, "copied", file, ""));
    const auto bytes = [&](const char* key, std::uint64_t least) {
      const auto value = json_value<std::uint64_t>(total, key, file, "total");
      if (value < least) fail_member(total.at(key), key, "no less than the quantised tensors have", file, "total");
      return value;
    };
    r.bytes_before = bytes("bytes_before", r.mxfp4_bytes_before);
    r.bytes_after = bytes("bytes_after", r.mxfp4_bytes_after);
    return r;
  });
}

std::string matrices_csv(const quality_report& report) {
  std::string text = std::string("name,layer,expert,part,dtype,") + statistics_titles;
  for (const quality_row& r : report.matrices)
    text += quoted(r.name) + "," + std::to_string(r.layer) + "," + std::to_string(r.expert) + "," + quoted(r.part) +
            "," + quoted(r.type) + "," + statistics_cells(r.statistics);
  return text;
}

std::string experts_csv(const quality_report& report) {
  std::string text = std::string("module,layer,expert,") + statistics_titles;
  for (const quality_row& r : report.experts)
    text += quoted(r.name) + "," + std::to_string(r.layer) + "," + std::to_string(r.expert) + "," +
            statistics_cells(r.statistics);
  return text;
}

std::string scales_csv(const quality_report& report) {
  std::string text = "byte,exponent,blocks\n";
  for (std::size_t byte = 0; byte < report.total.scales.size(); ++byte)
    if (report.total.scales[byte] > 0)
      text += std::to_string(byte) + "," + (byte == 255 ? "nan" : std::to_string(static_cast<int>(byte) - 127)) + "," +
              std::to_string(report.total.scales[byte]) + "\n";
  return text;
}

}  // namespace mxfp4::checkpoint

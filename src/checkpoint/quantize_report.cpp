// src/checkpoint/quantize_report.cpp -- the report of a shard, and mxfp4_report.json, which they add up to.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

#include "checkpoint/calibration_record.hpp"
#include "checkpoint/expert_stack.hpp"
#include "checkpoint/quantize_journal.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "checkpoint/sealed_json.hpp"
#include "io/content_hash.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

[[nodiscard]] ordered_json describe(const tensor_info& t) {
  return {{"name", t.name}, {"dtype", dtype_name(t.type)}, {"shape", t.shape}};
}

/// A matrix that was quantised: of a stack that was taken apart under the name it has now.
[[nodiscard]] ordered_json describe(const planned_tensor& t, std::int64_t matrix) {
  ordered_json entry = describe(t.source);
  if (!t.stack) return entry;
  if (t.source.shape.size() == 2) {
    entry["shape"] = {t.stack->rows, t.stack->cols};
  } else if (t.outputs.size() == 2) {
    entry["expert"] = matrix;
  } else {
    entry["name"] = matrix_name(t.source.name, *t.stack, matrix);
    entry["shape"] = {t.stack->rows, t.stack->cols};
  }
  return entry;
}

/// An expert: the module that holds it, the number of its layer (-1: none in the name), its own number.
struct expert_key {
  std::int64_t layer = -1;
  std::string module;
  std::int64_t expert = -1;

  bool operator<(const expert_key& other) const {
    return std::tie(layer, module, expert) < std::tie(other.layer, other.module, other.expert);
  }
};

/// The number that stands before the next '.', or -1.
[[nodiscard]] std::int64_t number_at(std::string_view text) {
  std::int64_t value = -1;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool ends = stop == text.data() + text.size() || *stop == '.';
  return error == std::errc{} && ends && value >= 0 ? value : -1;
}

/// "model.layers.3.mlp.experts.17.w1.weight", or of a stack "model.layers.3.mlp.experts.down_proj" and `matrix`.
/// expert = -1 where the name is that of no expert.
[[nodiscard]] expert_key expert_of(std::string_view name, std::int64_t matrix) {
  expert_key key;
  constexpr std::string_view experts = "experts.", layers = "layers.";
  const std::size_t at = name.rfind(experts);
  if (at == std::string_view::npos || (at > 0 && name[at - 1] != '.')) return key;
  key.module = name.substr(0, at + experts.size() - 1);
  key.expert = matrix >= 0 ? matrix : number_at(name.substr(at + experts.size()));
  const std::size_t layer = name.find(layers);
  if (layer != std::string_view::npos) key.layer = number_at(name.substr(layer + layers.size()));
  return key;
}

/// Appends to a sealed file (sealed_json.hpp), one line for each key, that gets its name at the end.
class text_output {
 public:
  text_output(const std::string& path, const stop_function& stop)
      : file_(output_file::create(path, stop, existing_file::replace_link).value()) {}

  void operator<<(std::string_view text) {
    hash_.add(text);
    file_.write(at_, std::as_bytes(std::span(text))).value();
    at_ += text.size();
  }
  void add(const std::string& key, const ordered_json& value) {
    *this << (at_ == 0 ? "{\n" : ",\n") + ordered_json(key).dump() + ": " + value.dump();
  }
  void commit() {
    *this << seal(hash_.text());
    file_.commit().value();
  }

 private:
  output_file file_;
  content_hash hash_;
  std::uint64_t at_ = 0;
};

/// One element a line, so that the report of a large model can be read by line tools too.
class array_output {
 public:
  array_output(text_output& out, const std::string& name) : out_(out) { out_ << ",\n\"" + name + "\": ["; }
  void add(const ordered_json& element) {
    out_ << (empty_ ? "\n" : ",\n") + element.dump();
    empty_ = false;
  }
  void end() { out_ << "\n]"; }

 private:
  text_output& out_;
  bool empty_ = true;
};

void add(text_output& out, const std::string& key, const ordered_json& value) {
  if (!value.is_array()) {
    out.add(key, value);
    return;
  }
  array_output lines(out, key);
  for (const ordered_json& element : value) lines.add(element);
  lines.end();
}

}  // namespace

ordered_json make_shard_report(const quantization_plan& plan, std::span<const std::size_t> tensors,
                               std::span<const matrix_statistics> matrices, const std::string& file,
                               const safetensors_writer& written, const tensor_hashes& hashes,
                               const code_source* codes) {
  ordered_json quantized = ordered_json::array(), copied = ordered_json::array();
  error_statistics sum;
  for (const matrix_statistics& m : matrices) {
    const planned_tensor& t = plan.tensors[m.tensor];
    const auto stack = static_cast<std::uint64_t>(m.matrix < 0 ? 1 : t.source.elements() / m.statistics.weights);
    ordered_json entry = describe(t, m.matrix);
    entry["bytes"] = input_bytes(plan, t) / stack;
    entry["mxfp4_bytes"] = t.output_bytes() / stack;
    entry.update(to_json(m.statistics));
    if (codes != nullptr && codes->has(t.source.name)) {
      ordered_json facts =
          ordered_json::parse(codes->facts(t.source.name, m.matrix < 0 ? -1 : m.matrix / t.stack->parts));
      if (m.costs.plain > 0) facts["objective"] = rounded_fact(m.costs.chosen / m.costs.plain);
      const std::size_t output = t.output_of(std::max<std::int64_t>(m.matrix, 0));
      facts["plain"] = {{t.outputs[output].name, m.plain_codes}, {t.outputs[output + 1].name, m.plain_scales}};
      entry["calibration"] = std::move(facts);
    }
    quantized.push_back(std::move(entry));
    sum += m.statistics;
  }
  std::size_t quantized_tensors = 0;
  std::uint64_t before = 0, after = 0;
  for (const std::size_t i : tensors) {
    const planned_tensor& t = plan.tensors[i];
    before += input_bytes(plan, t);
    after += t.output_bytes();
    if (t.action == tensor_action::quantize) {
      ++quantized_tensors;
      continue;
    }
    ordered_json entry = describe(t.source);
    entry["bytes"] = t.output_bytes();
    entry["action"] = action_name(t.action);
    entry["reason"] = t.reason;
    copied.push_back(std::move(entry));
  }
  ordered_json total = {{"tensors", quantized_tensors}, {"bytes_before", before}, {"bytes_after", after}};
  total.update(to_json(sum));
  ordered_json report = recorded_content(file, written, hashes);
  report["quantized"] = std::move(quantized);
  report["copied"] = std::move(copied);
  report["total"] = std::move(total);
  return report;
}

ordered_json read_shard_report(const std::string& path) {
  ordered_json report = read_sealed(path);
  static_cast<void>(json_value<std::string>(report, "file", path, ""));
  static_cast<void>(json_value<std::string>(report, "header", path, ""));
  for (const char* const key : {"bytes", "tensors"})
    static_cast<void>(json_value<std::uint64_t>(report, key, path, ""));
  for (const ordered_json& entry : json_array(report, "tensor_hashes", path, ""))
    for (const char* const key : {"name", "hash"})
      static_cast<void>(json_value<std::string>(entry, key, path, "tensor_hashes"));
  return report;
}

void add_shard_report(checkpoint_result& result, const ordered_json& report, const std::string& path) {
  const ordered_json& total = json_member(report, "total", path, "");
  result.quantized += json_value<std::size_t>(total, "tensors", path, "total");
  result.other += json_array(report, "copied", path, "").size();
  result.bytes_before += json_value<std::uint64_t>(total, "bytes_before", path, "total");
  result.bytes_after += json_value<std::uint64_t>(total, "bytes_after", path, "total");
  for (const ordered_json& entry : json_array(report, "quantized", path, ""))
    result.total += statistics_from_json(entry, path, "quantized");
}

ordered_json report_head(const ordered_json& manifest) {
  const ordered_json source = without_times(manifest).at("source");
  file_names files = {index_file_name, report_file_name};
  for (const ordered_json& shard : manifest.at("shards")) files.insert(shard.at("file"));
  for (const ordered_json& file : manifest.at("files")) files.insert(file);
  return {{"format", "mxfp4 report"},
          {"version", hashed_version},
          {"settings", manifest.at("settings")},
          {"source", source},
          {"files", files}};
}

checkpoint_result write_report(const std::string& out, const ordered_json& manifest, const quantize_journal& journal,
                               const std::string& index, const stop_function& stop) {
  text_output file(out + "/" + report_file_name, stop);
  const ordered_json head = report_head(manifest);
  for (const auto& [key, value] : head.items()) add(file, key, value);
  checkpoint_result result;
  std::map<expert_key, error_statistics> experts;
  const auto for_each_report = [&](const auto& body) {
    for (const ordered_json& shard : manifest.at("shards")) {
      const std::string path = journal.report_path(shard.at("file"));
      body(read_shard_report(path), path);
    }
  };
  array_output files(file, "file_hashes");
  for (const ordered_json& small : manifest.at("file_hashes")) files.add(small);
  files.add({{"file", index_file_name}, {"bytes", index.size()}, {"hash", hash_of(index)}});
  for_each_report([&](const ordered_json& report, const std::string&) {
    files.add({{"file", report.at("file")}, {"bytes", report.at("bytes")}, {"header", report.at("header")}});
  });
  files.end();
  array_output quantized(file, "quantized");
  for_each_report([&](const ordered_json& report, const std::string& path) {
    add_shard_report(result, report, path);
    for (const ordered_json& entry : report.at("quantized")) {
      quantized.add(entry);
      const std::int64_t matrix =
          entry.contains("expert") ? json_value<std::int64_t>(entry, "expert", path, "quantized") : -1;
      const expert_key key = expert_of(json_value<std::string>(entry, "name", path, "quantized"), matrix);
      if (key.expert >= 0) experts[key] += statistics_from_json(entry, path, "quantized");
    }
  });
  quantized.end();
  array_output by_expert(file, "experts");
  for (const auto& [key, statistics] : experts) {
    ordered_json entry = {{"module", key.module}, {"layer", key.layer}, {"expert", key.expert}};
    entry.update(to_json(statistics));
    entry.erase("scale_histogram");
    by_expert.add(entry);
  }
  by_expert.end();
  array_output copied(file, "copied");
  for_each_report([&](const ordered_json& report, const std::string&) {
    for (const ordered_json& entry : report.at("copied")) copied.add(entry);
  });
  copied.end();
  array_output tensors(file, "tensor_hashes");
  for_each_report([&](const ordered_json& report, const std::string&) {
    for (const ordered_json& entry : report.at("tensor_hashes")) tensors.add(entry);
  });
  tensors.end();
  ordered_json total = {
      {"tensors", result.quantized}, {"bytes_before", result.bytes_before}, {"bytes_after", result.bytes_after}};
  total.update(to_json(result.total));
  file.add("total", total);
  file.commit();
  return result;
}

void rewrite_report(const std::string& path, const ordered_json& report) {
  text_output file(path, {});
  for (const auto& [key, value] : report.items()) add(file, key, value);
  file.commit();
}

ordered_json read_report_head(const std::string& out) {
  const std::string path = out + "/" + report_file_name;
  if (!is_file(path)) return nullptr;
  const ordered_json head =
      parse_json_members(read_json_text(path), path, {"format", "version", "settings", "source", "files"});
  if (!head.is_object())
    throw file_error({.file = path, .value = "is not a report of mxfp4 quantize", .advice = "name a fresh directory"});
  return head;
}

}  // namespace mxfp4::checkpoint

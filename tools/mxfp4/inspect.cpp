// tools/mxfp4/inspect.cpp -- mxfp4 inspect: what is in a safetensors file, a directory, a tensor.
// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "command.hpp"
#include "inspect_checkpoint.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct inspect_command {
  std::string file, tensor;
  bool json = false;

  void describe(command_line& command) {
    command.add_option("FILE", file, "A .safetensors or .gguf file, or a checkpoint's directory")
        .required()
        .type_name("PATH");
    command.add_option("TENSOR", tensor, "One of its tensors: range, histograms of codes and scales").type_name("NAME");
    command.footer("A pair X_packed U8 [rows, cols/2], X_scale U8 [rows, cols/32] is shown as one MXFP4 tensor X.");
  }
};

struct row {
  std::string name, type;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes = 0;
  std::optional<stored_scale_range> scales;  // of MXFP4
  std::string note;
};

struct kind_of_file {
  std::int64_t tensors = 0;
  std::uint64_t bytes = 0;
};

[[nodiscard]] std::vector<row> list_tensors(const safetensors_reader& file) {
  const std::vector<mxfp4_tensor> pairs = find_mxfp4_tensors(file);
  std::unordered_map<const tensor_info*, const mxfp4_tensor*> by_packed;
  std::unordered_set<const tensor_info*> scales;
  for (const mxfp4_tensor& p : pairs) {
    by_packed[p.packed] = &p;
    scales.insert(p.scale);
  }
  std::uint64_t scale_bytes = 0, done = 0;
  for (const mxfp4_tensor& p : pairs) scale_bytes += p.scale->bytes();
  progress_line line;
  std::vector<row> rows;
  for (const tensor_info& t : file.header().tensors) {
    if (const auto found = by_packed.find(&t); found != by_packed.end()) {
      const mxfp4_tensor& p = *found->second;
      rows.push_back({p.name, "MXFP4", {p.rows, p.cols}, p.bytes(), read_stored_scale_range(file, p).value(), ""});
      line.update(done += p.scale->bytes(), scale_bytes);
    } else if (!scales.contains(&t)) {
      rows.push_back({t.name, dtype_name(t.type), t.shape, t.bytes(), std::nullopt, why_no_pair(file, t)});
    }
  }
  return rows;
}

[[nodiscard]] bool has_scales(const stored_scale_range& s) { return s.smallest <= s.largest; }

[[nodiscard]] ordered_json json_of(const row& r) {
  ordered_json entry = {{"name", r.name}, {"dtype", r.type}, {"shape", r.shape}, {"bytes", r.bytes}};
  if (r.scales) {
    entry["scale_min"] = has_scales(*r.scales) ? ordered_json(r.scales->smallest) : ordered_json(nullptr);
    entry["scale_max"] = has_scales(*r.scales) ? ordered_json(r.scales->largest) : ordered_json(nullptr);
    entry["nan_blocks"] = r.scales->nan;
  }
  if (!r.note.empty()) entry["note"] = r.note;
  return entry;
}

void run(const inspect_command& command) {
  std::error_code error;
  if (!command.tensor.empty()) return inspect_tensor(command.file, command.tensor, command.json);
  if (command.file.ends_with(".gguf")) return inspect_gguf(command.file, command.json);
  if (std::filesystem::is_directory(command.file, error)) return inspect_directory(command.file, command.json);
  const safetensors_reader file = safetensors_reader::open(command.file).value();
  const std::vector<row> rows = list_tensors(file);
  file.require_unchanged().value();
  std::map<std::string, kind_of_file> kinds;
  for (const row& r : rows) {
    ++kinds[r.type].tensors;
    kinds[r.type].bytes += r.bytes;
  }
  if (command.json) {
    ordered_json tensors = ordered_json::array(), by_kind = ordered_json::object();
    for (const row& r : rows) tensors.push_back(json_of(r));
    for (const auto& [name, k] : kinds) by_kind[name] = {{"tensors", k.tensors}, {"bytes", k.bytes}};
    print(ordered_json{{"command", "inspect"},
                       {"file", command.file},
                       {"file_bytes", file.file_bytes()},
                       {"metadata", file.header().extra ? ordered_json(*file.header().extra) : ordered_json(nullptr)},
                       {"tensors", tensors},
                       {"kinds", by_kind}});
    return;
  }
  table t({{"tensor"},
           {"dtype"},
           {"shape"},
           {"bytes", align::right},
           {"scale bytes", align::right},
           {"NaN blocks", align::right},
           {"note"}});
  for (const row& r : rows) {
    const std::string range = !r.scales || !has_scales(*r.scales)
                                  ? ""
                                  : std::to_string(r.scales->smallest) + ".." + std::to_string(r.scales->largest);
    t.add({printable(r.name), r.type, shape_text(r.shape), std::to_string(r.bytes), range,
           r.scales ? std::to_string(r.scales->nan) : "", r.note});
  }
  table sizes({{"kind"}, {"tensors", align::right}, {"size", align::right}});
  for (const auto& [name, k] : kinds) sizes.add({name, std::to_string(k.tensors), size_text(k.bytes)});
  std::string text = t.empty() ? "no tensors\n" : t.text() + '\n' + sizes.text();
  if (file.header().extra)
    for (const auto& [key, value] : *file.header().extra)
      text += "\nmetadata " + printable(key) + ": " + printable(value);
  print(text + (file.header().extra && !file.header().extra->empty() ? "\n\n" : "\n") + command.file + ": " +
        size_text(file.file_bytes()) + "\n");
}

}  // namespace

void add_inspect(program& app) {
  add_command<inspect_command>(app, "inspect",
                               "Show what is in a safetensors file, a checkpoint's directory, or a tensor", run);
}

}  // namespace mxfp4::tools

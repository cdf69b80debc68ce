// tools/mxfp4/inspect_checkpoint.cpp -- mxfp4 inspect of a directory, a GGUF, and of one tensor.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <map>

#include "checkpoint/weight_source.hpp"
#include "command.hpp"
#include "inspect_checkpoint.hpp"
#include "mxfp4/checkpoint/tensor_summary.hpp"
#include "mxfp4/core/e2m1.hpp"
#include "mxfp4/io/gguf_file.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

[[nodiscard]] std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

/// One line of a histogram: "label  count  share  ####".
class histogram {
 public:
  explicit histogram(const std::string& title)
      : table_({{title}, {"count", align::right}, {"share", align::right}, {""}}) {}

  void add(const std::string& label, std::int64_t count) { rows_.push_back({label, count}); }

  [[nodiscard]] std::string text() {
    std::int64_t largest = 1, sum = 0;
    for (const auto& [label, count] : rows_) {
      largest = std::max(largest, count);
      sum += count;
    }
    constexpr double longest = 50;
    for (const auto& [label, count] : rows_) {
      const auto bar =
          static_cast<std::size_t>(longest * static_cast<double>(count) / static_cast<double>(largest) + 0.5);
      table_.add(
          {label, std::to_string(count),
           number("%.2f %%", 100.0 * static_cast<double>(count) / static_cast<double>(std::max<std::int64_t>(sum, 1))),
           std::string(bar, '#')});
    }
    return table_.text();
  }

 private:
  table table_;
  std::vector<std::pair<std::string, std::int64_t>> rows_;
};

[[nodiscard]] ordered_json json_of(const stored_tensor& t, const tensor_summary& s) {
  ordered_json report = {{"name", t.name},          {"dtype", t.type_name()},      {"shape", t.shape},
                         {"bytes", t.bytes()},      {"elements", s.elements},      {"largest", s.largest},
                         {"mean", s.mean()},        {"rms", s.root_mean_square()}, {"zeros", s.zeros},
                         {"nonfinite", s.nonfinite}};
  if (t.kind == storage::mxfp4) {
    report["codes"] = s.codes;
    ordered_json scales = ordered_json::object();
    for (std::size_t byte = 0; byte < s.scales.size(); ++byte)
      if (s.scales[byte] > 0) scales[std::to_string(byte)] = s.scales[byte];
    report["scales"] = std::move(scales);
  }
  return report;
}

[[nodiscard]] std::string text_of(const stored_tensor& t, const tensor_summary& s) {
  std::string text = printable(t.name) + ": " + t.type_name() + " " + shape_text(t.shape) + ", " +
                     size_text(t.bytes()) + "\n" + count_text(s.elements, "weight") + ", largest magnitude " +
                     error_text(s.largest) + ", mean " + error_text(s.mean()) + ", rms " +
                     error_text(s.root_mean_square()) + ", " + std::to_string(s.zeros) + " zero, " +
                     std::to_string(s.nonfinite) + " not finite\n";
  if (t.kind != storage::mxfp4) return text;
  histogram codes("code");
  for (unsigned code = 0; code < 16; ++code) {  // from -6 to 6
    const unsigned c = code < 8 ? 15 - code : code - 8;
    codes.add((c >= 8 ? "-" : "+") + number("%g", static_cast<double>(decode(static_cast<e2m1>(c & 7u)))), s.codes[c]);
  }
  histogram scales("scale");
  std::size_t first = 0, last = s.scales.size();
  while (first < last && s.scales[first] == 0) ++first;
  while (last > first && s.scales[last - 1] == 0) --last;
  for (std::size_t byte = first; byte < last; ++byte)
    scales.add(byte == 255 ? "255: NaN" : std::to_string(byte) + ": 2^" + std::to_string(static_cast<int>(byte) - 127),
               s.scales[byte]);
  return text + '\n' + codes.text() + '\n' + scales.text();
}

/// Tensors by type, and all of them.
class kinds {
 public:
  void add(const std::string& type, std::int64_t elements, std::uint64_t bytes) {
    for (kind* k : {&by_type_[type], &all_}) {
      ++k->tensors;
      k->elements += elements;
      k->bytes += bytes;
    }
  }

  [[nodiscard]] std::uint64_t bytes() const { return all_.bytes; }
  [[nodiscard]] std::string bits() const { return bits_text(bits_per_weight(all_.bytes, all_.elements)); }

  [[nodiscard]] ordered_json json() const {
    ordered_json json = ordered_json::object();
    for (const auto& [type, k] : by_type_)
      json[type] = {{"tensors", k.tensors}, {"elements", k.elements}, {"bytes", k.bytes}};
    return json;
  }

  [[nodiscard]] std::string text() const {
    table sizes({{"kind"},
                 {"tensors", align::right},
                 {"elements", align::right},
                 {"size", align::right},
                 {"bits", align::right}});
    for (const auto& [type, k] : by_type_)
      sizes.add({type, std::to_string(k.tensors), std::to_string(k.elements), size_text(k.bytes),
                 bits_text(bits_per_weight(k.bytes, k.elements))});
    return sizes.text() + "\n";
  }

 private:
  struct kind {
    std::int64_t tensors = 0, elements = 0;
    std::uint64_t bytes = 0;
  };
  std::map<std::string, kind> by_type_;
  kind all_;
};

}  // namespace

void inspect_tensor(const std::string& path, const std::string& name, bool json) {
  const checkpoint_reader in = checkpoint_reader::open(path).value();
  const std::vector<stored_tensor> tensors = stored_tensors(in);
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const stored_tensor& t) { return t.name == name || t.data->info->name == name; });
  if (found == tensors.end())
    throw file_error(
        {.file = path, .value = "has no tensor " + quote_name(name), .expected = "one of those that inspect lists"});
  tensor_summary summary;
  {
    progress_line line;
    summary =
        summarize(in, *found, [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total); }).value();
  }
  for (std::size_t i = 0; i < in.shards().size(); ++i) in.shard(i).require_unchanged().value();
  if (json) {
    ordered_json report = {{"command", "inspect"}, {"file", path}};
    report["tensor"] = json_of(*found, summary);
    print(report);
  } else {
    print(text_of(*found, summary));
  }
}

void inspect_directory(const std::string& path, bool json) {
  const checkpoint_reader in = checkpoint_reader::open(path).value();
  kinds by_type;
  ordered_json list = ordered_json::array();
  std::int64_t problems = 0;
  for (const stored_tensor& t : stored_tensors(in)) {
    by_type.add(t.type_name(), t.elements(), t.bytes());
    problems += t.problem.empty() ? 0 : 1;
    if (!json) continue;
    list.push_back({{"name", t.name},
                    {"dtype", t.type_name()},
                    {"shape", t.shape},
                    {"bytes", t.bytes()},
                    {"shard", in.shards()[t.data->shard]}});
    if (!t.problem.empty()) list.back()["note"] = t.problem;
  }
  if (json) {
    print(ordered_json{{"command", "inspect"},
                       {"directory", path},
                       {"shards", in.shards()},
                       {"other_files", in.other_files()},
                       {"ignored_files", in.ignored_files()},
                       {"tensor_bytes", in.tensor_bytes()},
                       {"tensors", std::move(list)},
                       {"kinds", by_type.json()}});
    return;
  }
  std::string text = by_type.text();
  if (problems > 0) text += count_text(problems, "tensor") + " without a partner: see mxfp4 verify\n";
  if (!in.ignored_files().empty())
    text += count_text(std::ssize(in.ignored_files()), "file") + " ignored: see mxfp4 verify\n";
  print(text + path + ": " + count_text(std::ssize(in.shards()), "shard") + ", " + size_text(in.tensor_bytes()) + ", " +
        by_type.bits() + " bits an element\n");
}

void inspect_gguf(const std::string& path, bool json) {
  const gguf_reader in = gguf_reader::open(path).value();
  kinds by_type;
  ordered_json list = ordered_json::array();
  for (const gguf_tensor& t : in.header().tensors) {
    std::int64_t count = 1;
    for (const std::int64_t n : t.shape) count *= n;
    by_type.add(ggml_type_name(t.type), count, t.bytes);
    list.push_back({{"name", t.name}, {"dtype", ggml_type_name(t.type)}, {"shape", t.shape}, {"bytes", t.bytes}});
  }
  const std::string* architecture = in.header().find_string("general.architecture");
  const gguf_part part = part_of(in.header());
  if (json) {
    ordered_json report = {{"command", "inspect"},
                           {"file", path},
                           {"architecture", architecture ? ordered_json(*architecture) : ordered_json(nullptr)},
                           {"tensor_bytes", by_type.bytes()},
                           {"tensors", std::move(list)},
                           {"kinds", by_type.json()}};
    if (part.count > 1) report["split"] = {{"part", part.number}, {"parts", part.count}};
    print(report);
    return;
  }
  print(by_type.text() + path + ": GGUF" +
        (part.count > 1 ? ", part " + std::to_string(part.number) + " of " + std::to_string(part.count) +
                              " of a model, of which this is not the whole"
                        : "") +
        (architecture     ? ", architecture " + printable(*architecture)
         : part.count > 1 ? ""
                          : ", no architecture") +
        ", " + size_text(by_type.bytes()) + ", " + by_type.bits() + " bits an element\n");
}

}  // namespace mxfp4::tools

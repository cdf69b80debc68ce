// src/checkpoint/weight_source.cpp -- see weight_source.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/weight_source.hpp"

#include <cstdio>
#include <unordered_set>

#include "checkpoint/foreign_format.hpp"
#include "checkpoint/llama_cpp.hpp"
#include "mxfp4/checkpoint/convert.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

/// The value of a pair that counts something; 0 where it is not there.
[[nodiscard]] std::uint64_t number_of(const gguf_header& header, const char* key) {
  const gguf_pair* pair = header.find(key);
  if (pair == nullptr) return 0;
  if (const auto* n = std::get_if<std::uint64_t>(&pair->value)) return *n;
  const auto* n = std::get_if<std::int64_t>(&pair->value);
  return n != nullptr && *n > 0 ? static_cast<std::uint64_t>(*n) : 0;
}

constexpr const char *count_key = "split.count", *number_key = "split.no";

/// The names of all parts, as llama-gguf-split makes them: "NAME-00001-of-00003.gguf".
[[nodiscard]] std::vector<std::string> part_names(const gguf_reader& file, std::uint64_t count) {
  const auto ending = [count](std::uint64_t part) {
    char text[64];
    std::snprintf(text, sizeof text, "-%05llu-of-%05llu.gguf", static_cast<unsigned long long>(part),
                  static_cast<unsigned long long>(count));
    return std::string(text);
  };
  const std::string own = ending(number_of(file.header(), number_key) + 1);
  if (!file.path().ends_with(own))
    throw file_error(
        {.file = file.path(),
         .value = "is one of " + std::to_string(count) + " parts of a model",
         .expected = "a name that ends in " + quote_name(own),
         .advice = "rename it as llama-gguf-split did, or put the parts together: llama-gguf-split --merge"});
  const std::string begin = file.path().substr(0, file.path().size() - own.size());
  std::vector<std::string> names;
  for (std::uint64_t i = 1; i <= count; ++i) names.push_back(begin + ending(i));
  return names;
}

/// llama.cpp's names of a family that is known become those of the checkpoint that it came from.
void translate_names(const weight_source& s, weight_list& list) {
  const std::string* architecture = s.gguf[0]->header().find_string("general.architecture");
  const llama_family* family = architecture == nullptr ? nullptr : find_llama_architecture(*architecture);
  if (family == nullptr) return;
  const auto translate = [family](std::string& name) {
    if (const std::optional<std::string> found = name_of_llama(*family, name)) name = *found;
  };
  for (mxfp4_weight& w : list.weights) translate(w.name);
  for (plain_tensor& t : list.others) translate(t.info.name);
}

void open_gguf(const std::string& input, weight_source& s) {
  s.gguf.push_back(std::make_unique<gguf_reader>(gguf_reader::open(input).value()));
  const std::uint64_t count = number_of(s.gguf[0]->header(), count_key);
  constexpr std::uint64_t most_parts = 99'999;  // what the names can count
  if (count > most_parts)
    throw file_error({.file = input, .value = "says that it is one of " + std::to_string(count) + " parts"});
  if (count > 1) {
    const std::vector<std::string> names = part_names(*s.gguf[0], count);
    s.gguf.clear();
    for (const std::string& name : names) {
      s.gguf.push_back(std::make_unique<gguf_reader>(gguf_reader::open(name).value()));
      const gguf_header& header = s.gguf.back()->header();
      if (number_of(header, count_key) != count || number_of(header, number_key) + 1 != s.gguf.size())
        throw file_error({.file = name,
                          .value = "says that it is part " + std::to_string(number_of(header, number_key) + 1) +
                                   " of " + std::to_string(number_of(header, count_key)),
                          .expected = "part " + std::to_string(s.gguf.size()) + " of " + std::to_string(count)});
    }
  }
  std::unordered_set<std::string> names;
  for (const auto& part : s.gguf) {
    weight_list list = find_weights(*part, s.narrow);
    s.bytes += part->file_bytes();
    translate_names(s, list);
    for (const gguf_tensor& t : part->header().tensors)
      if (!names.insert(t.name).second)
        throw file_error(
            {.file = part->path(), .tensor = t.name, .value = "is in another part too", .expected = "once"});
    for (mxfp4_weight& w : list.weights) {
      w.cleaned = s.weights.cleaned;
      s.weights.weights.push_back(std::move(w));
    }
    s.weights.others.insert(s.weights.others.end(), list.others.begin(), list.others.end());
    if (const std::string* text = part->header().find_string(gguf_config_key); text != nullptr && !s.config)
      s.config = *text;
  }
}

}  // namespace

gguf_part part_of(const gguf_header& header) {
  return {number_of(header, number_key) + 1, number_of(header, count_key)};
}

void weight_source::require_unchanged() const {
  for (const auto& part : gguf) part->require_unchanged().value();
  for (std::size_t i = 0; checkpoint && i < checkpoint->shards().size(); ++i)
    checkpoint->shard(i).require_unchanged().value();
}

void open_weights(const std::string& input, weight_source& s) {
  if (input.ends_with(".gguf")) return open_gguf(input, s);
  s.checkpoint.emplace(checkpoint_reader::open(input).value());
  s.weights = find_weights(*s.checkpoint);
  for (std::size_t i = 0; i < s.checkpoint->shards().size(); ++i) s.bytes += s.checkpoint->shard(i).file_bytes();
  s.config = s.checkpoint->config_text().value();
}

std::vector<tensor_info> infos_of(const std::vector<plain_tensor>& tensors) {
  std::vector<tensor_info> infos;
  for (const plain_tensor& t : tensors) infos.push_back(t.info);
  return infos;
}

void require_known_formats(const std::vector<plain_tensor>& others, const nlohmann::ordered_json& config,
                           const std::string& where) {
  const std::vector<tensor_info> tensors = infos_of(others);
  if (const foreign_weights found = find_foreign_weights(tensors, config); !found.tensor.empty())
    throw not_readable(where, found.tensor, found.format);
  require_no_unknown_codes(tensors, true, where);
}

}  // namespace mxfp4::checkpoint

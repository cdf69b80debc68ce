// src/checkpoint/verify.cpp -- the order of the checks, and those of files, pairs, model and devices.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/verify.hpp"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "checkpoint/foreign_format.hpp"
#include "checkpoint/minimax_m2.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/verification.hpp"
#include "checkpoint/verify_gguf.hpp"
#include "checkpoint/verify_other_forms.hpp"
#include "io/guarded.hpp"
#include "io/shown.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

[[nodiscard]] std::string without_numbers(const std::string& text) {
  std::string shape;
  for (const char c : text) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit) shape += c;
    else if (shape.empty() || shape.back() != '#') shape += '#';
  }
  return shape;
}

/// mxfp4_report.json, where there is one.
void read_report(verification& v) {
  const std::string path = v.in.directory() + "/" + report_file_name;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return;
  const std::string text = read_json_text(path);
  v.report = parse_json<ordered_json>(text, path);
  try {
    v.recorded = read_recorded_hashes(v.report, text, path);
  } catch (const file_error& e) {
    v.error("hashes", report_file_name, e.value() + ": " + e.advice());
    return;
  }
  if (!v.recorded)
    v.warn(
        "hashes", report_file_name,
        "carries no hashes, as those of former versions: a flipped bit may go unnoticed, quantise again to have them");
}

}  // namespace

std::string described(const stored_tensor& tensor) {
  return std::string(tensor.type_name()) + " " + shape_text(tensor.shape);
}

std::int64_t verify_report::count(severity level) const noexcept {
  return std::count_if(findings.begin(), findings.end(), [level](const finding& f) { return f.level == level; });
}

verification::verification(const checkpoint_reader& checkpoint, const verify_options& verify_options)
    : in(checkpoint), options(verify_options), tensors(stored_tensors(checkpoint)) {
  for (const stored_tensor& t : tensors) {
    by_name.emplace(t.name, &t);
    result.mxfp4 += t.kind == storage::mxfp4 ? 1 : 0;
    result.fp8 += t.kind == storage::fp8 ? 1 : 0;
  }
  result.tensors = std::ssize(tensors);
}

void verification::add(severity level, const char* check, const std::string& where, const std::string& what) {
  constexpr std::int64_t most_listed = 1000;
  const std::string shown_where = shown(where), shown_what = shown(what);
  const std::string key = std::string(check) + '\n' + without_numbers(shown_where) + '\n' + shown_what;
  if (const auto found = alike_.find(key); found != alike_.end()) {
    ++repeats_[found->second];
    return;
  }
  listing& all = listings_[check];
  if (all.listed == most_listed) {
    ++all.unlisted;
    if (level == severity::error) all.worst_unlisted = level;
    return;
  }
  ++all.listed;
  alike_.emplace(key, result.findings.size());
  result.findings.push_back({level, check, shown_where, shown_what});
  repeats_.push_back(0);
}

const stored_tensor* verification::find(const std::string& name) const {
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second;
}

bool verification::was_copied(const std::string& name) {
  if (!copied_) {
    copied_.emplace();
    if (report.is_object())
      for (const ordered_json& entry : report.value("copied", ordered_json::array()))
        if (entry.is_object() && entry.value("action", ordered_json()) == action_name(tensor_action::copy) &&
            entry.contains("name") && entry["name"].is_string())
          copied_->insert(entry["name"].get<std::string>());
  }
  return copied_->contains(name);
}

verify_report verification::take() {
  for (std::size_t i = 0; i < repeats_.size(); ++i)
    if (repeats_[i] > 0) result.findings[i].what += " (and " + std::to_string(repeats_[i]) + " more like it)";
  for (const auto& [check, all] : listings_)
    if (all.unlisted > 0)
      result.findings.push_back(
          {all.worst_unlisted, check, "", "there are " + std::to_string(all.unlisted) + " more findings, not listed"});
  return std::move(result);
}

/// False, with an error, where weights are quantised in yet another way: what the config says of them is not judged.
[[nodiscard]] bool is_known_format(verification& v) {
  std::vector<tensor_info> plain;
  for (const stored_tensor& t : v.tensors)
    if (t.kind == storage::plain) plain.push_back(*t.data->info);
  const bool has_mxfp4 =
      std::any_of(v.tensors.begin(), v.tensors.end(), [](const stored_tensor& t) { return t.kind == storage::mxfp4; });
  if (const tensor_info* codes = has_mxfp4 ? find_unknown_codes(plain, false) : nullptr)
    v.error("pairs", quote_name(codes->name),
            std::string("is ") + dtype_name(codes->type) + " " + shape_text(codes->shape) +
                ", codes of a format that is not known, expected MXFP4, FP8 or a weight");
  const foreign_weights found = find_foreign_weights(plain, v.config);
  if (found.tensor.empty() || found.use == codes_are::mxfp4) return true;
  v.error("pairs", quote_name(found.tensor),
          "is " + found.format + ", expected MXFP4 or FP8: nothing else is verified");
  return false;
}

// ---- what headers and names say -------------------------------------------------------------------------------------

void check_files(verification& v) {
  constexpr const char* check = "files";
  const checkpoint_reader& in = v.in;
  for (const std::string& name : in.ignored_files())
    if (name.find(".tmp-") != std::string::npos)
      v.warn(check, name, "was left by a run that was interrupted: remove it");
    else if (name.ends_with(".safetensors"))
      v.warn(check, name, "is not in the index, and is loaded by readers that take every file: remove it");
  for (const checkpoint_tensor& t : in.unlisted_tensors())
    v.warn(check, quote_name(t.info->name),
           "is in " + in.shards()[t.shard] + " too, which is not where the index has it");
  if (in.has_index()) {
    const nlohmann::json size =
        read_index_metadata(in).is_object() ? read_index_metadata(in).value("total_size", nlohmann::json()) : nullptr;
    if (size != in.tensor_bytes())
      v.error(check, index_file_name,
              "total_size is " + json_shown(size) + ", expected " + std::to_string(in.tensor_bytes()) +
                  ", the bytes of all tensors");
  }
  for (std::size_t i = 0; i < in.shards().size(); ++i) {
    const std::optional<metadata>& extra = in.shard(i).header().extra;
    if (!extra || !extra->contains("format"))
      v.warn(check, in.shards()[i],
             "has no \"format\" in its __metadata__, expected \"pt\": transformers 4 refuses it, 5.24 loads it");
  }
  if (v.config.is_null()) v.error(check, config_file_name, "is not there, expected one with a quantization_config");
}

void check_pairs(verification& v) {
  constexpr const char* check = "pairs";
  for (const stored_tensor& t : v.tensors) {
    if (!t.problem.empty()) v.error(check, quote_name(t.data->info->name), t.problem);
    if (t.kind == storage::mxfp4 && t.data->info->name != t.name && v.in.find(t.name) != nullptr)
      v.error(check, quote_name(t.name), "is there beside its packed weights, expected one of the two");
    if (t.kind == storage::plain && t.name.ends_with(fp8_scale_suffix))
      v.add(v.was_copied(t.name) ? severity::warning : severity::error, check, quote_name(t.name),
            v.was_copied(t.name) ? "holds block scales that nothing uses, as in the source"
                                 : "holds block scales of the source that nothing uses");
    if (t.kind == storage::fp8 && t.scale->info->name.ends_with(fp8_scale_suffix) && !is_of_another_program(v))
      v.error(check, quote_name(t.scale->info->name),
              "holds block scales, expected a name that ends in _scale, without _inv");
    if (t.kind == storage::plain && t.data->info->type == dtype::u8 && t.name.ends_with(scale_suffix) &&
        v.in.find(t.name.substr(0, t.name.rfind(scale_suffix)) + packed_suffix) == nullptr)
      v.error(check, quote_name(t.name), "holds scales of a weight that is not there");
  }
  if (v.result.mxfp4 == 0 && v.result.fp8 > 0 && is_of_another_program(v))
    v.warn(check, v.in.path(), "holds no MXFP4 tensor: its weights are FP8");
  else if (v.result.mxfp4 == 0) v.error(check, v.in.path(), "holds no MXFP4 tensor, expected X_packed and X_scale");
}

void check_model(verification& v) {
  constexpr const char* check = "model";
  if (!v.config.is_object() || v.config.value("model_type", ordered_json()) != "minimax_m2") return;
  ordered_json config = v.config;
  config.erase("quantization_config");
  std::vector<tensor_info> expected;
  try {
    expected = minimax_m2_tensors(read_minimax_m2_shape(config, config_file_name));
  } catch (const file_error& e) {
    v.error(check, config_file_name, e.what());
    return;
  }
  std::int64_t found = 0;
  for (const tensor_info& t : expected) {
    const stored_tensor* s = v.find(t.name);
    if (s == nullptr) {
      v.error(check, quote_name(t.name), "is missing");
      continue;
    }
    ++found;
    // Linear layers are BF16 in the list, and may be quantised; the router is F32 there, and may not.
    const bool may_be_quantized = t.type == dtype::bf16 && is_linear_weight(t);
    // transformers saves a BF16 model's router in BF16 too, and loads either.
    const dtype type = s->data->info->type;
    const bool fits =
        s->kind == storage::plain ? type == t.type || (type == dtype::bf16 && t.type == dtype::f32) : may_be_quantized;
    if (s->shape != t.shape || !fits)
      v.error(check, quote_name(t.name),
              "is " + described(*s) + ", expected " + (may_be_quantized ? "MXFP4, F8_E4M3 or " : "") +
                  dtype_name(t.type) + " " + shape_text(t.shape));
  }
  if (found == v.result.tensors) return;
  std::unordered_map<std::string, bool> known;
  for (const tensor_info& t : expected) known.emplace(t.name, true);
  for (const stored_tensor& t : v.tensors)
    if (!known.contains(t.name))
      v.add(v.was_copied(t.name) ? severity::warning : severity::error, check, quote_name(t.name),
            "is not a tensor of this model");
}

void check_parallel(verification& v) {
  constexpr const char* check = "parallel";
  const std::int64_t n = v.options.tensor_parallel;
  if (n <= 1) return;
  const std::string devices = " over " + std::to_string(n) + " devices";
  for (const stored_tensor& t : v.tensors) {
    if (t.kind == storage::plain) continue;
    const std::string module = module_of(t.name);
    const std::string last = module.substr(module.rfind('.') + 1);
    // vLLM cuts what leads back to the hidden size along its columns, everything else along its rows.
    const bool by_columns = last == "w2" || last == "down_proj" || last == "o_proj";
    const std::int64_t size = t.shape[t.shape.size() - (by_columns ? 1 : 2)];
    const std::int64_t unit = t.kind == storage::fp8 ? fp8_block : by_columns ? block_size : 1;
    if (size % n != 0 || size / n % unit != 0)
      v.error(check, quote_name(t.name),
              std::to_string(size) + (by_columns ? " columns" : " rows") + devices +
                  (size % n != 0
                       ? " do not divide"
                       : " are " + std::to_string(size / n) + " each, expected a multiple of " + std::to_string(unit)));
  }
  const ordered_json heads =
      v.config.is_object() ? v.config.value("num_attention_heads", ordered_json()) : ordered_json();
  if (heads.is_number_integer() && heads.get<std::int64_t>() % n != 0)
    v.error(check, config_file_name, "num_attention_heads " + json_shown(heads) + devices + " do not divide");
}

/// Behind check_content, which has read most of the tensors.
void check_hashes(verification& v) {
  if (!v.recorded) return;
  for (const finding& f : compare_hashes(*v.recorded, v.in, v.hashes, v.options))
    v.add(f.level, f.check.c_str(), f.where, f.what);
  v.result.hashes = std::ssize(v.recorded->files) + std::ssize(v.recorded->tensors);
}

// ---- all of them ----------------------------------------------------------------------------------------------------

file_result<verify_report> verify_checkpoint(const std::string& directory, const verify_options& options) {
  return guarded([&]() -> verify_report {
    if (std::error_code ignored;
        std::filesystem::exists(std::filesystem::path(directory) / journal_folder_name, ignored)) {
      verify_report unfinished;  // nothing in it is judged
      unfinished.findings.push_back(
          {severity::error, "files", journal_folder_name,
           "is there: the run of mxfp4 quantize that writes this checkpoint is not finished"});
      return unfinished;
    }
    if (directory.ends_with(".gguf")) return verify_gguf(directory, options);
    const checkpoint_reader in = checkpoint_reader::open(directory).value();
    verification v(in, options);
    const auto noting_errors = [&v](const auto& body) {
      try {
        body();
      } catch (const file_error& e) {
        v.error("files", "", e.what());
      }
    };
    noting_errors([&] { v.config = read_config(in); });
    noting_errors([&] { read_report(v); });
    check_files(v);
    check_pairs(v);
    check_model(v);
    if (is_known_format(v)) check_config(v);
    check_parallel(v);
    check_content(v);
    check_hashes(v);
    if (!options.against.empty()) check_source(v);
    for (std::size_t i = 0; i < in.shards().size(); ++i)
      noting_errors([&] { in.shard(i).require_unchanged().value(); });
    return v.take();
  });
}

}  // namespace mxfp4::checkpoint

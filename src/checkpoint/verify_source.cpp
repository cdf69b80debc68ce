// src/checkpoint/verify_source.cpp -- is every byte what the source's tensors become?
// SPDX-License-Identifier: Apache-2.0
#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "checkpoint/calibration_record.hpp"
#include "checkpoint/codec.hpp"
#include "checkpoint/expert_stack.hpp"
#include "checkpoint/foreign_format.hpp"
#include "checkpoint/fp8_scales.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/shared_progress.hpp"
#include "checkpoint/unlisted_tensors.hpp"
#include "checkpoint/verification.hpp"
#include "io/content_hash.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

/// What a thread has in memory of a matrix at a time: with codes, scales and both files' bytes some 2 MiB.
constexpr std::int64_t tile_weights = 1 << 18;
/// Has F16 or F32 become BF16?
[[nodiscard]] bool is_narrowed(const stored_tensor& from, const stored_tensor& to) {
  const dtype type = from.data->info->type;
  return from.kind == storage::plain && to.kind == storage::plain && to.data->info->type == dtype::bf16 &&
         (type == dtype::f16 || type == dtype::f32);
}

/// Where two tensors differ first, and how often.
struct differences {
  std::int64_t count = 0, first = -1;

  void compare(std::span<const std::byte> a, std::span<const std::byte> b, std::int64_t offset) {
    if (std::memcmp(a.data(), b.data(), a.size()) == 0) return;
    for (std::size_t i = 0; i < a.size(); ++i)
      if (a[i] != b[i] && count++ == 0) first = offset + static_cast<std::int64_t>(i);
  }
};

/// One tensor of the source, or a matrix of a stack, and what became of it.
class tensor_check {
 public:
  tensor_check(const checkpoint_reader& source, const checkpoint_reader& result, recipe_id recipe,
               const hashes_by_name& plain, shared_progress& progress)
      : source_(source), result_(result), recipe_(recipe), progress_(progress), plain_(plain) {}

  /// What is wrong with a stack that is MXFP4 now, or with one matrix of it; empty where nothing is.
  [[nodiscard]] std::string compare_stack(const stored_tensor& from, const stack_layout& layout, std::int64_t matrix,
                                          const stored_tensor& to) {
    const std::vector<std::int64_t> one = {layout.rows, layout.cols}, all = {layout.experts, layout.rows, layout.cols};
    const bool whole = to.shape.size() == 3;
    if (to.kind != storage::mxfp4 || to.shape != (whole ? all : one))
      return "is " + described(to) + ", the source makes MXFP4 " + shape_text(whole ? all : one) + " of " +
             described(from);
    layout_ = layout;
    matrix_ = matrix;
    return requantize(from, to);
  }

  /// What is wrong; empty where nothing is.
  [[nodiscard]] std::string compare(const stored_tensor& from, const stored_tensor& to) {
    layout_ = {};
    layout_.rows = from.shape.size() < 2 ? 1 : from.shape[from.shape.size() - 2];
    layout_.cols = from.shape.empty() ? 1 : from.shape.back();
    matrix_ = 0;
    if (from.shape != to.shape) return "is " + described(to) + ", the source has " + described(from);
    if (to.kind == storage::mxfp4 && from.kind != storage::mxfp4) return requantize(from, to);
    if (from.kind == storage::fp8 && to.kind == storage::plain && to.data->info->type == dtype::bf16)
      return compare_widened(from, to);
    if (is_narrowed(from, to)) return compare_narrowed(from, to);
    if (from.kind != to.kind || from.data->info->type != to.data->info->type)
      return "is " + described(to) + ", the source has " + described(from) + ", which becomes no such tensor";
    const std::string data = compare_bytes(from.data, to.data);
    return !data.empty() || from.scale == nullptr ? data : compare_bytes(from.scale, to.scale);
  }

 private:
  void read(const checkpoint_reader& in, const checkpoint_tensor* t, std::int64_t offset, std::span<std::byte> bytes) {
    progress_.require_running(in.path());
    in.read(*t, static_cast<std::uint64_t>(offset), bytes).value();
    progress_.add(bytes.size());
  }

  [[nodiscard]] std::string compare_bytes(const checkpoint_tensor* from, const checkpoint_tensor* to) {
    constexpr std::int64_t slab = 1 << 20;
    differences d;
    std::vector<std::byte> a, b;
    const auto total = static_cast<std::int64_t>(from->info->bytes());
    for (std::int64_t at = 0; at < total; at += slab) {
      a.resize(static_cast<std::size_t>(std::min(slab, total - at)));
      b.resize(a.size());
      read(source_, from, at, a);
      read(result_, to, at, b);
      d.compare(a, b, at);
    }
    if (d.count == 0) return {};
    return std::to_string(d.count) + " of " + std::to_string(total) + " bytes differ from the source, the first at " +
           std::to_string(d.first);
  }

  /// Calls body(tile) for the matrices of `to`, rows counted through all of them, in slabs that take little memory
  /// whatever the length of a row. No FP8 block of the source is cut.
  template <class Body>
  void for_each_tile(const stored_tensor& to, Body body) {
    const std::int64_t rows = to.shape[to.shape.size() - 2], matrices = to.shape.size() == 3 ? to.shape[0] : 1;
    for (std::int64_t m = 0; m < matrices; ++m)
      for_each_fp8_tile(
          rows, to.shape.back(), tile_weights,
          [&](fp8_tile tile) {
            tile.row += m * rows;
            body(tile);
          },
          row_in_stack(matrix_ + m, 0));
  }

  [[nodiscard]] std::int64_t row_in_stack(std::int64_t matrix, std::int64_t row) const noexcept {
    return matrix % layout_.parts * layout_.rows + row;
  }

  /// @param tile  of the result, rows counted through its matrices.
  template <class T>
  [[nodiscard]] std::span<const T> read_tile(const stored_tensor& from, fp8_tile tile) {
    const std::int64_t matrix = matrix_ + tile.row / layout_.rows;
    tile.row %= layout_.rows;
    raw_.resize(static_cast<std::size_t>(tile.size()) * sizeof(T));
    const read_function read_source = [&](std::uint64_t offset, std::span<std::byte> bytes) {
      read(source_, from.data, static_cast<std::int64_t>(offset), bytes);
    };
    read_matrix_tile(read_source, layout_, matrix, tile, sizeof(T), raw_);
    arrange_tile(layout_, tile, sizeof(T), raw_, scratch_);
    const std::span<T> elements(reinterpret_cast<T*>(raw_.data()), static_cast<std::size_t>(tile.size()));
    swap_if_big_endian(elements);
    return elements;
  }

  /// A tile of an FP8 matrix as bf16(w * scale).
  [[nodiscard]] std::span<const bf16> read_widened(const stored_tensor& from, const fp8_tile& tile) {
    const std::int64_t matrix = matrix_ + tile.row / layout_.rows;
    fp8_tile in_stack = tile;
    in_stack.row = row_in_stack(matrix, tile.row % layout_.rows);
    const fp8_scale_reader reader(*from.scale->info, from.fp8_grid, layout_.parts * layout_.rows, layout_.cols);
    const read_function read_scales = [&](std::uint64_t offset, std::span<std::byte> bytes) {
      read(source_, from.scale, static_cast<std::int64_t>(offset), bytes);
    };
    fp8_scale_tile scales;
    reader.read(read_scales, matrix / layout_.parts, in_stack, scales);
    const std::span<const e4m3> w = read_tile<e4m3>(from, tile);
    widened_.resize(w.size());
    const status s = widen_fp8_tile(w.data(), tile, scales, widened_.data());
    if (!s.ok()) throw file_error({.file = source_.path(), .value = std::string(message(s).view())});
    return widened_;
  }

  /// F16 or F32 that has become BF16.
  [[nodiscard]] std::string compare_narrowed(const stored_tensor& from, const stored_tensor& to) {
    constexpr std::int64_t slab = 1 << 19;
    const std::int64_t total = from.elements(), size = dtype_bits(from.data->info->type) / 8;
    std::int64_t wrong = 0;
    std::vector<bf16> found;
    for (std::int64_t at = 0; at < total; at += slab) {
      const auto count = static_cast<std::size_t>(std::min(slab, total - at));
      raw_.resize(count * static_cast<std::size_t>(size));
      read(source_, from.data, at * size, raw_);
      found.resize(count);
      read(result_, to.data, at * 2, std::as_writable_bytes(std::span(found)));
      swap_if_big_endian(std::span(found));
      const auto compare = [&](auto numbers) {
        swap_if_big_endian(numbers);
        for (std::size_t i = 0; i < count; ++i)
          wrong +=
              std::bit_cast<std::uint16_t>(encode<bf16>(decode(numbers[i]))) != std::bit_cast<std::uint16_t>(found[i]);
      };
      if (size == 4) compare(std::span(reinterpret_cast<float*>(raw_.data()), count));
      else compare(std::span(reinterpret_cast<f16*>(raw_.data()), count));
    }
    return wrong == 0
               ? ""
               : std::to_string(wrong) + " of " + std::to_string(total) + " numbers are not the source's in BF16";
  }

  [[nodiscard]] std::string compare_widened(const stored_tensor& from, const stored_tensor& to) {
    differences d;
    std::vector<bf16> found;
    for_each_tile(to, [&](const fp8_tile& tile) {
      const std::span<const bf16> expected = read_widened(from, tile);
      found.resize(expected.size());
      const std::int64_t at = tile.first(from.shape.back()) * 2;
      read(result_, to.data, at, std::as_writable_bytes(std::span(found)));
      swap_if_big_endian(std::span(found));
      d.compare(std::as_bytes(expected), std::as_bytes(std::span(found)), at);
    });
    if (d.count == 0) return {};
    const std::int64_t at = d.first / 2, cols = from.shape.back();
    return std::to_string(d.count) + " bytes differ from bf16(weight * block scale), the first in row " +
           std::to_string(at / cols) + ", column " + std::to_string(at % cols);
  }

  template <class T>
  void requantize_tile(std::span<const T> w, const fp8_tile& tile, const stored_tensor& to) {
    const std::int64_t rows = tile.rows, cols = tile.cols, blocks = tile.size() / block_size;
    const std::int64_t first = tile.first(to.shape.back());
    codes_.resize(w.size() / 2);
    scales_.resize(static_cast<std::size_t>(blocks));
    const auto in = make_dense_view(w, rows, cols);
    const auto out = make_view(std::span(codes_), std::span(scales_), rows, cols);
    const status s = !in ? in.error() : !out ? out.error() : codec::quantize(recipe_, *in, *out);
    if (!s.ok()) throw file_error({.file = source_.path(), .value = std::string(message(s).view())});
    found_codes_.resize(codes_.size());
    found_scales_.resize(scales_.size());
    read(result_, to.data, first / 2, std::as_writable_bytes(std::span(found_codes_)));
    read(result_, to.scale, first / block_size, std::as_writable_bytes(std::span(found_scales_)));
    code_differences_.compare(std::as_bytes(std::span(codes_)), std::as_bytes(std::span(found_codes_)), first / 2);
    scale_differences_.compare(std::as_bytes(std::span(scales_)), std::as_bytes(std::span(found_scales_)),
                               first / block_size);
    for (std::size_t b = 0; b < scales_.size(); ++b) shift_ += found_scales_[b] - scales_[b];
    if (!is_calibrated(to)) return;
    plain_codes_.add(std::as_bytes(std::span(codes_)));
    plain_scales_.add(std::as_bytes(std::span(scales_)));
    const const_mx_view<> found{found_codes_.data(), found_scales_.data(), rows, cols, cols / 2, cols / block_size};
    if (const status m = codec::measure_error(*in, found, distance_); !m.ok())
      throw file_error({.file = source_.path(), .value = std::string(message(m).view())});
  }

  [[nodiscard]] bool is_calibrated(const stored_tensor& to) const { return plain_.contains(to.data->info->name); }

  /// Codes that a text has decided are not those of a recipe. Is the source the one that they were made from, and are
  /// they a rounding of it?
  [[nodiscard]] std::string compare_calibrated(const stored_tensor& to) const {
    constexpr double farthest = 0.5;  // a recipe has 0.11, a calibration up to 0.3, another matrix 1.4
    const auto scales = plain_.find(to.scale->info->name);
    if (plain_codes_.text() != plain_.at(to.data->info->name) || scales == plain_.end() ||
        plain_scales_.text() != scales->second)
      return std::string("was calibrated from other weights: by ") + recipe_name(recipe_) +
             " the source has other codes than the report records";
    if (distance_.relative_error() > farthest)
      return "is calibrated, and no rounding of the source: the relative error is " +
             std::to_string(distance_.relative_error()) + ", expected at most " + std::to_string(farthest);
    return {};
  }

  [[nodiscard]] std::string requantize(const stored_tensor& from, const stored_tensor& to) {
    const std::int64_t cols = layout_.cols;
    const dtype type = from.data->info->type;
    if (from.kind != storage::fp8 && type != dtype::f32 && type != dtype::bf16 && type != dtype::f16)
      return "is MXFP4, the source has " + described(from) + ", which cannot be quantised";
    code_differences_ = scale_differences_ = {};
    shift_ = 0;
    distance_ = {};
    plain_codes_ = plain_scales_ = {};
    for_each_tile(to, [&](const fp8_tile& tile) {
      if (from.kind == storage::fp8) requantize_tile<bf16>(read_widened(from, tile), tile, to);
      else if (type == dtype::f32) requantize_tile<float>(read_tile<float>(from, tile), tile, to);
      else if (type == dtype::bf16) requantize_tile<bf16>(read_tile<bf16>(from, tile), tile, to);
      else requantize_tile<f16>(read_tile<f16>(from, tile), tile, to);
    });
    if (is_calibrated(to)) return compare_calibrated(to);
    if (code_differences_.count == 0 && scale_differences_.count == 0) return {};
    const std::int64_t blocks = to.elements() / block_size, block = scale_differences_.first >= 0
                                                                        ? scale_differences_.first
                                                                        : code_differences_.first / block_code_bytes;
    std::string text = std::to_string(code_differences_.count) + " code and " +
                       std::to_string(scale_differences_.count) + " scale bytes differ from the source by " +
                       recipe_name(recipe_) + ", first in row " + std::to_string(block * block_size / cols) +
                       ", block " + std::to_string(block % (cols / block_size));
    if (const std::int64_t whole = shift_ / blocks;
        shift_ % blocks == 0 && whole != 0 && scale_differences_.count == blocks)
      text += ": all scales are shifted, the weights 2^" + std::to_string(whole) + " times too large";
    return text;
  }

  const checkpoint_reader& source_;
  const checkpoint_reader& result_;
  recipe_id recipe_;
  shared_progress& progress_;
  stack_layout layout_;      // of the source; that of a plain matrix where it is no stack
  std::int64_t matrix_ = 0;  // the first of the result's
  std::vector<std::byte> raw_, scratch_;
  std::vector<bf16> widened_;
  std::vector<std::uint8_t> codes_, scales_, found_codes_, found_scales_;
  differences code_differences_, scale_differences_;
  std::int64_t shift_ = 0;
  const hashes_by_name& plain_;  // of what was calibrated
  content_hash plain_codes_, plain_scales_;
  error_statistics distance_;
};

/// A setting of the run by the report, null where there is none.
[[nodiscard]] ordered_json setting_of(const verification& v, const char* key) {
  const ordered_json settings =
      v.report.is_object() ? v.report.value("settings", ordered_json::object()) : ordered_json();
  return settings.is_object() ? settings.value(key, ordered_json()) : ordered_json();
}

/// The files outside the source's index that were read too.
[[nodiscard]] std::vector<std::string> taken_files(const verification& v) {
  std::vector<std::string> names;
  for (const ordered_json& name : setting_of(v, "take"))
    if (name.is_string()) names.push_back(name.get<std::string>());
  return names;
}

/// The recipe that was asked for, or that the report records.
[[nodiscard]] recipe_id recipe_of(verification& v) {
  if (v.options.recipe) return *v.options.recipe;
  recipe_id id = recipe_id::compressed_tensors;
  if (v.report.is_null()) return id;
  const ordered_json name = setting_of(v, "recipe");
  if (!name.is_string() || !find_recipe(name.get<std::string>(), id))
    v.error("source", report_file_name,
            "settings.recipe is " + json_shown(name) + ", expected a recipe's name: give one by --recipe");
  return id;
}

/// @param narrowed  F16 or F32 has become BF16, and the config is to say so.
void compare_config(verification& v, const checkpoint_reader& source, bool narrowed) {
  ordered_json ours = v.config, theirs = read_config(source);
  if (!ours.is_object() || !theirs.is_object()) return;
  if (narrowed) set_bf16(theirs);
  for (ordered_json* config : {&ours, &theirs}) {
    config->erase("quantization_config");
    remove_nested_quantization(*config);
  }
  constexpr const char* version_key = "transformers_version";  // of whoever saved it last; nothing depends on it
  // A look-up in an ordered_json goes through its keys.
  std::unordered_map<std::string_view, const ordered_json*> by_key, of_source;
  for (auto at = ours.begin(); at != ours.end(); ++at) by_key.emplace(at.key(), &at.value());
  for (auto at = theirs.begin(); at != theirs.end(); ++at) of_source.emplace(at.key(), &at.value());
  for (const auto& [key, value] : theirs.items()) {
    const auto found = by_key.find(key);
    if (found == by_key.end() || *found->second != value)
      v.add(key == version_key ? severity::warning : severity::error, "source", config_file_name,
            quote_name(key) + " is " + (found == by_key.end() ? "not there" : json_shown(*found->second)) +
                ", the source has " + json_shown(value));
  }
  for (const auto& [key, value] : ours.items())
    if (!of_source.contains(key))
      v.error("source", config_file_name,
              quote_name(key) + " is " + json_shown(value) + ", the source has no such key");
}

/// The files that are carried over as they are: tokenizer, chat template, code that readers run.
void compare_other_files(verification& v, const checkpoint_reader& source) {
  const auto is_in = [](const checkpoint_reader& in, const std::string& name) {
    return std::binary_search(in.other_files().begin(), in.other_files().end(), name);
  };
  const auto is_ours = [](const std::string& name) {
    return name == config_file_name || describes_quantization(name) || is_readme(name);
  };
  const auto hash_in = [](const checkpoint_reader& in, const std::string& name) {
    return hash_of_file(in.directory() + "/" + name);
  };
  for (const std::string& name : source.other_files()) {
    if (is_ours(name)) continue;
    if (!is_in(v.in, name)) {
      v.warn("source", name, "is in the source and was not carried over");
    } else if (hash_in(source, name) != hash_in(v.in, name)) {
      const recorded_file* const recorded = v.recorded ? v.recorded->find(name) : nullptr;
      const bool is_accepted = recorded != nullptr && recorded->accepted;
      v.add(is_accepted ? severity::warning : severity::error, "source", name,
            "has other bytes than that of the source");
    }
  }
  for (const std::string& name : v.in.other_files())
    if (!is_ours(name) && !is_in(source, name))
      v.add(name.ends_with(".py") ? severity::error : severity::warning, "source", name,
            "is here and not in the source");
}

/// What has to be compared: a tensor of the source, with a stack of which each matrix is a tensor of the result one of
/// these.
struct comparison {
  const stored_tensor* from = nullptr;
  std::string name;  ///< of the result's tensor
  std::optional<stack_layout> layout;
  std::int64_t matrix = 0;
};

/// The stacks of the source, by name, as a plan would take them apart.
[[nodiscard]] std::unordered_map<std::string, stack_layout> find_stacks(verification& v,
                                                                        const checkpoint_reader& source) {
  std::unordered_map<std::string, stack_layout> stacks;
  plan_options options;
  read_model(read_config(source), options);
  const file_result<quantization_plan> plan = make_plan(source.tensor_infos(), options, source.path());
  if (!plan) {
    v.error("source", "", plan.error().what());
    return stacks;
  }
  for (const planned_tensor& p : plan->tensors)
    if (p.stack) stacks.emplace(p.source.name, *p.stack);
  return stacks;
}

[[nodiscard]] std::vector<comparison> list_comparisons(verification& v, const std::vector<stored_tensor>& theirs,
                                                       const checkpoint_reader& source) {
  const bool any = std::any_of(theirs.begin(), theirs.end(), [](const stored_tensor& t) {
    return t.kind != storage::mxfp4 && t.shape.size() == 3 && is_expert_weight(t.name, 3);
  });
  const auto stacks = any ? find_stacks(v, source) : std::unordered_map<std::string, stack_layout>();
  const find_function infos = [&source](const std::string& name) -> const tensor_info* {
    const checkpoint_tensor* t = source.find(name);
    return t == nullptr ? nullptr : t->info;
  };
  plan_options model;
  read_model(read_config(source), model);
  const model_family& family = find_family(model.model_type);
  std::vector<comparison> list;
  for (const stored_tensor& t : theirs) {
    // FP8 that is no longer FP8 does not meet activations in FP8.
    if (fp8_owner_of_activations(t.name, infos) != nullptr && v.find(t.name) == nullptr) continue;
    const auto stack = stacks.find(t.name);
    const stored_tensor* same = v.find(t.name);
    if (const bool becomes_mxfp4 = same != nullptr && same->kind == storage::mxfp4 && t.kind != storage::mxfp4;
        becomes_mxfp4 && t.shape.size() == 2 && is_transposed(t.name, family)) {
      list.push_back({&t, t.name, stack_layout{.rows = t.shape[1], .cols = t.shape[0], .transposed = true}, 0});
    } else if (stack == stacks.end() || t.kind == storage::mxfp4 || (same != nullptr && same->kind != storage::mxfp4)) {
      list.push_back({&t, t.name, std::nullopt, 0});
    } else if (same != nullptr) {
      stack_layout whole = stack->second;
      whole.rows *= std::exchange(whole.parts, 1);
      list.push_back({&t, t.name, whole, 0});
    } else {
      for (std::int64_t m = 0; m < stack->second.experts * stack->second.parts; ++m)
        list.push_back({&t, matrix_name(t.name, stack->second, m), stack->second, m});
    }
  }
  return list;
}

}  // namespace

void check_source(verification& v) {
  const checkpoint_reader source = checkpoint_reader::open(v.options.against, taken_files(v)).value();
  const recipe_id recipe = recipe_of(v);
  v.result.recipe = recipe_name(recipe);
  if (const std::string warning = unlisted_warning(source); !warning.empty()) v.warn("source", "", warning);
  const std::vector<stored_tensor> theirs = stored_tensors(source);
  const std::vector<comparison> list = list_comparisons(v, theirs, source);
  shared_progress progress(v.options, source.tensor_bytes() + v.in.tensor_bytes());
  std::vector<std::string> messages(list.size());
  const hashes_by_name plain = v.recorded ? read_plain_hashes(v.report, report_file_name) : hashes_by_name();
  v.result.calibrated = std::ssize(plain) / 2;
  tbb::parallel_for(std::size_t{0}, list.size(), [&](std::size_t i) {
    const comparison& c = list[i];
    const stored_tensor* ours = v.find(c.name);
    tensor_check compared(source, v.in, recipe, plain, progress);
    if (ours == nullptr) messages[i] = "is in the source and not here";
    else if (c.layout) messages[i] = compared.compare_stack(*c.from, *c.layout, c.matrix, *ours);
    else messages[i] = compared.compare(*c.from, *ours);
  });
  std::unordered_set<std::string> known;
  for (std::size_t i = 0; i < list.size(); ++i) {
    known.insert(list[i].name);
    if (!messages[i].empty()) v.error("source", quote_name(list[i].name), messages[i]);
  }
  v.result.compared = std::ssize(theirs);
  for (const stored_tensor& t : v.tensors)
    if (!known.contains(t.name)) v.error("source", quote_name(t.name), "is here and not in the source");
  compare_config(v, source, std::any_of(list.begin(), list.end(), [&v](const comparison& c) {
                   const stored_tensor* ours = v.find(c.name);
                   return ours != nullptr && is_narrowed(*c.from, *ours);
                 }));
  compare_other_files(v, source);
}

}  // namespace mxfp4::checkpoint

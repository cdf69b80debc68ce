// src/checkpoint/dequantize.cpp -- a job for each tensor; config.json without its quantization.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/dequantize.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "checkpoint/codec.hpp"
#include "checkpoint/expert_jobs.hpp"
#include "checkpoint/family.hpp"
#include "checkpoint/foreign_format.hpp"
#include "checkpoint/fp8_tiles.hpp"
#include "checkpoint/narrow_weights.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "checkpoint/unmarked_pair.hpp"
#include "checkpoint/weight_source.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

void append_numbers(const append_function& append, const std::string& name, std::vector<bf16>& numbers) {
  swap_if_big_endian(std::span(numbers));
  append(name, std::as_bytes(std::span(numbers)));
}

constexpr std::int64_t slab_elements = copy_slab_bytes / 2;  // their BF16 takes copy_slab_bytes

/// Decodes tiles of a weight in the order in which they are to be written.
class decoder {
 public:
  decoder(const weight_rows& rows, std::int64_t& nan_blocks, const std::string& where)
      : rows_(rows), nan_blocks_(nan_blocks), where_(where) {}

  /// @return  [tile.rows, tile.cols].
  [[nodiscard]] std::vector<bf16>& decode(const fp8_tile& tile) {
    rows_.read(tile, codes_, scales_);
    numbers_.resize(static_cast<std::size_t>(tile.size()));
    const auto in =
        make_view(std::span<const std::uint8_t>(codes_), std::span<const std::uint8_t>(scales_), tile.rows, tile.cols);
    const auto out = make_dense_view(std::span(numbers_), tile.rows, tile.cols);
    const status s = !in ? in.error() : !out ? out.error() : codec::dequantize(*in, *out);
    if (!s.ok())
      throw file_error({.file = where_, .tensor = rows_.weight().name, .value = std::string(message(s).view())});
    nan_blocks_ += std::count(scales_.begin(), scales_.end(), static_cast<std::uint8_t>(e8m0::nan));
    return numbers_;
  }

 private:
  weight_rows rows_;
  std::int64_t& nan_blocks_;
  const std::string& where_;
  std::vector<std::uint8_t> codes_, scales_;
  std::vector<bf16> numbers_;
};

[[nodiscard]] tensor_job decode_job(const weight_rows& rows, const std::string& name,
                                    const std::vector<std::int64_t>& shape, std::int64_t& nan_blocks,
                                    const std::string& where) {
  return {{{name, dtype::bf16, shape}}, [rows, name, &nan_blocks, &where](const append_function& append) {
            decoder decode(rows, nan_blocks, where);
            for_each_tile(rows.rows(), rows.cols(), slab_elements,
                          [&](const fp8_tile& tile) { append_numbers(append, name, decode.decode(tile)); });
          }};
}

/// The stack P.experts.gate_proj.weight of a GGUF file as matrices of experts, which is how checkpoints have them; any
/// other weight as it is.
[[nodiscard]] std::vector<tensor_job> decode_jobs(const mxfp4_weight& weight, std::int64_t& nan_blocks,
                                                  const std::string& where) {
  constexpr std::string_view experts = ".experts";
  const std::size_t at = weight.name.find(std::string(experts) + ".");
  if (weight.form != weight_form::ggml || weight.shape.size() != 3 || at == std::string::npos)
    return {decode_job(weight_rows::all(weight), weight.name, weight.shape, nan_blocks, where)};
  const std::size_t end = at + experts.size();
  const std::int64_t rows = weight.shape[1];
  std::vector<tensor_job> jobs;
  for (std::int64_t e = 0; e < weight.shape[0]; ++e)
    jobs.push_back(decode_job({weight, e * rows, 1, rows},
                              weight.name.substr(0, end) + "." + std::to_string(e) + weight.name.substr(end),
                              {rows, weight.cols()}, nan_blocks, where));
  return jobs;
}

/// A stack of gpt-oss, [experts, rows, cols], as transformers has it in BF16: [experts, cols, rows]. Gate and up rows
/// take turns in both. A matrix of GPT-2 is turned likewise.
[[nodiscard]] tensor_job transpose_job(const mxfp4_weight& weight, std::int64_t& nan_blocks, const std::string& where) {
  const bool is_stack = weight.shape.size() == 3;
  const std::int64_t experts = is_stack ? weight.shape[0] : 1, rows = weight.shape[weight.shape.size() - 2],
                     cols = weight.cols();
  const std::vector<std::int64_t> matrix = {cols, rows}, stack = {experts, cols, rows};
  return {{{weight.name, dtype::bf16, is_stack ? stack : matrix}},
          [&weight, &nan_blocks, &where, experts, rows, cols](const append_function& append) {
            decoder decode(weight_rows::all(weight), nan_blocks, where);
            // As many whole blocks of columns as a slab has room for; of a row at least one.
            const std::int64_t width =
                std::min(cols, std::max<std::int64_t>(1, slab_elements / std::max<std::int64_t>(rows, 1) / block_size) *
                                   block_size);
            std::vector<bf16> turned;
            for (std::int64_t e = 0; e < experts; ++e)
              for (std::int64_t c = 0; c < cols; c += width) {
                const std::int64_t count = std::min(width, cols - c);
                turned.resize(static_cast<std::size_t>(rows * count));
                for (std::int64_t r = 0; r < rows; ++r) {
                  const std::vector<bf16>& row = decode.decode({e * rows + r, 1, c, count});
                  for (std::int64_t i = 0; i < count; ++i)
                    turned[static_cast<std::size_t>(i * rows + r)] = row[static_cast<std::size_t>(i)];
                }
                append_numbers(append, weight.name, turned);
              }
          }};
}

/// Codes of a layer that files have as [in, out] lie [out, in]. Somebody else may have packed it as it lay, which its
/// bias tells: then it is refused, and whatever is square with it.
[[nodiscard]] bool is_turned(const mxfp4_weight& weight,
                             const std::unordered_map<std::string_view, const tensor_info*>& others,
                             const model_family& family, const std::string& where) {
  if (weight.shape.size() != 2 || !is_transposed(weight.name, family)) return false;
  const stack_axes axes = axes_by_bias({weight.name, dtype::u8, weight.shape}, [&](const std::string& name) {
    const auto found = others.find(name);
    return found == others.end() ? nullptr : found->second;
  });
  if (axes == stack_axes::in_out)
    throw file_error(
        {.file = where,
         .tensor = weight.name,
         .value = "is MXFP4 " + shape_text(weight.shape) + " with its blocks along the outputs by its bias",
         .expected = "[out, in]",
         .advice = "quantise the source again"});
  return true;
}

[[nodiscard]] std::optional<std::string> make_config_text(ordered_json config, bool is_bf16) {
  if (config.is_null()) return std::nullopt;
  config.erase("quantization_config");
  remove_nested_quantization(config);
  if (is_bf16) set_bf16(config);
  return json_text(config, 2) + "\n";
}

/// Experts one by one are what loaders of MXFP4 take of every family; of BF16 some take stacks alone.
void add_warnings(dequantize_directory_report& report, const weight_list& list, const ordered_json& config) {
  plan_options options;
  read_model(config, options);
  const model_family& family = find_family(options.model_type);
  if (family.axes != stack_axes::in_out && family.warning.empty()) return;
  if (std::any_of(list.weights.begin(), list.weights.end(),
                  [](const mxfp4_weight& w) { return is_expert_weight(w.name, 2) && w.shape.size() == 2; }))
    report.warnings.push_back("transformers 5.24 takes the BF16 experts of " + options.model_type +
                              " as stacks, and these are one by one");
}

}  // namespace

file_result<dequantize_directory_report> dequantize_directory(const std::string& input, const std::string& output,
                                                              const dequantize_options& options) {
  return guarded([&]() -> dequantize_directory_report {
    weight_source in;
    open_weights(input, in);
    require_outputs({input}, {output}, options.existing).value();
    ordered_json config;
    if (in.checkpoint) config = read_config(*in.checkpoint);
    else if (in.config) config = parse_json<ordered_json>(*in.config, input, config_limits);
    dequantize_directory_report report;
    if (in.checkpoint)
      report.warnings = require_undamaged(*in.checkpoint, {.progress = options.progress, .stop = options.stop});
    plan_options model;
    read_model(config, model);
    weight_list& list = in.weights;
    require_fp4(list.weights, config, input);
    const narrow_count narrow = widen_narrow_weights(list, model.fp8_grid, input);
    require_known_formats(list.others, config, input);
    report.widened = narrow.fp8;
    report.integer = narrow.integer + in.narrow.integer;
    report.nvfp4 = narrow.nvfp4;
    std::vector<tensor_job> jobs;
    const model_family& family = find_family(model.model_type);
    std::unordered_map<std::string_view, const tensor_info*> others;
    if (!family.transposed.empty())
      for (const plain_tensor& t : list.others) others.emplace(t.info.name, &t.info);
    for (const mxfp4_weight& w : list.weights) {
      if (w.form == weight_form::gpt_oss || is_turned(w, others, family, input))
        jobs.push_back(transpose_job(w, report.nan_blocks, input));
      else
        for (tensor_job& job : decode_jobs(w, report.nan_blocks, input)) jobs.push_back(std::move(job));
      ++report.dequantized;
    }
    for (const plain_tensor& t : list.others) jobs.push_back(copy_job(t));
    report.copied = std::ssize(list.others) - narrow.total() - in.narrow.integer;
    const bool none = list.weights.empty() && narrow.total() + in.narrow.integer == 0;
    if (none && config.is_object() && config.contains("quantization_config"))
      throw file_error({.file = input,
                        .value = "holds no MXFP4 and no FP8 weights, but a quantization_config",
                        .expected = "weights that it is true of"});
    if (none && in.checkpoint)
      if (std::string warning = untold_quantization(infos_of(list.others), config, in.checkpoint->other_files());
          !warning.empty())
        report.warnings.push_back(std::move(warning));
    add_warnings(report, list, config);
    report.bytes_before = in.bytes;
    directory_files files{make_config_text(config, !none), in.checkpoint ? &*in.checkpoint : nullptr};
    report.after =
        write_directory(output, jobs, files, options.max_shard_bytes,
                        {options.progress, [&in] { in.require_unchanged(); }, options.stop, options.existing})
            .value();
    return report;
  });
}

}  // namespace mxfp4::checkpoint

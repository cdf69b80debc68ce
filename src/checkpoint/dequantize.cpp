// src/checkpoint/dequantize.cpp -- a job for each tensor; config.json without its quantization.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/dequantize.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "checkpoint/codec.hpp"
#include "checkpoint/exact_fp8.hpp"
#include "checkpoint/expert_jobs.hpp"
#include "checkpoint/family.hpp"
#include "checkpoint/foreign_format.hpp"
#include "checkpoint/mxfp4_weights.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/reader_json.hpp"
#include "io/guarded.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

void append_numbers(const append_function& append, const std::string& name, std::vector<bf16>& numbers) {
  swap_if_big_endian(std::span(numbers));
  append(name, std::as_bytes(std::span(numbers)));
}

/// Slabs of rows whose BF16 takes copy_slab_bytes.
[[nodiscard]] std::int64_t rows_at_a_time(std::int64_t cols) {
  return std::max<std::int64_t>(1, copy_slab_bytes / 2 / std::max<std::int64_t>(1, cols));
}

[[nodiscard]] tensor_job decode_job(const mxfp4_weight& weight, std::int64_t& nan_blocks, const std::string& where) {
  return {{{weight.name, dtype::bf16, weight.shape}}, [&weight, &nan_blocks, &where](const append_function& append) {
            const weight_rows w(weight, 0, 1, weight.rows());
            std::vector<std::uint8_t> codes, scales;
            std::vector<bf16> numbers;
            const std::int64_t slab = rows_at_a_time(w.cols());
            for (std::int64_t first = 0; first < w.rows(); first += slab) {
              const std::int64_t rows = std::min(slab, w.rows() - first);
              w.read(first, rows, codes, scales);
              numbers.resize(static_cast<std::size_t>(rows * w.cols()));
              const auto in = make_view(std::span<const std::uint8_t>(codes), std::span<const std::uint8_t>(scales),
                                        rows, w.cols());
              const auto out = make_dense_view(std::span(numbers), rows, w.cols());
              const status s = !in ? in.error() : !out ? out.error() : codec::dequantize(*in, *out);
              if (!s.ok())
                throw file_error({.file = where, .tensor = weight.name, .value = std::string(message(s).view())});
              nan_blocks += std::count(scales.begin(), scales.end(), static_cast<std::uint8_t>(e8m0::nan));
              append_numbers(append, weight.name, numbers);
            }
          }};
}

/// @param w  F8_E4M3 [rows, cols].  @param scales  F32 [ceil(rows / 128), ceil(cols / 128)].
[[nodiscard]] tensor_job widen_job(const plain_tensor& w, const plain_tensor& scales, const std::string& where) {
  return {{{w.info.name, dtype::bf16, w.info.shape}}, [&w, &scales, &where](const append_function& append) {
            const std::int64_t rows = w.info.shape[0], cols = w.info.shape[1], slab = rows_at_a_time(cols);
            std::vector<float> block_scales(static_cast<std::size_t>(scales.info.elements()));
            scales.read(0, std::as_writable_bytes(std::span(block_scales)));
            swap_if_big_endian(std::span(block_scales));
            std::vector<e4m3> fp8;
            std::vector<bf16> numbers;
            for (std::int64_t first = 0; first < rows; first += slab) {
              const std::int64_t count = std::min(slab, rows - first);
              fp8.resize(static_cast<std::size_t>(count * cols));
              numbers.resize(fp8.size());
              w.read(static_cast<std::uint64_t>(first * cols), std::as_writable_bytes(std::span(fp8)));
              for (std::int64_t r = 0; r < count;) {  // up to where the block scales change
                const std::int64_t row = first + r, tiles = fp8_block_count(cols);
                const std::int64_t n = std::min(fp8_block - row % fp8_block, count - r);
                const status s = codec::widen_fp8({fp8.data() + r * cols, n, cols, cols},
                                                  {block_scales.data() + row / fp8_block * tiles, 1, tiles, tiles},
                                                  {numbers.data() + r * cols, n, cols, cols});
                if (!s.ok())
                  throw file_error({.file = where, .tensor = w.info.name, .value = std::string(message(s).view())});
                r += n;
              }
              append_numbers(append, w.info.name, numbers);
            }
          }};
}

/// The block scales of each F8_E4M3 tensor among `others`.
[[nodiscard]] std::unordered_map<const plain_tensor*, const plain_tensor*> find_fp8_scales(
    const std::vector<plain_tensor>& others, const std::string& where) {
  std::unordered_map<std::string_view, const plain_tensor*> by_name;
  for (const plain_tensor& t : others) by_name.emplace(t.info.name, &t);
  std::unordered_map<const plain_tensor*, const plain_tensor*> found;
  for (const plain_tensor& t : others) {
    if (t.info.type != dtype::f8_e4m3) continue;
    for (const char* suffix : {fp8_scale_suffix, scale_suffix})
      if (const auto scales = by_name.find(t.info.name + suffix); scales != by_name.end()) found[&t] = scales->second;
    const std::string kind = "is F8_E4M3 ";
    if (!found.contains(&t))
      throw file_error({.file = where,
                        .tensor = t.info.name,
                        .value = kind + "without " + quote_name(t.info.name + fp8_scale_suffix) + " or " +
                                 quote_name(t.info.name + scale_suffix),
                        .expected = "its block scales"});
    const tensor_info& scales = found[&t]->info;
    if (t.info.shape.size() != 2)
      throw file_error(
          {.file = where, .tensor = t.info.name, .value = kind + shape_text(t.info.shape), .expected = "a matrix"});
    const std::vector<std::int64_t> expected = {fp8_block_count(t.info.shape[0]), fp8_block_count(t.info.shape[1])};
    if (scales.type != dtype::f32 || scales.shape != expected)
      throw file_error({.file = where,
                        .tensor = t.info.name,
                        .value = kind + "with scales " + quote_name(scales.name) + " " + dtype_name(scales.type) + " " +
                                 shape_text(scales.shape),
                        .expected = "F32 " + shape_text(expected)});
  }
  return found;
}

[[nodiscard]] std::optional<std::string> make_config_text(ordered_json config) {
  if (config.is_null()) return std::nullopt;
  config.erase("quantization_config");
  remove_nested_quantization(config);
  set_bf16(config);
  return config.dump(2) + "\n";
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

/// Codes of another format would be copied as if they were weights, and config.json would no longer say what they are.
void require_known_formats(const std::vector<plain_tensor>& others, const ordered_json& config,
                           const std::string& where) {
  std::vector<tensor_info> tensors;
  for (const plain_tensor& t : others) tensors.push_back(t.info);
  std::erase_if(tensors, [](const tensor_info& t) { return t.type == dtype::f8_e4m3; });  // find_fp8_scales has judged
  if (const foreign_weights found = find_foreign_weights(tensors, config); !found.tensor.empty())
    throw file_error({.file = where,
                      .tensor = found.tensor,
                      .value = "is " + found.format,
                      .expected = "MXFP4 of compressed-tensors, FP8 in blocks of 128 x 128, or weights",
                      .advice = "dequantise it with the program that wrote it"});
}

}  // namespace

file_result<dequantize_directory_report> dequantize_directory(const std::string& input, const std::string& output,
                                                              const dequantize_options& options) {
  return guarded([&]() -> dequantize_directory_report {
    const checkpoint_reader in = checkpoint_reader::open(input).value();
    require_outputs({input}, {output}, options.existing).value();
    const ordered_json config = read_config(in);
    const weight_list list = find_weights(in);
    require_known_formats(list.others, config, input);
    const auto fp8_scales = find_fp8_scales(list.others, input);
    dequantize_directory_report report;
    std::vector<tensor_job> jobs;
    for (const mxfp4_weight& w : list.weights) {
      if (w.form == weight_form::gpt_oss)
        throw file_error({.file = input,
                          .tensor = w.name + "_blocks",
                          .value = "is in the form of gpt-oss",
                          .expected = "that of compressed-tensors",
                          .advice = "mxfp4 convert --to compressed-tensors first"});
      jobs.push_back(decode_job(w, report.nan_blocks, input));
      ++report.dequantized;
    }
    std::unordered_set<const plain_tensor*> consumed;
    for (const auto& [fp8, scales] : fp8_scales) consumed.insert(scales);
    for (const plain_tensor& t : list.others) {
      if (const auto found = fp8_scales.find(&t); found != fp8_scales.end()) {
        jobs.push_back(widen_job(t, *found->second, input));
        ++report.widened;
      } else if (!consumed.contains(&t)) {
        jobs.push_back(copy_job(t));
        ++report.copied;
      }
    }
    if (report.dequantized + report.widened == 0 && config.is_object() && config.contains("quantization_config"))
      throw file_error({.file = input,
                        .value = "holds no MXFP4 and no FP8 weights, but a quantization_config",
                        .expected = "weights that it is true of"});
    add_warnings(report, list, config);
    for (std::size_t i = 0; i < in.shards().size(); ++i) report.bytes_before += in.shard(i).file_bytes();
    const auto require_unchanged = [&in] {
      for (std::size_t i = 0; i < in.shards().size(); ++i) in.shard(i).require_unchanged().value();
    };
    report.after = write_directory(output, jobs, {make_config_text(config), &in}, options.max_shard_bytes,
                                   {options.progress, require_unchanged, options.stop, options.existing})
                       .value();
    return report;
  });
}

}  // namespace mxfp4::checkpoint

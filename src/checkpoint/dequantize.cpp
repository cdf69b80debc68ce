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
#include "checkpoint/fp8_tiles.hpp"
#include "checkpoint/mxfp4_weights.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "io/guarded.hpp"
#include "io/slabs.hpp"
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

/// @param weight  in compressed-tensors' form.
[[nodiscard]] tensor_job decode_job(const mxfp4_weight& weight, std::int64_t& nan_blocks, const std::string& where) {
  return {{{weight.name, dtype::bf16, weight.shape}}, [&weight, &nan_blocks, &where](const append_function& append) {
            std::vector<std::uint8_t> codes, scales;
            std::vector<bf16> numbers;
            const std::int64_t blocks = weight.rows() * weight.cols() / block_size;
            for_each_slab(blocks, slab_elements / block_size, [&](std::int64_t first, std::int64_t count) {
              codes.resize(static_cast<std::size_t>(count * block_code_bytes));
              scales.resize(static_cast<std::size_t>(count));
              numbers.resize(static_cast<std::size_t>(count * block_size));
              weight.codes(static_cast<std::uint64_t>(first * block_code_bytes),
                           std::as_writable_bytes(std::span(codes)));
              weight.scales(static_cast<std::uint64_t>(first), std::as_writable_bytes(std::span(scales)));
              const auto in = make_view(std::span<const std::uint8_t>(codes), std::span<const std::uint8_t>(scales), 1,
                                        count * block_size);
              const auto out = make_dense_view(std::span(numbers), 1, count * block_size);
              const status s = !in ? in.error() : !out ? out.error() : codec::dequantize(*in, *out);
              if (!s.ok())
                throw file_error({.file = where, .tensor = weight.name, .value = std::string(message(s).view())});
              nan_blocks += std::count(scales.begin(), scales.end(), static_cast<std::uint8_t>(e8m0::nan));
              append_numbers(append, weight.name, numbers);
            });
          }};
}

/// @param w  F8_E4M3 [rows, cols].  @param scales  F32 [ceil(rows / 128), ceil(cols / 128)].
[[nodiscard]] tensor_job widen_job(const plain_tensor& w, const plain_tensor& scales, const std::string& where) {
  return {{{w.info.name, dtype::bf16, w.info.shape}}, [&w, &scales, &where](const append_function& append) {
            const std::int64_t cols = w.info.shape[1], across = fp8_block_count(cols);
            std::vector<float> block_scales;
            std::vector<e4m3> fp8;
            std::vector<bf16> numbers;
            for_each_fp8_tile(w.info.shape[0], cols, slab_elements, [&](const fp8_tile& tile) {
              fp8.resize(static_cast<std::size_t>(tile.size()));
              numbers.resize(fp8.size());
              w.read(static_cast<std::uint64_t>(tile.first(cols)), std::as_writable_bytes(std::span(fp8)));
              block_scales.resize(static_cast<std::size_t>(fp8_block_count(tile.cols)));
              scales.read(static_cast<std::uint64_t>(4 * (tile.row / fp8_block * across + tile.col / fp8_block)),
                          std::as_writable_bytes(std::span(block_scales)));
              swap_if_big_endian(std::span(block_scales));
              const std::int64_t n = std::ssize(block_scales);
              const status s =
                  codec::widen_fp8({fp8.data(), tile.rows, tile.cols, tile.cols}, {block_scales.data(), 1, n, n},
                                   {numbers.data(), tile.rows, tile.cols, tile.cols});
              if (!s.ok())
                throw file_error({.file = where, .tensor = w.info.name, .value = std::string(message(s).view())});
              append_numbers(append, w.info.name, numbers);
            });
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

/// Codes of another format would be copied as if they were weights, and config.json would no longer say what they are.
void require_known_formats(const std::vector<plain_tensor>& others, const ordered_json& config,
                           const std::string& where) {
  std::vector<tensor_info> tensors;
  for (const plain_tensor& t : others) tensors.push_back(t.info);
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
    dequantize_directory_report report;
    report.warnings = require_undamaged(in, {.progress = options.progress, .stop = options.stop});
    const weight_list list = find_weights(in);
    require_known_formats(list.others, config, input);
    const auto fp8_scales = find_fp8_scales(list.others, input);
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

// src/checkpoint/dequantize_file.cpp -- finding the MXFP4 tensors of a file, and turning them into numbers again.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "checkpoint/block_encoder.hpp"
#include "checkpoint/codec.hpp"
#include "checkpoint/foreign_format.hpp"
#include "io/guarded.hpp"
#include "io/slabs.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/elements.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

[[nodiscard]] std::string_view base_name(const tensor_info& packed) {
  const std::string_view name = packed.name;
  return name.ends_with(packed_suffix) ? name.substr(0, name.rfind(packed_suffix)) : std::string_view{};
}

/// Of a file by itself the pairs of compressed-tensors are decoded. Other codes would be copied like weights. What is
/// only called _packed is copied with the reason, unless it is INT4 or NVFP4 by what is beside it.
void require_no_other_codes(const safetensors_reader& in) {
  const auto is_another = [&in](const tensor_info& packed) {
    const std::string name(base_name(packed));
    return in.find(name + "_shape") != nullptr || in.find(name + "_global_scale") != nullptr;
  };
  std::vector<tensor_info> others;
  for (const tensor_info& t : in.header().tensors)
    if (!t.name.ends_with(packed_suffix) || is_another(t)) others.push_back(t);
  if (const foreign_weights found = find_foreign_weights(others, {}); !found.tensor.empty())
    throw file_error({.file = in.path(),
                      .tensor = found.tensor,
                      .value = "is " + found.format,
                      .expected = "MXFP4 of compressed-tensors in a file by itself",
                      .advice = found.use == codes_are::refused
                                    ? "dequantise it with the program that wrote it"
                                    : "mxfp4 dequantize takes the directory of a checkpoint, in which it knows it"});
  require_no_unknown_codes(others, false, in.path());
}

/// Decodes tensor by tensor from an open input to a file under a temporary name; T is float or bf16.
template <class T>
void dequantize_tensor(const safetensors_reader& in, const mxfp4_tensor& w, safetensors_writer& out,
                       const std::function<void(std::uint64_t)>& done) {
  std::vector<std::uint8_t> codes, scales;
  std::vector<T> weights;
  for_each_slab(w.rows * w.cols / block_size, slab_blocks, [&](std::int64_t first, std::int64_t blocks) {
    codes.resize(static_cast<std::size_t>(blocks * block_code_bytes));
    scales.resize(static_cast<std::size_t>(blocks));
    weights.resize(static_cast<std::size_t>(blocks * block_size));
    read_elements(in, *w.packed, first * block_code_bytes, std::span(codes)).value();
    read_elements(in, *w.scale, first, std::span(scales)).value();
    const auto view =
        make_view(std::span<const std::uint8_t>(codes), std::span<const std::uint8_t>(scales), blocks, block_size);
    const auto dense = make_dense_view(std::span(weights), blocks, block_size);
    const status s = !view ? view.error() : !dense ? dense.error() : codec::dequantize(*view, *dense);
    if (!s.ok()) throw file_error({.file = in.path(), .tensor = w.name, .value = std::string(message(s).view())});
    append_elements(out, w.name, std::span(weights)).value();
    done(static_cast<std::uint64_t>(blocks) * block_bytes);
  });
}

}  // namespace

std::string why_no_pair(const safetensors_reader& file, const tensor_info& packed) {
  if (base_name(packed).empty()) return {};
  if (packed.type != dtype::u8) return std::string("packed as ") + dtype_name(packed.type) + ", not U8";
  if (packed.shape.size() != 2) return "packed, " + std::to_string(packed.shape.size()) + "-D, not a matrix";
  if (packed.shape[1] % block_code_bytes != 0)
    return "packed, " + std::to_string(packed.shape[1]) + " columns, not a multiple of 16";
  const std::string scale_name = std::string(base_name(packed)) + scale_suffix;
  const tensor_info* scale = file.find(scale_name);
  if (scale == nullptr) return "packed, without " + quote_name(scale_name);
  const std::vector<std::int64_t> expected = {packed.shape[0], packed.shape[1] / block_code_bytes};
  if (scale->type != dtype::u8 || scale->shape != expected)
    return std::string("packed, its scale is ") + dtype_name(scale->type) + " " + shape_text(scale->shape) +
           ", not U8 " + shape_text(expected);
  return {};
}

std::vector<mxfp4_tensor> find_mxfp4_tensors(const safetensors_reader& file) {
  std::vector<mxfp4_tensor> found;
  for (const tensor_info& t : file.header().tensors) {
    const std::string name(base_name(t));
    if (name.empty() || !why_no_pair(file, t).empty()) continue;
    found.push_back({name, &t, file.find(name + scale_suffix), t.shape[0], 2 * t.shape[1]});
  }
  return found;
}

file_result<stored_scale_range> read_stored_scale_range(const safetensors_reader& file, const mxfp4_tensor& tensor) {
  return guarded([&]() -> stored_scale_range {
    stored_scale_range range;
    std::vector<std::uint8_t> scales;
    for_each_slab(tensor.scale->elements(), slab_weights, [&](std::int64_t first, std::int64_t count) {
      scales.resize(static_cast<std::size_t>(count));
      read_elements(file, *tensor.scale, first, std::span(scales)).value();
      for (const int byte : scales) {
        if (byte == static_cast<int>(e8m0::nan)) {
          ++range.nan;
        } else {
          range.smallest = std::min(range.smallest, byte);
          range.largest = std::max(range.largest, byte);
        }
      }
    });
    return range;
  });
}

file_result<dequantize_report> dequantize_file(const std::string& input, const std::string& output, dtype to,
                                               const progress_function& progress, const stop_function& stop,
                                               existing_file existing) {
  return guarded([&]() -> dequantize_report {
    require_outputs({input}, {output}, existing).value();
    const safetensors_reader in = safetensors_reader::open(input).value();
    const std::vector<mxfp4_tensor> weights = find_mxfp4_tensors(in);
    require_no_other_codes(in);

    dequantize_report report;
    std::unordered_set<const tensor_info*> consumed;
    std::vector<tensor_info> tensors;
    for (const mxfp4_tensor& w : weights) {
      if (in.find(w.name) != nullptr)
        throw file_error({.file = in.path(),
                          .tensor = w.name,
                          .value = "is there beside " + quote_name(w.packed->name),
                          .expected = "one of the two"});
      consumed.insert({w.packed, w.scale});
      tensors.push_back({w.name, to, {w.rows, w.cols}});
    }
    for (const tensor_info& t : in.header().tensors)
      if (!consumed.contains(&t)) {
        const std::string why = why_no_pair(in, t);
        report.copied.push_back({t, why.empty() ? "not MXFP4" : why});
        tensors.push_back(t);
      }

    safetensors_writer out =
        safetensors_writer::create(output, std::move(tensors), in.header().extra, stop, existing).value();
    std::uint64_t bytes_done = 0;
    const auto done = [&](std::uint64_t bytes) { progress(bytes_done += bytes, in.file_bytes()); };
    for (const mxfp4_tensor& w : weights) {
      if (to == dtype::bf16) dequantize_tensor<bf16>(in, w, out, done);
      else dequantize_tensor<float>(in, w, out, done);
      report.dequantized.push_back({w.name, {w.rows, w.cols}, read_stored_scale_range(in, w).value().nan});
    }
    for (const copied_tensor& c : report.copied) copy_tensor(in, c.tensor, out, done);
    out.commit().value();
    report.file_bytes_before = in.file_bytes();
    report.file_bytes_after = out.file_bytes();
    return report;
  });
}

}  // namespace mxfp4::checkpoint

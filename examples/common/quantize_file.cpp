// examples/common/quantize_file.cpp -- decide what becomes of each tensor, write the header, stream the tensors.
// SPDX-License-Identifier: Apache-2.0
#include <unordered_set>
#include <utility>

#include "common/checkpoint.hpp"
#include "common/tensor_io.hpp"

namespace mxfp4::tools {

namespace {

/// std::regex recurses once a character, so a long enough name would overflow the stack.
constexpr std::size_t longest_matched_name = 4096;

[[nodiscard]] std::string where(const safetensors_reader& file, const std::string& name) {
  return file.path() + ": tensor " + quote_name(name);
}

[[nodiscard]] std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

/// The tensor X whose FP8 block scales `tensor` (X_scale_inv) holds, or nullptr.
[[nodiscard]] const tensor_info* owner_of_fp8_scales(const safetensors_reader& file, const tensor_info& tensor) {
  const std::string& name = tensor.name;
  if (!name.ends_with(fp8_scale_suffix)) return nullptr;
  const tensor_info* owner = file.find(std::string_view(name).substr(0, name.rfind(fp8_scale_suffix)));
  return owner != nullptr && owner->type == dtype::f8_e4m3 ? owner : nullptr;
}

/// Why `t` is not quantised; empty where it is. `matches`: its name was asked for.
[[nodiscard]] std::string why_copied(const safetensors_reader& file, const tensor_info& t,
                                     const quantize_options& options) {
  if (const tensor_info* owner = owner_of_fp8_scales(file, t)) return "block scales of " + quote_name(owner->name);
  if (t.name.size() > longest_matched_name)
    throw file_error(where(file, t.name) + ": the name has " + std::to_string(t.name.size()) +
                     " bytes, expected at most " + std::to_string(longest_matched_name));
  if (!std::regex_search(t.name, options.include)) return "name is not included";
  if (options.exclude && std::regex_search(t.name, *options.exclude)) return "name is excluded";
  if (t.shape.size() != 2) return std::to_string(t.shape.size()) + "-D, not a matrix";
  if (t.elements() == 0) return "empty";
  const bool is_fp8 = t.type == dtype::f8_e4m3;
  if (t.type != dtype::f32 && t.type != dtype::f16 && t.type != dtype::bf16 && !is_fp8)
    return std::string(dtype_name(t.type)) + ", not F32, F16, BF16 or F8_E4M3";
  if (t.shape[1] % block_size != 0) return std::to_string(t.shape[1]) + " columns, not a multiple of 32";
  if (is_fp8) {
    const std::vector<std::int64_t> expected = {ceil_div(t.shape[0], fp8_block), ceil_div(t.shape[1], fp8_block)};
    const tensor_info* scales = file.find(t.name + fp8_scale_suffix);
    if (scales == nullptr) return "F8_E4M3 without " + quote_name(t.name + fp8_scale_suffix);
    if (scales->type != dtype::f32 || scales->shape != expected)
      return std::string("its block scales are ") + dtype_name(scales->type) + " " + shape_text(scales->shape) +
             ", not F32 " + shape_text(expected);
  }
  return {};
}

[[nodiscard]] std::vector<float> read_fp8_scales(const safetensors_reader& file, const tensor_info& tensor) {
  std::vector<float> scales(static_cast<std::size_t>(tensor.elements()));
  read_elements(file, tensor, 0, std::span(scales));
  return scales;
}

/// The weights [first, first + out.size()) of an FP8 tensor, whole blocks, as every reader of such files widens them:
/// bf16(w * scale). mxfp4::quantize_fp8 has the same bytes; the widened weights are here for the statistics too.
void widen_fp8(std::span<const e4m3> w, std::int64_t first, std::int64_t cols, std::span<const float> scales,
               std::span<bf16> out) {
  const std::int64_t scale_cols = ceil_div(cols, fp8_block);
  for (std::size_t i = 0; i < w.size(); i += block_size) {
    const std::int64_t at = first + static_cast<std::int64_t>(i);
    const float scale = scales[static_cast<std::size_t>(at / cols / fp8_block * scale_cols + at % cols / fp8_block)];
    for (std::size_t j = i; j < i + block_size; ++j) out[j] = decode_scaled(w[j], scale);
  }
}

/// One run from an open input to a file under a temporary name.
class quantizer {
 public:
  quantizer(const safetensors_reader& in, safetensors_writer& out, const quantize_options& options)
      : in_(in), out_(out), options_(options) {}

  [[nodiscard]] quantized_tensor quantize_tensor(const tensor_info& t) {
    block_encoder encoder(options_.recipe, options_.nonfinite);
    quantized_tensor result{t, t.bytes(), 0, {}};
    switch (t.type) {
      case dtype::f32:
        encode_as<float>(t, encoder);
        break;
      case dtype::f16:
        encode_as<f16>(t, encoder);
        break;
      case dtype::bf16:
        encode_as<bf16>(t, encoder);
        break;
      default:
        const tensor_info& scales = *in_.find(t.name + fp8_scale_suffix);
        encode_fp8(t, read_fp8_scales(in_, scales), encoder);
        result.source_bytes += scales.bytes();
        report(scales.bytes());
    }
    result.statistics = encoder.statistics();
    result.mxfp4_bytes = static_cast<std::uint64_t>(t.elements() / block_size * block_bytes);
    return result;
  }

  void copy(const tensor_info& t) {
    copy_tensor(in_, t, out_, [this](std::uint64_t bytes) { report(bytes); });
  }

 private:
  template <class T>
  void encode_as(const tensor_info& t, block_encoder& encoder) {
    std::vector<T> weights;
    for_each_slab(t.elements(), slab_weights, [&](std::int64_t first, std::int64_t count) {
      weights.resize(static_cast<std::size_t>(count));
      read_elements(in_, t, first, std::span(weights));
      encode_slab<T>(t, weights, first, encoder);
    });
  }

  void encode_fp8(const tensor_info& t, const std::vector<float>& scales, block_encoder& encoder) {
    std::vector<e4m3> weights;
    std::vector<bf16> widened;
    for_each_slab(t.elements(), slab_weights, [&](std::int64_t first, std::int64_t count) {
      weights.resize(static_cast<std::size_t>(count));
      widened.resize(static_cast<std::size_t>(count));
      read_elements(in_, t, first, std::span(weights));
      widen_fp8(weights, first, t.shape[1], scales, widened);
      encode_slab<bf16>(t, widened, first, encoder);
    });
  }

  template <class T>
  void encode_slab(const tensor_info& t, std::span<const T> weights, std::int64_t first, block_encoder& encoder) {
    const status s = encoder.encode(weights);
    if (s.code == errc::nonfinite) {
      const std::int64_t at = first + s.value;
      throw file_error(where(in_, t.name) + ": weight [" + std::to_string(at / t.shape[1]) + ", " +
                       std::to_string(at % t.shape[1]) +
                       "] is NaN or infinite, expected finite weights: repair it, or allow it with --nonfinite encode");
    }
    if (!s.ok()) throw file_error(where(in_, t.name) + ": " + std::string(message(s).view()));
    out_.append(t.name + packed_suffix, std::as_bytes(encoder.codes()));
    out_.append(t.name + scale_suffix, std::as_bytes(encoder.scales()));
    report(t.bytes() / static_cast<std::uint64_t>(t.elements()) * weights.size());
  }

  void report(std::uint64_t bytes) { options_.progress(done_ += bytes, in_.file_bytes()); }

  const safetensors_reader& in_;
  safetensors_writer& out_;
  const quantize_options& options_;
  std::uint64_t done_ = 0;
};

}  // namespace

quantize_report quantize_file(const std::string& input, const std::string& output, const quantize_options& options) {
  require_distinct(input, output);
  const safetensors_reader in(input);

  std::vector<std::string> reasons;                 // for each tensor: why it is copied, empty if it is not
  std::unordered_set<const tensor_info*> consumed;  // FP8 block scales, of which the new scales take the place
  std::vector<tensor_info> tensors;                 // of the output
  for (const tensor_info& t : in.header().tensors) {
    reasons.push_back(why_copied(in, t, options));
    if (!reasons.back().empty()) continue;
    if (t.type == dtype::f8_e4m3) consumed.insert(in.find(t.name + fp8_scale_suffix));
    for (const char* suffix : {packed_suffix, scale_suffix})
      if (in.find(t.name + suffix) != nullptr)
        throw file_error(where(in, t.name + suffix) + ": is there already, expected the name to be free for " +
                         quote_name(t.name) + ": leave that one out with --exclude");
    tensors.push_back({t.name + packed_suffix, dtype::u8, {t.shape[0], t.shape[1] / 2}});
    tensors.push_back({t.name + scale_suffix, dtype::u8, {t.shape[0], t.shape[1] / block_size}});
  }
  quantize_report report;
  for (std::size_t i = 0; i < reasons.size(); ++i)
    if (const tensor_info& t = in.header().tensors[i]; !reasons[i].empty() && !consumed.contains(&t)) {
      tensors.push_back(t);
      report.copied.push_back({t, reasons[i]});
    }

  safetensors_writer out(output, std::move(tensors), in.header().extra);
  quantizer run(in, out, options);
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    const tensor_info& t = in.header().tensors[i];
    if (reasons[i].empty()) {
      report.quantized.push_back(run.quantize_tensor(t));
      report.total += report.quantized.back().statistics;
      report.weight_bytes_before += report.quantized.back().source_bytes;
      report.weight_bytes_after += report.quantized.back().mxfp4_bytes;
    } else if (!consumed.contains(&t)) {
      run.copy(t);
    }
  }
  out.commit();
  report.file_bytes_before = in.file_bytes();
  report.file_bytes_after = out.file_bytes();
  return report;
}

}  // namespace mxfp4::tools

// mxfp4/checkpoint/quantize_file.hpp -- a safetensors file <-> the same with its weights as MXFP4.
// SPDX-License-Identifier: Apache-2.0
//
//   X.weight  F32, F16, BF16 [rows, cols]               X.weight_packed  U8 [rows, cols / 2]   low nibble: even column
//   or F8_E4M3 + X.weight_scale_inv F32           -->   X.weight_scale   U8 [rows, cols / 32]  E8M0
//      [ceil(rows / 128), ceil(cols / 128)]
//
// Everything else is copied byte for byte, and listed with the reason. A few slabs are in memory at a time:
// quantize_shard.hpp says how many; quantize.hpp does whole directories.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/tensor/call_options.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

inline constexpr std::string_view weight_suffix = ".weight";   ///< of a module's matrix
inline constexpr const char* packed_suffix = "_packed";        ///< of compressed-tensors: the codes of X
inline constexpr const char* scale_suffix = "_scale";          ///< of compressed-tensors: the scale bytes of X
inline constexpr const char* blocks_suffix = "_blocks";        ///< of gpt-oss, as the next one
inline constexpr const char* scales_suffix = "_scales";        ///< the scale bytes
inline constexpr const char* fp8_scale_suffix = "_scale_inv";  ///< the scales of a block-FP8 weight

/// Called now and then: bytes of the input that are done, bytes in all.
using progress_function = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// A tensor that was not quantised.
struct copied_tensor {
  io::tensor_info tensor;  ///< as the input has it
  std::string reason;      ///< why
};

// ---- to MXFP4 -------------------------------------------------------------------------------------------------------

/// How quantize_file is run.
struct quantize_file_options {
  recipe_id recipe = recipe_id::ocp;   ///< whose bytes
  std::optional<std::string> include;  ///< RE2's syntax, searched in the tensor's name; without it: is_expert_weight
  std::optional<std::string> exclude;  ///< the same; wins over include
  on_nonfinite nonfinite = on_nonfinite::refuse;  ///< what becomes of NaN and infinity in the weights
  int threads = 0;                                ///< 0: as many as the machine has
  progress_function progress = [](std::uint64_t, std::uint64_t) {};  ///< told of the bytes that were read
  io::stop_function stop = {};                                       ///< asked before each piece that is written
  io::existing_file existing = io::existing_file::refuse;            ///< what becomes of an output that is there
};

/// A tensor that was quantised.
struct quantized_tensor {
  io::tensor_info source;          ///< as the input has it
  std::uint64_t source_bytes = 0;  ///< with FP8 block scales
  std::uint64_t mxfp4_bytes = 0;   ///< codes and scales
  error_statistics statistics;     ///< what was lost of it
};

/// What quantize_file did.
struct quantize_report {
  std::vector<quantized_tensor> quantized;                        ///< in the order of the input
  std::vector<copied_tensor> copied;                              ///< the others
  error_statistics total;                                         ///< over the quantized ones
  std::uint64_t weight_bytes_before = 0, weight_bytes_after = 0;  ///< of the quantised ones
  std::uint64_t file_bytes_before = 0, file_bytes_after = 0;      ///< of the whole files
};

/// An error where something is wrong with a file, a name is taken already, or a weight is not finite and `nonfinite` is
/// refuse. `output` does not appear, or stays as it was, then.
[[nodiscard]] io::file_result<quantize_report> quantize_file(const std::string& input, const std::string& output,
                                                             const quantize_file_options& options);

// ---- and back -------------------------------------------------------------------------------------------------------

/// A pair `name`_packed, `name`_scale that makes one MXFP4 tensor. Points into the reader it was found in.
struct mxfp4_tensor {
  std::string name;                         ///< X
  const io::tensor_info* packed = nullptr;  ///< its codes, U8 [rows, cols / 2]
  const io::tensor_info* scale = nullptr;   ///< its scale bytes, U8 [rows, cols / 32]
  std::int64_t rows = 0, cols = 0;          ///< in weights

  /// Of codes and scales.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return packed->bytes() + scale->bytes(); }
};

/// The pairs of a file in the order of their packed tensors. A tensor called *_packed that has no fitting partner is
/// not among them; why_no_pair tells the reason.
[[nodiscard]] std::vector<mxfp4_tensor> find_mxfp4_tensors(const io::safetensors_reader& file);

/// Empty for a tensor that is not called *_packed or belongs to a pair.
[[nodiscard]] std::string why_no_pair(const io::safetensors_reader& file, const io::tensor_info& packed);

/// The scale bytes of a tensor: 255 is NaN and not counted for the range.
struct stored_scale_range {
  int smallest = 255, largest = 0;  ///< smallest > largest: every scale is NaN, or there is none
  std::int64_t nan = 0;             ///< blocks with scale byte 255
};
/// Reads all scale bytes of a tensor. An error for a file that cannot be read.
[[nodiscard]] io::file_result<stored_scale_range> read_stored_scale_range(const io::safetensors_reader& file,
                                                                          const mxfp4_tensor& tensor);

/// A tensor that was dequantised.
struct dequantized_tensor {
  std::string name;                 ///< X
  std::vector<std::int64_t> shape;  ///< in weights
  std::int64_t nan_blocks = 0;      ///< 32 NaN weights each
};

/// What dequantize_file did.
struct dequantize_report {
  std::vector<dequantized_tensor> dequantized;                ///< in the order of the input
  std::vector<copied_tensor> copied;                          ///< the others
  std::uint64_t file_bytes_before = 0, file_bytes_after = 0;  ///< of the whole files
};

/// @param to  dtype::bf16 (exact) or dtype::f32 (exact).
/// An error as quantize_file has.
[[nodiscard]] io::file_result<dequantize_report> dequantize_file(
    const std::string& input, const std::string& output, io::dtype to, const progress_function& progress,
    const io::stop_function& stop = {}, io::existing_file existing = io::existing_file::refuse);

}  // namespace mxfp4::checkpoint

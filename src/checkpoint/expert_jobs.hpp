// src/checkpoint/expert_jobs.hpp -- MXFP4 weights written in each of the forms of convert.hpp.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "checkpoint/expert_layers.hpp"
#include "mxfp4/checkpoint/tensor_job.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// The jobs of one layer's experts, or of one weight that is no expert's; they read through what they are made from,
/// which must outlive them.
/// @param where  begins the messages: the source's path.
/// @throws file_error where the form has no place for it. encode_fp8 jobs throw when they are run: exact_fp8.hpp.

[[nodiscard]] std::vector<tensor_job> per_expert_jobs(const expert_layer& layer);
[[nodiscard]] std::vector<tensor_job> stacked_jobs(const expert_layer& layer, const std::string& where);
[[nodiscard]] std::vector<tensor_job> gpt_oss_jobs(const expert_layer& layer, const std::string& where);
[[nodiscard]] std::vector<tensor_job> fp8_jobs(const expert_layer& layer, const std::string& where);
[[nodiscard]] std::vector<gguf_job> gguf_jobs(const expert_layer& layer, const std::string& where);

[[nodiscard]] tensor_job pair_job(const mxfp4_weight& weight);
[[nodiscard]] tensor_job fp8_job(const mxfp4_weight& weight, const std::string& where);
[[nodiscard]] gguf_job ggml_job(const mxfp4_weight& weight);

[[nodiscard]] tensor_job copy_job(const plain_tensor& tensor);
[[nodiscard]] gguf_job copy_to_gguf_job(const plain_tensor& tensor, const std::string& where);

}  // namespace mxfp4::checkpoint

// mxfp4/checkpoint/activations.hpp -- what a server multiplies MXFP4 weights with, as quantization_config declares it.
// SPDX-License-Identifier: Apache-2.0
//
//   declared   preset of compressed-tensors   input_activations                  vLLM 0.33 on a GPU
//   none       MXFP4A16                       null                               as mxfp4 where it has such a
//                                                                                kernel, else 16 bits
//   fp8        MXFP4XFP8                      FP8, 128 of a row sharing a scale  its FP4 x FP8 kernel
//   mxfp4      MXFP4                          MXFP4                              FP4 x FP4
//
// The weights are the same bytes. compressed-tensors 0.17 has no preset of the name MXFP4XFP8 and reads what it says.
// Source: compressed-tensors 0.20 quantization/quant_scheme.py; vLLM 0.33, read and not run on a GPU.
#pragma once

#include <cstdint>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What the result's config.json says of activations.
enum class declared_activations : std::uint8_t { none, fp8, mxfp4 };
/// Its values on the command line, in the order of the enumerators.
inline constexpr const char* declared_activations_names[] = {"none", "fp8", "mxfp4"};

}  // namespace mxfp4::checkpoint

// src/calibrate/imatrix.hpp -- llama.cpp's importance matrices: mean squares of the inputs of each weight.
// SPDX-License-Identifier: Apache-2.0
//
//   GGUF (llama-imatrix since July 2025)     general.type "imatrix", imatrix.chunk_count, imatrix.chunk_size
//     <weight>.in_sum2  F32 [n, cols]        sums of squares, of an expert a row
//     <weight>.counts   F32 [n, 1]           tokens that they are sums over
//   .dat (before; --output-format dat)       little-endian
//     i32 entries, and for each              i32 length, name;  i32 calls;  i32 n * cols;  f32 of each, times calls
//     i32 chunks, i32 length, name of the text: may be missing
//
// A .dat has a 1 for each column of an expert that no token took, and does not say how many tokens the others had.
// Source: llama.cpp, tools/imatrix/imatrix.cpp and common/imatrix-loader.cpp (September 2026).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mxfp4::calibrate {

/// Of one tensor of llama.cpp's.
struct imatrix_entry {
  std::vector<float> squares;        ///< means, [n][cols]; 0 where no token was counted
  std::vector<std::int64_t> counts;  ///< tokens, n of them; empty: the file does not say
};

struct imatrix {
  std::map<std::string, imatrix_entry> entries;  ///< "blk.0.ffn_down_exps.weight"
  std::int64_t chunks = 0, chunk_size = 0;       ///< of the text, and tokens of each; 0: the file does not say
};

/// @throws io::file_error where it is neither, cut short, or has numbers that are no mean squares.
[[nodiscard]] imatrix read_imatrix(const std::string& path);

/// What llama.cpp calls the tensor, "blk.3.ffn_up_exps.weight", that a weight of a checkpoint is or is in; empty: it
/// multiplies no such inputs, or nobody knows. Its number there: an expert's, else 0.
struct imatrix_place {
  std::string entry;
  std::int64_t expert = 0;
};
/// @param weight  "model.layers.3.mlp.experts.17.up_proj.weight", or a stack "model.layers.3.mlp.experts.down_proj".
[[nodiscard]] imatrix_place imatrix_place_of(const std::string& weight);

}  // namespace mxfp4::calibrate

// src/checkpoint/verify_gguf.cpp -- see verify_gguf.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/verify_gguf.hpp"

#include <algorithm>

#include "checkpoint/llama_cpp.hpp"
#include "checkpoint/weight_source.hpp"
#include "io/guarded.hpp"
#include "io/slabs.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

/// Blocks of 17 bytes whose scale byte is 255.
struct marked_blocks {
  std::int64_t zeros = 0, others = 0;  ///< over codes of zero alone, and over others
};

void count_marked(std::span<const std::uint8_t> blocks, marked_blocks& count) {
  constexpr unsigned magnitudes = 0x77;
  for (std::size_t at = 0; at < blocks.size(); at += block_bytes) {
    const auto codes = blocks.subspan(at + 1, block_code_bytes);
    if (blocks[at] != 255) continue;
    const bool zeros =
        std::all_of(codes.begin(), codes.end(), [](std::uint8_t byte) { return (byte & magnitudes) == 0; });
    ++(zeros ? count.zeros : count.others);
  }
}

[[nodiscard]] std::string blocks_text(std::int64_t n) { return std::to_string(n) + (n == 1 ? " block" : " blocks"); }

}  // namespace

verify_report verify_gguf(const std::string& path, const verify_options& options) {
  if (!options.against.empty())
    throw file_error({.file = path,
                      .value = "is a GGUF file, which is not compared with a source",
                      .advice = "convert it to compressed-tensors, and verify that --against the source"});
  weight_source s;
  open_weights(path, s);
  verify_report r;
  const auto add = [&r](severity level, const char* check, const std::string& where, const std::string& what) {
    r.findings.push_back({level, check, where, what});
  };
  r.tensors = std::ssize(s.weights.weights) + std::ssize(s.weights.others);
  r.mxfp4 = std::ssize(s.weights.weights);
  if (r.mxfp4 == 0) add(severity::error, "pairs", path, "holds no MXFP4 tensor");
  const gguf_header& header = s.gguf[0]->header();
  const std::string* architecture = header.find_string("general.architecture");
  if (architecture == nullptr) {
    add(severity::error, "config", "general.architecture", "is not there: no reader knows what the model is");
  } else if (find_llama_architecture(*architecture) == nullptr) {
    add(severity::warning, "config", "general.architecture",
        "is '" + *architecture + "', whose names in llama.cpp are not known here: they are not looked at");
  } else {
    if (header.find("tokenizer.ggml.tokens") == nullptr)
      add(severity::error, "config", "tokenizer.ggml.tokens", "is not there: llama.cpp does not load a model without");
    for (const mxfp4_weight& w : s.weights.weights)
      if (!w.name.starts_with("model.") && w.name != "lm_head.weight")
        add(severity::error, "model", w.name, "is no tensor of this architecture in llama.cpp");
  }
  std::uint64_t done = 0;
  std::vector<std::uint8_t> blocks;
  for (const mxfp4_weight& w : s.weights.weights) {
    marked_blocks marked;
    constexpr std::int64_t slab = 1 << 16;
    for_each_slab(w.rows() * w.cols() / block_size, slab, [&](std::int64_t first, std::int64_t count) {
      if (options.stop && options.stop()) throw stopped(path);
      blocks.resize(static_cast<std::size_t>(count * block_bytes));
      w.codes(static_cast<std::uint64_t>(first * block_bytes), std::as_writable_bytes(std::span(blocks)));
      count_marked(blocks, marked);
      r.blocks += count;
      options.progress(done += blocks.size(), s.bytes);
    });
    if (marked.others > 0)
      add(severity::error, "content", w.name,
          "has " + blocks_text(marked.others) + " with scale byte 255, which is NaN, and 2^128 to ggml");
    if (marked.zeros > 0)
      add(severity::warning, "content", w.name,
          "has " + blocks_text(marked.zeros) +
              " of zeros with scale byte 255, as gguf writes weights below 2^-125: zero to ggml, NaN to others");
  }
  s.require_unchanged();
  return r;
}

}  // namespace mxfp4::checkpoint

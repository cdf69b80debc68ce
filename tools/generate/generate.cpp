// tools/generate/generate.cpp -- mxfp4_generate: weights of expert shape, or a whole checkpoint, from nothing.
// SPDX-License-Identifier: Apache-2.0
//
// What a mixture-of-experts checkpoint holds: experts of N(0, 0.02) weights in FP8 e4m3 with one scale per 128 x 128
// block, a router in F32, a norm in BF16; names and shapes of MiniMax-M2. The bytes depend on the seed alone.
// --checkpoint: a directory with all the tensors of such a model, small; see checkpoint.hpp.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "command_line.hpp"
#include "exact_normal.hpp"
#include "mxfp4/io/elements.hpp"
#include "mxfp4/reference/quantize.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

constexpr std::int64_t hidden = 3072, intermediate = 1536, routed_experts = 256;
constexpr double sigma = 0.02;
constexpr float e4m3_largest = 448.0f;

struct generate_options {
  std::string output, format = "fp8";
  int experts = 2;
  std::uint64_t seed = 1;
  bool whole_checkpoint = false;
  checkpoint_options checkpoint{{512, 256, 128, 2, 4, 2, 64, 0, 2, true}, 3, 1};
};

/// The next number of N(0, sigma). One rounding to double, one to float: IEEE, hence the same everywhere.
[[nodiscard]] float draw(exact_normal& normal) {
  return static_cast<float>(static_cast<double>(normal()) * (sigma / 0x1p32));
}

/// A matrix through FP8: 128 rows of it at a time are in memory.
void append_fp8(safetensors_writer& out, const tensor_info& t, bool as_bf16, std::uint64_t seed) {
  const std::int64_t rows = t.shape[0], cols = t.shape[1], scale_cols = cols / fp8_block;
  exact_normal normal(seed);
  std::vector<float> band(static_cast<std::size_t>(fp8_block * cols)), scales(static_cast<std::size_t>(scale_cols));
  std::vector<e4m3> codes(band.size());
  std::vector<bf16> widened(band.size());
  for (std::int64_t first = 0; first < rows; first += fp8_block) {
    for (float& w : band) w = draw(normal);
    for (std::int64_t b = 0; b < scale_cols; ++b) {
      const auto at = [&](std::int64_t r, std::int64_t c) {
        return static_cast<std::size_t>(r * cols + b * fp8_block + c);
      };
      float amax = 0;
      for (std::int64_t r = 0; r < fp8_block; ++r)
        for (std::int64_t c = 0; c < fp8_block; ++c) amax = std::max(amax, std::abs(band[at(r, c)]));
      const float scale = amax / e4m3_largest;
      for (std::int64_t r = 0; r < fp8_block; ++r)
        for (std::int64_t c = 0; c < fp8_block; ++c) {
          codes[at(r, c)] = encode_e4m3(band[at(r, c)] / scale);
          widened[at(r, c)] = decode_scaled(codes[at(r, c)], scale);
        }
      scales[static_cast<std::size_t>(b)] = scale;
    }
    if (as_bf16) {
      append_elements(out, t.name, std::span(widened)).value();
    } else {
      append_elements(out, t.name, std::span(codes)).value();
      append_elements(out, t.name + "_scale_inv", std::span(scales)).value();
    }
  }
}

void generate(const generate_options& options) {
  const bool as_bf16 = options.format == "bf16";
  const std::string layer = "model.layers.0.";
  const tensor_info gate{layer + "block_sparse_moe.gate.weight", dtype::f32, {routed_experts, hidden}};
  const tensor_info norm{layer + "post_attention_layernorm.weight", dtype::bf16, {hidden}};
  std::vector<tensor_info> experts, all = {gate, norm};
  for (int e = 0; e < options.experts; ++e)
    for (const char* part : {"w1", "w2", "w3"}) {
      const bool down = part == std::string("w2");
      const std::int64_t rows = down ? hidden : intermediate, cols = down ? intermediate : hidden;
      const std::string name = layer + "block_sparse_moe.experts." + std::to_string(e) + "." + part + ".weight";
      experts.push_back({name, as_bf16 ? dtype::bf16 : dtype::f8_e4m3, {rows, cols}});
      all.push_back(experts.back());
      if (!as_bf16) all.push_back({name + "_scale_inv", dtype::f32, {rows / fp8_block, cols / fp8_block}});
    }

  safetensors_writer out = safetensors_writer::create(options.output, all, metadata{{"format", "pt"}}).value();
  random_words seeds(options.seed);  // a stream of its own for each tensor
  for (const tensor_info& t : experts) append_fp8(out, t, as_bf16, seeds());
  exact_normal router(seeds());
  std::vector<float> weights(static_cast<std::size_t>(gate.elements()));
  for (float& w : weights) w = draw(router);
  append_elements(out, gate.name, std::span(weights)).value();
  std::vector<bf16> ones(static_cast<std::size_t>(hidden), encode_bf16(1.0f));
  append_elements(out, norm.name, std::span(ones)).value();
  out.commit().value();
  std::printf("%s: %d x 3 expert matrices in %s, %.2f MB\n", options.output.c_str(), options.experts,
              options.format.c_str(), static_cast<double>(out.file_bytes()) / 1e6);
}

void generate_directory(const generate_options& options) {
  checkpoint_options checkpoint = options.checkpoint;
  checkpoint.shape.experts = options.experts;
  checkpoint.shape.experts_per_token = std::min<std::int64_t>(checkpoint.shape.experts_per_token, options.experts);
  checkpoint.shape.fp8 = options.format == "fp8";
  checkpoint.seed = options.seed;
  const std::uint64_t bytes = generate_checkpoint(options.output, checkpoint);
  std::printf("%s: %lld layers of %d experts in %s, %d shards, %.2f MB\n", options.output.c_str(),
              static_cast<long long>(checkpoint.shape.layers), options.experts, options.format.c_str(),
              checkpoint.shards, static_cast<double>(bytes) / 1e6);
}

}  // namespace

}  // namespace mxfp4::tools

int main(int argc, char** argv) {
  mxfp4::tools::generate_options options;
  mxfp4::tools::program app(
      "mxfp4_generate",
      "A safetensors file with weights of expert shape, N(0, 0.02) through FP8; the same bytes on every machine");
  app.add_option("OUT", options.output, "Output: a .safetensors file; with --checkpoint a directory")
      .required()
      .type_name("PATH");
  app.add_option("--format", options.format,
                 "Experts as F8_E4M3 with 128 x 128 block scales, or as BF16 with the same values")
      .one_of({"fp8", "bf16"});
  app.add_option("--experts", options.experts,
                 "Number of experts (a layer), 14 million weights each without --checkpoint")
      .range_in_help(1, 256)
      .show_default();
  app.add_option("--seed", options.seed, "Seed of the random numbers").show_default();
  const mxfp4::tools::option whole = app.add_flag("--checkpoint", options.whole_checkpoint,
                                                  "A directory with all tensors of a MiniMax-M2, in these dimensions:");
  mxfp4::tools::minimax_m2_shape& shape = options.checkpoint.shape;
  const auto add_dimension = [&](const char* name, std::int64_t& value, const char* what, std::int64_t unit) {
    app.add_option(name, value, what).range_in_help(unit, 1 << 20).needs(whole).show_default();
  };
  add_dimension("--layers", shape.layers, "Number of layers", 1);
  add_dimension("--hidden", shape.hidden, "Hidden size", 32);
  add_dimension("--intermediate", shape.intermediate, "Intermediate size of an expert", 32);
  add_dimension("--vocabulary", shape.vocabulary, "Size of the vocabulary", 1);
  add_dimension("--heads", shape.heads, "Attention heads", 1);
  add_dimension("--key-value-heads", shape.key_value_heads, "Key and value heads", 1);
  add_dimension("--head-dim", shape.head_dim, "Dimension of a head", 2);
  app.add_option("--shards", options.checkpoint.shards, "Number of files")
      .range_in_help(1, 1000)
      .needs(whole)
      .show_default();
  app.on_run([&] {
    if (options.whole_checkpoint) mxfp4::tools::generate_directory(options);
    else mxfp4::tools::generate(options);
  });
  try {
    return app.run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mxfp4_generate: %s\n", error.what());
    return 1;
  }
}

// tools/generate/checkpoint.cpp -- see checkpoint.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/block_encoder.hpp"
#include "exact_normal.hpp"
#include "io/hash.hpp"
#include "io/slabs.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/io/elements.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr double sigma = 0.02;
constexpr double e4m3_largest = 448;

/// Normal numbers are drawn once, and then drawn from: a tensor costs a random word for four elements.
class samples {
 public:
  samples() {
    exact_normal normal(2);
    for (float& x : normal_) x = static_cast<float>(static_cast<double>(normal()) / 0x1p32);
    for (const float x : normal_) largest_ = std::max(largest_, std::abs(x));
    for (std::size_t i = 0; i < count; ++i)
      codes_[i] = encode_e4m3(static_cast<float>(static_cast<double>(normal_[i]) * (e4m3_largest / largest_)));
  }

  /// A block scale: so that the weights are N(0, sigma) or up to half more or less.
  [[nodiscard]] float block_scale(std::uint64_t word) const noexcept {
    const double spread = 0.5 + static_cast<double>(word >> 32) / 0x1p32;
    return static_cast<float>(sigma * largest_ / e4m3_largest * spread);
  }

  template <class T>
  [[nodiscard]] T pick(std::uint64_t word) const noexcept {
    const std::size_t at = word % count;
    if constexpr (std::is_same_v<T, e4m3>) return codes_[at];
    else if constexpr (std::is_same_v<T, bf16>) return encode_bf16(static_cast<float>(sigma * normal_[at]));
    else return static_cast<float>(sigma * normal_[at]);
  }

 private:
  static constexpr std::size_t count = 1 << 16;
  std::array<float, count> normal_{};
  std::array<e4m3, count> codes_{};
  float largest_ = 0;
};

class generator {
 public:
  generator(std::string directory, const checkpoint_options& options)
      : directory_(std::move(directory)), options_(options) {}

  std::uint64_t run() {
    std::vector<tensor_info> tensors = minimax_m2_tensors(options_.shape);
    std::uint64_t total = 0;
    for (const tensor_info& t : tensors) total += t.bytes();
    const std::vector<std::vector<tensor_info>> shards = split(std::move(tensors), total);
    std::error_code error;
    fs::create_directories(directory_, error);
    if (error) throw file_error({.file = directory_, .value = "cannot create the directory: " + error.message()});
    if (!fs::is_empty(directory_, error) || error)
      throw file_error({.file = directory_, .value = "is not an empty directory", .expected = "a new or an empty one"});
    write_shards(shards, total);
    write_other_files();
    return total;
  }

 private:
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }

  /// model-00000-of-00004, model-00001-of-00004, model-00003-of-00004
  [[nodiscard]] std::string shard_name(int shard) const {
    if (options_.shards == 1) return single_file_name;
    const int number = shard + 1 == options_.shards ? shard + 1 : shard;
    char name[48];
    std::snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", number, options_.shards + 1);
    return name;
  }

  void write_text(const std::string& name, std::string_view text) const {
    output_file file = output_file::create(path(name)).value();
    file.write(0, std::as_bytes(std::span(text))).value();
    file.commit().value();
  }

  void write_json(const std::string& name, const ordered_json& json) const { write_text(name, json.dump(2) + "\n"); }

  [[nodiscard]] std::vector<std::vector<tensor_info>> split(std::vector<tensor_info> tensors,
                                                            std::uint64_t total) const {
    const auto count = static_cast<std::size_t>(options_.shards);
    std::vector<std::vector<tensor_info>> shards(1);
    std::uint64_t done = 0;
    for (tensor_info& t : tensors) {
      done += t.bytes();
      const bool may_end = t.type == dtype::f8_e4m3 || !options_.shape.fp8;  // in front of its scales
      shards.back().push_back(std::move(t));
      if (shards.size() < count && may_end && done * count >= total * shards.size()) shards.emplace_back();
    }
    if (shards.back().empty()) shards.pop_back();
    if (shards.size() < count)
      throw file_error({.file = directory_,
                        .value = "the model fills " + std::to_string(shards.size()) + " shards",
                        .expected = std::to_string(count),
                        .advice = "ask for fewer, or for more layers"});
    return shards;
  }

  void write_shards(const std::vector<std::vector<tensor_info>>& shards, std::uint64_t total) const {
    std::map<std::string, std::string> weight_map;
    for (std::size_t n = 0; n < shards.size(); ++n) {
      const std::string name = shard_name(static_cast<int>(n));
      safetensors_writer out = safetensors_writer::create(path(name), shards[n], metadata{{"format", "pt"}}).value();
      for (const tensor_info& t : shards[n]) append_tensor(out, t);
      out.commit().value();
      for (const tensor_info& t : shards[n]) weight_map[t.name] = name;
    }
    if (shards.size() == 1) return;
    write_json(index_file_name, {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}});
    const tensor_info leftover{"model.norm.weight", dtype::f32, {2, 2}};
    safetensors_writer out = safetensors_writer::create(path("leftover.safetensors"), {leftover}, std::nullopt).value();
    out.append(leftover.name, std::vector<std::byte>(16)).value();
    out.commit().value();
  }

  [[nodiscard]] random_words words_of(const std::string& name) const {
    return random_words(options_.seed ^ fnv1a(name));
  }

  [[nodiscard]] std::vector<float> block_scales(const std::string& name, std::int64_t count) const {
    random_words random = words_of(name);
    std::vector<float> scales(static_cast<std::size_t>(count));
    for (float& s : scales) s = samples_.block_scale(random());
    return scales;
  }

  /// change(random bits, index) makes each element.
  template <class T, class Change>
  void append_picked(safetensors_writer& out, const tensor_info& t, Change change) const {
    random_words random = words_of(t.name);
    std::vector<T> slab;
    for_each_slab(t.elements(), slab_weights, [&](std::int64_t first, std::int64_t count) {
      slab.resize(static_cast<std::size_t>(count));
      std::uint64_t word = 0;
      for (std::size_t i = 0; i < slab.size(); ++i, word >>= 16) {
        if (i % 4 == 0) word = random();
        slab[i] = change(word, first + static_cast<std::int64_t>(i));
      }
      append_elements(out, t.name, std::span(slab)).value();
    });
  }

  void append_tensor(safetensors_writer& out, const tensor_info& t) const {
    const auto as_drawn = [this]<class T>(T) {
      return [this](std::uint64_t w, std::int64_t) { return samples_.pick<T>(w); };
    };
    const bool is_embedding = t.name == "model.embed_tokens.weight" || t.name == "lm_head.weight";
    if (t.name.ends_with(fp8_scale_suffix)) {
      std::vector<float> scales = block_scales(t.name, t.elements());
      append_elements(out, t.name, std::span(scales)).value();
    } else if (t.type == dtype::f8_e4m3) {
      append_picked<e4m3>(out, t, as_drawn(e4m3{}));
    } else if (t.type == dtype::f32) {
      append_picked<float>(out, t, as_drawn(float{}));
    } else if (t.shape.size() == 1) {  // norms, around 1
      append_picked<bf16>(
          out, t, [this](std::uint64_t w, std::int64_t) { return encode_bf16(1.0f + samples_.pick<float>(w)); });
    } else if (is_embedding) {
      append_picked<bf16>(out, t, as_drawn(bf16{}));
    } else {  // what the FP8 model has, widened
      const std::int64_t cols = t.shape[1], scale_cols = (cols + fp8_block - 1) / fp8_block;
      const std::int64_t scale_rows = (t.shape[0] + fp8_block - 1) / fp8_block;
      const std::vector<float> scales = block_scales(t.name + fp8_scale_suffix, scale_rows * scale_cols);
      append_picked<bf16>(out, t, [&](std::uint64_t w, std::int64_t at) {
        const std::int64_t block = at / cols / fp8_block * scale_cols + at % cols / fp8_block;
        return decode_scaled(samples_.pick<e4m3>(w), scales[static_cast<std::size_t>(block)]);
      });
    }
  }

  [[nodiscard]] ordered_json config() const {
    const minimax_m2_shape& s = options_.shape;
    ordered_json config = {{"architectures", {"MiniMaxM2ForCausalLM"}},
                           {"auto_map",
                            {{"AutoConfig", "configuration_minimax_m2.MiniMaxM2Config"},
                             {"AutoModelForCausalLM", "modeling_minimax_m2.MiniMaxM2ForCausalLM"}}},
                           {"model_type", "minimax_m2"},
                           {"vocab_size", s.vocabulary},
                           {"hidden_size", s.hidden},
                           {"intermediate_size", s.intermediate},
                           {"num_hidden_layers", s.layers},
                           {"num_attention_heads", s.heads},
                           {"num_key_value_heads", s.key_value_heads},
                           {"head_dim", s.head_dim},
                           {"rotary_dim", s.head_dim / 2},
                           {"rope_theta", 5000000},
                           {"max_position_embeddings", 204800},
                           {"num_local_experts", s.experts},
                           {"num_experts_per_tok", s.experts_per_token},
                           {"scoring_func", "sigmoid"},
                           {"use_routing_bias", true},
                           {"use_qk_norm", true},
                           {"qk_norm_type", "per_layer"},
                           {"shared_intermediate_size", 0},
                           {"rms_norm_eps", 1e-06},
                           {"hidden_act", "silu"},
                           {"tie_word_embeddings", false},
                           {"use_mtp", true},
                           {"num_mtp_modules", 3},
                           {"mtp_transformer_layers", 1},
                           {"torch_dtype", "bfloat16"}};
    if (s.fp8)
      config["quantization_config"] = {{"quant_method", "fp8"},
                                       {"fmt", "float8_e4m3fn"},
                                       {"activation_scheme", "dynamic"},
                                       {"weight_block_size", {fp8_block, fp8_block}},
                                       {"modules_to_not_convert", {"gate", "e_score_correction_bias", "lm_head"}}};
    config["transformers_version"] = "4.46.1";
    return config;
  }

  void write_other_files() const {
    write_json(config_file_name, config());
    write_json("generation_config.json",
               {{"bos_token_id", 1}, {"eos_token_id", 2}, {"do_sample", true}, {"top_k", 40}});
    write_json("tokenizer_config.json", {{"model_max_length", 204800}, {"tokenizer_class", "PreTrainedTokenizerFast"}});
    write_json("tokenizer.json", {{"version", "1.0"}, {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}}}}}});
    write_text("chat_template.jinja", "{% for message in messages %}{{ message.content }}{% endfor %}\n");
    write_text("LICENSE", "The licence of the source.\n");
    write_text("README.md", "---\nlicense: other\nlibrary_name: transformers\n---\n# The source\nNot of its copies.\n");
    std::error_code error;
    fs::create_directory(path("docs"), error);
    if (error) throw file_error({.file = path("docs"), .value = "cannot create the directory: " + error.message()});
    write_text("docs/deploy.md", "How to serve it.\n");
  }

  std::string directory_;
  const checkpoint_options& options_;
  samples samples_;
};

}  // namespace

std::uint64_t generate_checkpoint(const std::string& directory, const checkpoint_options& options) {
  return generator(directory, options).run();
}

}  // namespace mxfp4::tools

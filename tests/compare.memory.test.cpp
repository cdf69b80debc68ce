// tests/compare.memory.test.cpp -- a comparison takes 64 MiB above its activations, one expert and a piece of the head.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "family.support.hpp"
#include "program.support.hpp"

namespace {

using namespace mxfp4::test;

constexpr std::uint64_t mib = std::uint64_t{1} << 20, piece_of_head = 8 * mib;
constexpr std::uint64_t tokens = 96, context = 32;

struct sizes {
  std::uint64_t hidden, intermediate, heads, vocabulary;
};
constexpr std::uint64_t head_dim = 128;

/// Of the four models: hidden states of all tokens, twice; of one: a window's q, k, v, their cache, what heads mix.
constexpr std::uint64_t activations(const sizes& s) {
  const std::uint64_t query = s.heads * head_dim;
  return sizeof(float) * (4 * 2 * tokens * s.hidden + context * (2 * s.hidden + 2 * query + 4 * head_dim));
}
constexpr std::uint64_t expert(const sizes& s) { return 3 * s.hidden * s.intermediate * 2; }  // FP8 is widened to BF16

/// Heap, stacks and private maps of the program end there: what asks for more does not get it.
void compares_in(std::uint64_t data_bytes, const std::string& model, const std::string& ids, std::uint64_t window) {
  const outcome o = mxfp4_run({"compare", model, model, "--recipes", "ocp,min_mse", "--ids", ids, "--context",
                               std::to_string(window), "--threads", "2"},
                              {.data_bytes = data_bytes});
  INFO(o.err);
  CHECK(o.code == 0);
}

std::string some_ids(std::uint64_t count, std::uint64_t vocabulary) {
  std::string ids;
  for (std::uint64_t i = 0; i < count; ++i) ids += std::to_string(i * 7 % vocabulary) + " ";
  return ids;
}

void compares(const sizes& s) {
  require_own_memory();
  const scratch_folder folder;
  const std::string model = folder / "model", out = folder / "details";
  const outcome made = run({MXFP4_GENERATE,
                            "--checkpoint",
                            model,
                            "--shards",
                            "1",
                            "--layers",
                            "1",
                            "--experts",
                            "2",
                            "--key-value-heads",
                            "1",
                            "--head-dim",
                            std::to_string(head_dim),
                            "--hidden",
                            std::to_string(s.hidden),
                            "--intermediate",
                            std::to_string(s.intermediate),
                            "--heads",
                            std::to_string(s.heads),
                            "--vocabulary",
                            std::to_string(s.vocabulary)});
  INFO(made.err);
  REQUIRE(made.code == 0);
  compares_in(activations(s) + expert(s) + piece_of_head + 64 * mib, model,
              write_text(folder / "ids", some_ids(tokens, s.vocabulary)), context);
}

/// DeepSeek-V3: latent attention; a dense layer, then one of experts and a shared one.
struct latent_sizes {
  std::int64_t heads, unturned, value, rank, shared;  ///< of `shared`: its intermediate size, that of experts is 32
  std::int64_t hidden = 64, turned = 16, tokens = 96, context = 32;
};

/// As activations() has them; of a token of the window also the latent vectors, and what heads make of them.
constexpr std::uint64_t activations(const latent_sizes& s) {
  const std::int64_t query = s.heads * (s.unturned + s.turned), mixed = s.heads * s.value,
                     latent = 4 * s.rank + 2 * s.turned + s.heads * (2 * s.rank + s.turned);
  return sizeof(float) *
         static_cast<std::uint64_t>(4 * 2 * s.tokens * s.hidden + s.context * (2 * s.hidden + query + mixed + latent));
}
constexpr std::uint64_t shared_expert(const latent_sizes& s) {
  return static_cast<std::uint64_t>(3 * s.hidden * s.shared * 2);  // BF16
}

void compares(const latent_sizes& s) {
  require_own_memory();
  constexpr std::int64_t vocabulary = 64, experts = 4, intermediate = 32;
  recorded_family family("deepseek_v3");
  const nlohmann::json sizes = {{"num_hidden_layers", 2},
                                {"first_k_dense_replace", 1},
                                {"hidden_size", s.hidden},
                                {"num_attention_heads", s.heads},
                                {"num_key_value_heads", s.heads},
                                {"kv_lora_rank", s.rank},
                                {"qk_nope_head_dim", s.unturned},
                                {"qk_rope_head_dim", s.turned},
                                {"head_dim", s.turned},
                                {"v_head_dim", s.value},
                                {"q_lora_rank", nullptr},
                                {"attention_bias", false},
                                {"n_routed_experts", experts},
                                {"n_group", 1},
                                {"topk_group", 1},
                                {"intermediate_size", 32},
                                {"moe_intermediate_size", intermediate},
                                {"vocab_size", vocabulary},
                                {"n_shared_experts", s.shared / intermediate},
                                {"max_position_embeddings", s.context}};
  family.config.update(sizes);
  family.rules = nlohmann::json::object();
  const auto add = [&family](const std::string& name, const std::vector<std::int64_t>& shape) {
    const bool is_norm = shape.size() == 1;
    family.rules[name] = {{"dtype", "BF16"}, {"shape", shape}, {"centre", is_norm ? 1.0 : 0.0}, {"spread", 0.1}};
  };
  const auto add_block = [&](const std::string& block, std::int64_t size) {
    for (const char* part : {"gate_proj", "up_proj"}) add(block + part + ".weight", {size, s.hidden});
    add(block + "down_proj.weight", {s.hidden, size});
  };
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string attention = layer + "self_attn.";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add(layer + norm + ".weight", {s.hidden});
    add(attention + "q_proj.weight", {s.heads * (s.unturned + s.turned), s.hidden});
    add(attention + "kv_a_proj_with_mqa.weight", {s.rank + s.turned, s.hidden});
    add(attention + "kv_a_layernorm.weight", {s.rank});
    add(attention + "kv_b_proj.weight", {s.heads * (s.unturned + s.value), s.rank});
    add(attention + "o_proj.weight", {s.hidden, s.heads * s.value});
  }
  add_block("model.layers.0.mlp.", 32);
  const std::string mlp = "model.layers.1.mlp.";
  add(mlp + "gate.weight", {experts, s.hidden});
  add(mlp + "gate.e_score_correction_bias", {experts});
  for (std::int64_t e = 0; e < experts; ++e) add_block(mlp + "experts." + std::to_string(e) + ".", intermediate);
  add_block(mlp + "shared_experts.", s.shared);
  add("model.norm.weight", {s.hidden});
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) add(name, {vocabulary, s.hidden});
  const scratch_folder folder;
  const std::string ids = some_ids(static_cast<std::uint64_t>(s.tokens), vocabulary);
  compares_in(activations(s) + shared_expert(s) + piece_of_head + 64 * mib, family.write(folder / "model"),
              write_text(folder / "ids", ids), static_cast<std::uint64_t>(s.context));
}

}  // namespace

TEST_CASE("compare: heads of twice 64 MiB", "[compare][memory]") {
  constexpr sizes s = {128, 32, 2, 1 << 18};
  static_assert(2 * s.hidden * s.vocabulary * 2 == 128 * mib);
  compares(s);
}

TEST_CASE("compare: experts of 96 MiB", "[compare][memory]") {
  constexpr sizes s = {512, 32768, 2, 256};
  static_assert(expert(s) == 96 * mib);
  compares(s);
}

TEST_CASE("compare: an attention of 128 MiB", "[compare][memory]") {
  constexpr sizes s = {512, 32, 512, 256};
  static_assert(2 * s.hidden * s.heads * head_dim * 2 == 128 * mib);
  compares(s);
}

TEST_CASE("compare: a latent cache whose keys and values would take 132 MiB", "[compare][memory]") {
  constexpr latent_sizes s = {
      .heads = 256, .unturned = 256, .value = 256, .rank = 16, .shared = 32, .tokens = 256, .context = 256};
  static_assert(sizeof(float) * s.context * s.heads * (s.unturned + s.turned + s.value) == 132 * mib);
  compares(s);
}

TEST_CASE("compare: a latent attention of 96 MiB", "[compare][memory]") {
  constexpr latent_sizes s = {.heads = 384, .unturned = 128, .value = 128, .rank = 512, .shared = 32, .tokens = 32};
  static_assert(2 * s.heads * (s.unturned + s.value) * s.rank == 96 * mib);
  compares(s);
}

TEST_CASE("compare: a shared expert of 96 MiB", "[compare][memory]") {
  constexpr latent_sizes s = {
      .heads = 2, .unturned = 16, .value = 16, .rank = 16, .shared = 32768, .hidden = 512, .tokens = 32};
  static_assert(shared_expert(s) == 96 * mib);
  compares(s);
}

// src/checkpoint/llama_cpp.cpp -- see llama_cpp.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/llama_cpp.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

constexpr std::array llama_families = {
    llama_family{.model_type = "qwen3_moe",
                 .architecture = "qwen3moe",
                 .block = "mlp",
                 .gate = "gate_proj",
                 .up = "up_proj",
                 .down = "down_proj",
                 .expert_length_key = "moe_intermediate_size",
                 .pre_tokenizer = "qwen2"},
    llama_family{.model_type = "minimax_m2",
                 .architecture = "minimax-m2",
                 .block = "block_sparse_moe",
                 .gate = "w1",
                 .up = "w3",
                 .down = "w2",
                 .expert_length_key = "intermediate_size",
                 .pre_tokenizer = "minimax-m2",
                 .sigmoid = true},
};

struct name_pair {
  std::string ours, theirs;
};

[[nodiscard]] std::vector<name_pair> whole_names() {
  return {{"model.embed_tokens.weight", "token_embd.weight"},
          {"model.norm.weight", "output_norm.weight"},
          {"lm_head.weight", "output.weight"}};
}

/// Behind "model.layers.<n>." and "blk.<n>.".
[[nodiscard]] std::vector<name_pair> layer_names(const llama_family& f) {
  const std::string block(f.block), experts = block + ".experts.";
  return {{"input_layernorm.weight", "attn_norm.weight"},
          {"post_attention_layernorm.weight", "ffn_norm.weight"},
          {"self_attn.q_proj.weight", "attn_q.weight"},
          {"self_attn.k_proj.weight", "attn_k.weight"},
          {"self_attn.v_proj.weight", "attn_v.weight"},
          {"self_attn.o_proj.weight", "attn_output.weight"},
          {"self_attn.q_norm.weight", "attn_q_norm.weight"},
          {"self_attn.k_norm.weight", "attn_k_norm.weight"},
          {block + ".gate.weight", "ffn_gate_inp.weight"},
          {block + ".e_score_correction_bias", "exp_probs_b.bias"},
          {experts + std::string(f.gate) + ".weight", "ffn_gate_exps.weight"},
          {experts + std::string(f.up) + ".weight", "ffn_up_exps.weight"},
          {experts + std::string(f.down) + ".weight", "ffn_down_exps.weight"}};
}

constexpr const char *our_layers = "model.layers.", *their_layers = "blk.";

/// @param from, to  which of the two names is given, and which is looked for.
[[nodiscard]] std::optional<std::string> translate(const llama_family& f, std::string_view name,
                                                   std::string name_pair::*from, std::string name_pair::*to) {
  for (const name_pair& p : whole_names())
    if (name == p.*from) return p.*to;
  const bool ours = from == &name_pair::ours;
  const std::string_view prefix = ours ? our_layers : their_layers;
  if (!name.starts_with(prefix)) return std::nullopt;
  const std::size_t dot = name.find('.', prefix.size());
  if (dot == std::string_view::npos || dot == prefix.size()) return std::nullopt;
  const std::string_view number = name.substr(prefix.size(), dot - prefix.size()), rest = name.substr(dot + 1);
  if (!std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  for (const name_pair& p : layer_names(f))
    if (rest == p.*from) return (ours ? their_layers : our_layers) + std::string(number) + "." + p.*to;
  return std::nullopt;
}

// ---- settings -------------------------------------------------------------------------------------------------------

/// Values of config.json as pairs of the architecture.
class settings {
 public:
  settings(const llama_family& family, const ordered_json& config, std::string where)
      : prefix_(std::string(family.architecture) + "."), config_(config), where_(std::move(where)) {}

  [[nodiscard]] std::uint64_t number(std::string_view key) const {
    const auto found = config_.find(std::string(key));
    if (found == config_.end() || !found->is_number_unsigned() ||
        found->get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max())
      throw file_error(
          {.file = where_,
           .value = quote_name(std::string(key)) + " is " + (found == config_.end() ? "not there" : json_shown(*found)),
           .expected = "a number that llama.cpp is to be told"});
    return found->get<std::uint64_t>();
  }
  [[nodiscard]] bool has(std::string_view key) const {
    const auto found = config_.find(std::string(key));
    return found != config_.end() && !found->is_null();
  }

  void add(const std::string& key, std::uint64_t value) { pairs.push_back({prefix_ + key, gguf_type::u32, value}); }
  void add(const std::string& key, double value) { pairs.push_back({prefix_ + key, gguf_type::f32, value}); }

  std::vector<gguf_pair> pairs;

 private:
  std::string prefix_;
  const ordered_json& config_;
  std::string where_;
};

[[nodiscard]] double real(const ordered_json& object, const char* key, const std::string& where) {
  const ordered_json value = object.is_object() ? object.value(key, ordered_json()) : ordered_json();
  if (!value.is_number())
    throw file_error({.file = where,
                      .value = quote_name(key) + std::string(" is ") + json_shown(value),
                      .expected = "a number that llama.cpp is to be told"});
  return value.get<double>();
}

/// transformers 4 has rope_theta in the config, 5 in rope_parameters.
[[nodiscard]] double rope_base(const ordered_json& config, const std::string& where) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const ordered_json rope = config.value(key, ordered_json());
    if (!rope.is_object()) continue;
    std::string type = json_text_member(rope, "rope_type");
    if (type.empty()) type = json_text_member(rope, "type");
    if (!type.empty() && type != "default")
      throw file_error({.file = where,
                        .value = quote_name(key) + std::string(" is of type ") + quote_name(type),
                        .expected = "plain rotary positions: others are not translated",
                        .advice = "use llama.cpp's own converter"});
    if (rope.contains("rope_theta") && !config.contains("rope_theta")) return real(rope, "rope_theta", where);
  }
  return real(config, "rope_theta", where);
}

[[nodiscard]] std::uint64_t rotary_dimensions(const ordered_json& config, const settings& s, std::uint64_t head) {
  if (s.has("rotary_dim")) return s.number("rotary_dim");
  const ordered_json rope = config.value("rope_parameters", ordered_json());
  const ordered_json& holder = rope.is_object() && rope.contains("partial_rotary_factor") ? rope : config;
  const ordered_json factor = holder.value("partial_rotary_factor", ordered_json());
  return factor.is_number() ? static_cast<std::uint64_t>(factor.get<double>() * static_cast<double>(head)) : head;
}

void add_model(settings& s, const llama_family& f, const ordered_json& config, const std::string& where) {
  const std::uint64_t heads = s.number("num_attention_heads"), hidden = s.number("hidden_size");
  const std::uint64_t head = s.has("head_dim") ? s.number("head_dim") : hidden / std::max<std::uint64_t>(heads, 1);
  s.add("context_length", s.number("max_position_embeddings"));
  s.add("embedding_length", hidden);
  s.add("block_count", s.number("num_hidden_layers"));
  s.add("feed_forward_length", s.number("intermediate_size"));
  s.add("attention.head_count", heads);
  s.add("attention.head_count_kv", s.number("num_key_value_heads"));
  s.add("attention.key_length", head);
  s.add("attention.value_length", head);
  s.add("attention.layer_norm_rms_epsilon", real(config, "rms_norm_eps", where));
  s.add("rope.freq_base", rope_base(config, where));
  s.add("rope.dimension_count", rotary_dimensions(config, s, head));
  s.add("expert_count", s.number(s.has("num_experts") ? "num_experts" : "num_local_experts"));
  s.add("expert_used_count", s.number("num_experts_per_tok"));
  s.add("expert_feed_forward_length", s.number(f.expert_length_key));
  constexpr std::uint64_t by_sigmoid = 2;  // llama.cpp's LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID
  if (f.sigmoid) s.add("expert_gating_func", by_sigmoid);
}

/// What llama.cpp's code of the family takes for granted.
void require_usual(const llama_family& f, const ordered_json& config, const std::string& where) {
  const auto expect = [&](const char* key, const ordered_json& expected) {
    if (const ordered_json found = config.value(key, expected); found != expected)
      throw file_error(
          {.file = where,
           .value = quote_name(key) + std::string(" is ") + json_shown(found),
           .expected = json_shown(expected) + ", which is what llama.cpp computes for " + std::string(f.architecture)});
  };
  if (f.model_type == "qwen3_moe") {
    if (!config.contains("norm_topk_prob") || config["norm_topk_prob"] != true)
      throw file_error({.file = where,
                        .value = "'norm_topk_prob' is not true",
                        .expected = "true, which is what llama.cpp computes for qwen3moe"});
    expect("decoder_sparse_step", 1);
    expect("mlp_only_layers", ordered_json::array());
    expect("attention_bias", false);
  }
  if (f.sigmoid) expect("scoring_func", "sigmoid");
  expect("hidden_act", "silu");
  if (const ordered_json window = config.value("use_sliding_window", ordered_json(false)); window == true)
    throw file_error(
        {.file = where, .value = "'use_sliding_window' is true", .expected = "false: it is not translated"});
}

// ---- the tokenizer --------------------------------------------------------------------------------------------------

enum token_type : std::int32_t { normal = 1, control = 3, user_defined = 4, unused = 5 };  // llama.cpp's

struct vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
};

[[nodiscard]] file_error wrong_tokenizer(const std::string& where, const std::string& value,
                                         const std::string& expected) {
  return file_error({.file = where, .value = value, .expected = expected, .advice = "use llama.cpp's own converter"});
}

/// @param size  tokens that the embedding has: those that the tokenizer does not name are called [PAD<id>].
[[nodiscard]] vocabulary read_vocabulary(const ordered_json& tokenizer, std::uint64_t size, const std::string& where) {
  constexpr std::uint64_t most = 1 << 24;
  if (size > most) throw wrong_tokenizer(where, "vocab_size is " + std::to_string(size), "at most 2^24");
  vocabulary v;
  v.tokens.resize(size);
  v.types.assign(size, unused);
  for (std::size_t i = 0; i < size; ++i) v.tokens[i] = "[PAD" + std::to_string(i) + "]";
  const auto put = [&](const std::string& text, const ordered_json& id, token_type type) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= size)
      throw wrong_tokenizer(where, "token " + quote_name(text) + " has the id " + json_shown(id),
                            "one below vocab_size, " + std::to_string(size));
    v.tokens[id.get<std::size_t>()] = text;
    v.types[id.get<std::size_t>()] = type;
  };
  for (const auto& [text, id] : tokenizer["model"]["vocab"].items()) put(text, id, normal);
  for (const ordered_json& added : tokenizer.value("added_tokens", ordered_json::array()))
    put(json_text_member(added, "content"), added.value("id", ordered_json()),
        added.value("special", ordered_json()) == true ? control : user_defined);
  return v;
}

[[nodiscard]] std::vector<std::string> read_merges(const ordered_json& model, const std::string& where) {
  std::vector<std::string> merges;
  for (const ordered_json& merge : model.value("merges", ordered_json::array())) {
    if (merge.is_string()) merges.push_back(merge.get<std::string>());
    else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
      merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    else throw wrong_tokenizer(where, "a merge is " + json_shown(merge), "two pieces");
  }
  return merges;
}

/// Is text cut into bytes, as GPT-2's tokenizer does it? That may be one step of several.
[[nodiscard]] bool is_byte_level(const ordered_json& step) {
  if (!step.is_object()) return false;
  if (json_text_member(step, "type") == "ByteLevel") return true;
  for (const ordered_json& inner : step.value("pretokenizers", ordered_json::array()))
    if (is_byte_level(inner)) return true;
  return false;
}

[[nodiscard]] ordered_json read_optional(const checkpoint_reader& model, const char* name) {
  const std::vector<std::string>& files = model.other_files();
  if (std::find(files.begin(), files.end(), name) == files.end()) return nullptr;
  return read_json<ordered_json>(model.directory() + "/" + name, config_limits);
}

/// An id, or the first of several.
[[nodiscard]] std::optional<std::uint64_t> token_id(const ordered_json& config, const char* key) {
  const ordered_json value = config.is_object() ? config.value(key, ordered_json()) : ordered_json();
  const ordered_json& one = value.is_array() && !value.empty() ? value[0] : value;
  return one.is_number_unsigned() ? std::optional(one.get<std::uint64_t>()) : std::nullopt;
}

void add_tokenizer(std::vector<gguf_pair>& pairs, const llama_family& f, const ordered_json& config,
                   std::uint64_t vocabulary_size, const checkpoint_reader& model) {
  const std::string where = model.directory() + "/tokenizer.json";
  const std::vector<std::string>& files = model.other_files();
  if (std::find(files.begin(), files.end(), "tokenizer.json") == files.end())
    throw file_error({.file = model.directory(),
                      .value = "has no tokenizer.json",
                      .expected = "that of the model: llama.cpp takes it from the GGUF"});
  constexpr json_limits limits = {.bytes = 256 << 20, .values = 8'000'000, .string_bytes = 128 << 20};
  const ordered_json tokenizer = read_json<ordered_json>(where, limits);
  const ordered_json bpe = tokenizer.is_object() ? tokenizer.value("model", ordered_json()) : ordered_json();
  if (json_text_member(bpe, "type") != "BPE" || !bpe.contains("vocab") || !bpe["vocab"].is_object() ||
      !is_byte_level(tokenizer.value("pre_tokenizer", ordered_json())))
    throw wrong_tokenizer(where, "is no byte-level BPE", "one, which is what the family has");
  vocabulary v = read_vocabulary(tokenizer, vocabulary_size, where);
  pairs.push_back({"tokenizer.ggml.model", gguf_type::string, "gpt2"});
  pairs.push_back({"tokenizer.ggml.pre", gguf_type::string, std::string(f.pre_tokenizer)});
  pairs.push_back({"tokenizer.ggml.tokens", gguf_type::array, std::move(v.tokens)});
  pairs.push_back({"tokenizer.ggml.token_type", gguf_type::array, std::move(v.types)});
  pairs.push_back({"tokenizer.ggml.merges", gguf_type::array, read_merges(bpe, where)});
  const ordered_json generation = read_optional(model, "generation_config.json");
  for (const auto& [key, theirs] :
       {std::pair{"bos_token_id", "bos"}, {"eos_token_id", "eos"}, {"pad_token_id", "padding"}}) {
    std::optional<std::uint64_t> id = token_id(generation, key);
    if (!id) id = token_id(config, key);
    if (id && *id < vocabulary_size)
      pairs.push_back({std::string("tokenizer.ggml.") + theirs + "_token_id", gguf_type::u32, *id});
  }
  pairs.push_back({"tokenizer.ggml.add_bos_token", gguf_type::boolean, false});
  const ordered_json settings = read_optional(model, "tokenizer_config.json");
  if (const std::string chat = json_text_member(settings, "chat_template"); !chat.empty())
    pairs.push_back({"tokenizer.chat_template", gguf_type::string, chat});
}

}  // namespace

const llama_family* find_llama_family(std::string_view model_type) noexcept {
  const auto* found = std::find_if(llama_families.begin(), llama_families.end(),
                                   [&](const llama_family& f) { return f.model_type == model_type; });
  return found == llama_families.end() ? nullptr : found;
}

const llama_family* find_llama_architecture(std::string_view architecture) noexcept {
  const auto* found = std::find_if(llama_families.begin(), llama_families.end(),
                                   [&](const llama_family& f) { return f.architecture == architecture; });
  return found == llama_families.end() ? nullptr : found;
}

std::optional<std::string> llama_name(const llama_family& family, std::string_view name) {
  return translate(family, name, &name_pair::ours, &name_pair::theirs);
}

std::optional<std::string> name_of_llama(const llama_family& family, std::string_view name) {
  return translate(family, name, &name_pair::theirs, &name_pair::ours);
}

std::vector<gguf_pair> llama_pairs(const llama_family& family, const ordered_json& config,
                                   const checkpoint_reader& model) {
  const std::string where = model.directory() + "/" + config_file_name;
  require_usual(family, config, where);
  settings s(family, config, where);
  add_model(s, family, config, where);
  add_tokenizer(s.pairs, family, config, s.number("vocab_size"), model);
  return std::move(s.pairs);
}

}  // namespace mxfp4::checkpoint

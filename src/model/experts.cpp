// src/model/experts.cpp -- see experts.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/experts.hpp"

#include <algorithm>
#include <span>
#include <tuple>
#include <utility>

#include "model/attention.hpp"
#include "model/kernels.hpp"
#include "model/loops.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

/// Where the matrices of an expert that is not in a stack are, and their sizes.
struct expert_place {
  std::string gate, up, down;
  std::int64_t intermediate;
};

[[nodiscard]] expert_place place_of(const model_config& config, std::int64_t layer, std::int64_t index) {
  const expert_description& e = config.experts;
  const std::string name = expert_name(config, layer, index) + ".";
  const std::int64_t size = config.is_dense(layer)          ? e.dense_intermediate
                            : index == config.shape.experts ? e.shared_intermediate
                                                            : config.shape.intermediate;
  if (e.stacked) return {name + "gate_proj", name + "up_proj", name + "down_proj", size};  // as `convert` names them
  return {name + e.gate, name + e.up, name + e.down, size};
}

/// A tensor of all experts of a layer. @param parts  matrices in it, whose rows take turns, rows x cols each.
[[nodiscard]] stack_place stack_of(const model_config& config, std::int64_t layer, std::int64_t index,
                                   const std::string& part, std::int64_t rows, std::int64_t cols, std::int64_t parts) {
  return {layer_name(layer, config.experts.block + ".experts." + part), config.shape.experts, index, rows, cols, parts};
}
[[nodiscard]] stack_place gate_up_of(const model_config& config, std::int64_t layer, std::int64_t index) {
  return stack_of(config, layer, index, config.experts.gate, config.shape.intermediate, config.shape.hidden, 2);
}
[[nodiscard]] stack_place down_of(const model_config& config, std::int64_t layer, std::int64_t index) {
  return stack_of(config, layer, index, config.experts.down, config.shape.hidden, config.shape.intermediate, 1);
}

[[nodiscard]] std::string router_name(const model_config& config, std::int64_t layer) {
  return layer_name(layer, config.experts.block + "." + config.experts.router);
}

/// The same with one more expert for every token, of weight 1 and the largest number.
[[nodiscard]] routing with_shared(const routing& r, std::int32_t number) {
  routing more{r.top_k + 1, 1, {}, {}};
  for (std::size_t i = 0; i < r.experts.size(); ++i) {
    more.experts.push_back(r.experts[i]);
    more.weights.push_back(r.weights[i]);
    if ((static_cast<std::int64_t>(i) + 1) % r.top_k != 0) continue;
    more.experts.push_back(number);
    more.weights.push_back(1.0f);
  }
  return more;
}

}  // namespace

bool in_stacks(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer) {
  if (!config.experts.stacked) return false;
  const std::string weight = place_of(config, layer, 0).gate + ".weight";
  return checkpoint.find(weight) == nullptr && checkpoint.find(weight + packed_suffix) == nullptr;
}

double router_agreement(const routing& a, const routing& b) {
  std::int64_t shared = 0;
  const auto k = static_cast<std::ptrdiff_t>(a.top_k);
  for (auto i = a.experts.begin(), j = b.experts.begin(); i != a.experts.end(); i += k, j += k)
    shared += std::count_if(i, i + k, [&](std::int32_t e) { return std::find(j, j + k, e) != j + k; });
  const auto slots = std::ssize(a.experts), chosen = a.top_k == 0 ? 0 : slots / a.top_k * (a.top_k - a.always);
  return chosen == 0 ? 1.0 : static_cast<double>(shared - (slots - chosen)) / static_cast<double>(chosen);
}

std::vector<routed_token> tokens_of(const routing& r, std::int64_t index) {
  std::vector<routed_token> tokens;
  for (std::size_t i = 0; i < r.experts.size(); ++i)
    if (r.experts[i] == index) tokens.push_back({static_cast<std::int64_t>(i) / r.top_k, r.weights[i]});
  return tokens;
}

void add_outputs(token_rows& x, const token_rows& outputs, std::span<const routed_token> tokens) {
  for (std::int64_t i = 0; i < outputs.count; ++i) {
    const auto [row, weight] = tokens[static_cast<std::size_t>(i)];
    for (std::int64_t n = 0; n < x.size; ++n) x.row(row)[n] += weight * outputs.row(i)[n];
  }
}

router::router(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer)
    : path_(checkpoint.path()),
      layer_(layer),
      top_k_(config.shape.experts_per_token),
      shared_(config.experts.shared.empty() ? -1 : config.shape.experts),
      dense_(config.is_dense(layer)),
      eps_(config.rms_eps),
      how_(config.experts.route) {
  const model_shape& s = config.shape;
  const expert_description& e = config.experts;
  norm_ = read_vector(checkpoint, layer_name(layer, "post_attention_layernorm.weight"), s.hidden);
  if (dense_) return;
  if (!e.choice_bias.empty())
    bias_ = read_vector(checkpoint, layer_name(layer, e.block + "." + e.choice_bias), s.experts);
  gate_ = linear::load(checkpoint, router_name(config, layer), s.experts, s.hidden, e.router_bias);
}

void router::require(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer) {
  const model_shape& s = config.shape;
  const expert_description& e = config.experts;
  require_vector(checkpoint, layer_name(layer, "post_attention_layernorm.weight"), s.hidden);
  if (config.is_dense(layer)) return;
  if (!e.choice_bias.empty()) require_vector(checkpoint, layer_name(layer, e.block + "." + e.choice_bias), s.experts);
  linear::require(checkpoint, router_name(config, layer), s.experts, s.hidden, e.router_bias);
}

token_rows router::normed(const token_rows& x) const {
  token_rows h(x.count, x.size);
  for (std::int64_t t = 0; t < x.count; ++t) rms_norm(x.row(t), norm_, eps_, h.row(t));
  return h;
}

routing router::route(const token_rows& h, const product_options& options) const {
  const auto tokens = static_cast<std::size_t>(h.count);
  if (dense_) return {1, 1, std::vector<std::int32_t>(tokens, 0), std::vector<float>(tokens, 1.0f)};
  const auto pairs = static_cast<std::size_t>(h.count * top_k_);
  routing r{top_k_, 0, std::vector<std::int32_t>(pairs), std::vector<float>(pairs)};
  route_options how = how_;
  how.executor = options.executor;
  for (std::int64_t first = 0; first < h.count; first += product_tokens_at_once) {
    token_rows logits(std::min(product_tokens_at_once, h.count - first), gate_.rows());
    gate_.multiply(h.rows(first, logits.count), logits.view(), options);
    const std::int64_t place = first * top_k_;
    const status s =
        kernels::route_topk(std::as_const(logits).view(), bias_.empty() ? nullptr : bias_.data(),
                            dense_view<std::int32_t>{r.experts.data() + place, logits.count, top_k_, top_k_},
                            dense_view<float>{r.weights.data() + place, logits.count, top_k_, top_k_}, how);
    if (!s.ok())
      throw file_error({.file = path_,
                        .value = "layer " + std::to_string(layer_) + ": the router's " + std::string(message(s).view()),
                        .advice = "rows are tokens" +
                                  (first == 0 ? std::string() : ", the first is number " + std::to_string(first)) +
                                  "; see `mxfp4 verify`"});
  }
  std::vector<std::pair<std::int32_t, float>> of_token(static_cast<std::size_t>(top_k_));
  for (std::size_t first = 0; first < pairs; first += of_token.size()) {
    for (std::size_t i = 0; i < of_token.size(); ++i) of_token[i] = {r.experts[first + i], r.weights[first + i]};
    std::sort(of_token.begin(), of_token.end());
    for (std::size_t i = 0; i < of_token.size(); ++i)
      std::tie(r.experts[first + i], r.weights[first + i]) = of_token[i];
  }
  return shared_ < 0 ? r : with_shared(r, static_cast<std::int32_t>(shared_));
}

std::string expert_name(const model_config& config, std::int64_t layer, std::int64_t index) {
  const expert_description& e = config.experts;
  if (config.is_dense(layer)) return layer_name(layer, e.block);
  if (index == config.shape.experts) return layer_name(layer, e.block + "." + e.shared);
  return layer_name(layer, e.block + ".experts." + std::to_string(index));
}

/// @param load_stack  (place, layers that were in its place) -> layers of a stack; load, the same of one by its name.
template <class LoadStack, class Load>
void expert_weights::fill(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
                          std::int64_t index, LoadStack load_stack, Load load) {
  function = config.experts.function;
  if (in_stacks(checkpoint, config, layer)) {
    std::vector<linear> both(2), last(1);
    both[0] = std::move(gate), both[1] = std::move(up), last[0] = std::move(down);
    both = load_stack(gate_up_of(config, layer, index), std::move(both));
    gate = std::move(both[0]), up = std::move(both[1]);
    down = std::move(load_stack(down_of(config, layer, index), std::move(last))[0]);
    return;
  }
  const expert_place p = place_of(config, layer, index);
  const std::int64_t hidden = config.shape.hidden;
  gate = load(p.gate, p.intermediate, hidden, std::move(gate));
  up = load(p.up, p.intermediate, hidden, std::move(up));
  down = load(p.down, hidden, p.intermediate, std::move(down));
}

expert_weights::expert_weights(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
                               std::int64_t index) {
  fill(
      checkpoint, config, layer, index,
      [&](const stack_place& place, std::vector<linear>) { return linear::load_stack(checkpoint, place); },
      [&](const std::string& name, std::int64_t rows, std::int64_t cols, linear) {
        return linear::load(checkpoint, name, rows, cols, config.experts.biases);
      });
}

expert_weights expert_weights::load_arranged(const checkpoint_reader& checkpoint, const model_config& config,
                                             std::int64_t layer, std::int64_t index, executor_ref executor,
                                             expert_weights spare) {
  spare.fill(
      checkpoint, config, layer, index,
      [&](const stack_place& place, std::vector<linear> old) {
        return linear::load_stack_arranged(checkpoint, place, executor, std::move(old));
      },
      [&](const std::string& name, std::int64_t rows, std::int64_t cols, linear old) {
        return linear::load_arranged(checkpoint, name, rows, cols, config.experts.biases, executor, std::move(old));
      });
  return spare;
}

void expert_weights::require(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
                             std::int64_t index) {
  if (in_stacks(checkpoint, config, layer)) {
    linear::require_stack(checkpoint, gate_up_of(config, layer, index));
    return linear::require_stack(checkpoint, down_of(config, layer, index));
  }
  const expert_place p = place_of(config, layer, index);
  const std::int64_t hidden = config.shape.hidden;
  linear::require(checkpoint, p.gate, p.intermediate, hidden, config.experts.biases);
  linear::require(checkpoint, p.down, hidden, p.intermediate, config.experts.biases);
  linear::require(checkpoint, p.up, p.intermediate, hidden, config.experts.biases);
}

void require_all_tensors(const checkpoint_reader& checkpoint, const model_config& config) {
  (void)read_embeddings(checkpoint, config, {}, 0);
  for (std::int64_t l = 0; l < config.shape.layers; ++l) {
    attention::require(checkpoint, config, l);
    router::require(checkpoint, config, l);
    for (std::int64_t e = 0; e < config.experts_in(l); ++e) expert_weights::require(checkpoint, config, l, e);
  }
  require_vector(checkpoint, "model.norm.weight", config.shape.hidden);
  linear::require(checkpoint, head_name(config), config.shape.vocabulary, config.shape.hidden);
}

weight_error expert_weights::quantize(recipe_id recipe, const std::string& name, executor_ref executor) {
  weight_error error;
  const auto matrix = [&](linear& w, const char* part) {
    linear q = w.quantized(recipe, name + part);
    error.add(w, q, executor);
    w = std::move(q);
  };
  matrix(gate, ": gate");
  matrix(down, ": down");
  matrix(up, ": up");
  return error;
}

weight_error expert_weights::error_of(const checkpoint_reader& other, const model_config& config, std::int64_t layer,
                                      std::int64_t index, executor_ref executor) const {
  weight_error error;
  if (in_stacks(other, config, layer)) {
    const expert_weights target(other, config, layer, index);
    error.add(gate, target.gate, executor);
    error.add(down, target.down, executor);
    error.add(up, target.up, executor);
    return error;
  }
  const expert_place p = place_of(config, layer, index);
  const auto matrix = [&](const linear& w, const std::string& name) {
    const std::int64_t at_once = linear::rows_of_a_piece(w.cols());
    for (std::int64_t first = 0; first < w.rows(); first += at_once)
      error.add(w, linear::load_rows(other, name, w.rows(), w.cols(), first, std::min(at_once, w.rows() - first)),
                executor, first);
  };
  matrix(gate, p.gate);
  matrix(down, p.down);
  matrix(up, p.up);
  return error;
}

std::uint64_t expert_weights::stored_bytes() const noexcept {
  return gate.stored_bytes() + up.stored_bytes() + down.stored_bytes();
}
std::uint64_t expert_weights::memory_bytes() const noexcept {
  return gate.memory_bytes() + up.memory_bytes() + down.memory_bytes();
}

token_rows expert_weights::activated(const token_rows& h, const product_options& options) const {
  token_rows gates(h.count, gate.rows()), ups(h.count, up.rows());
  if (gate.is_mxfp4() && up.is_mxfp4()) {
    const activations x(h.view(), options);
    gate.multiply(x, gates.view(), options);
    up.multiply(x, ups.view(), options);
  } else {
    gate.multiply(h.view(), gates.view(), options);
    up.multiply(h.view(), ups.view(), options);
  }
  options.executor.run(static_cast<std::size_t>(h.count), [&](std::size_t t) {
    const auto row = static_cast<std::int64_t>(t);
    loops().activate(gates.row(row), ups.row(row), gates.size, function);
  });
  return gates;
}

token_rows expert_weights::outputs(const token_rows& h, const product_options& options) const {
  token_rows out(h.count, down.rows());
  down.multiply(activated(h, options).view(), out.view(), options);
  return out;
}

/// So many that what a task has of them takes some MiB.
std::size_t expert_weights::tokens_at_once() const noexcept {
  constexpr std::int64_t floats_of_a_task = std::int64_t{1} << 20, fewest = 64;
  return static_cast<std::size_t>(
      std::clamp(floats_of_a_task / (2 * gate.cols() + 2 * gate.rows()), fewest, product_tokens_at_once));
}

void expert_weights::add_to(token_rows& x, const token_rows& h, const routing& r, std::int64_t index,
                            const product_options& options) const {
  const std::vector<routed_token> routed = tokens_of(r, index);
  const auto work = [&](std::span<const routed_token> tokens, executor_ref executor) {
    const auto count = static_cast<std::int64_t>(tokens.size());
    const product_options with{options.activations, executor};
    token_rows in(count, h.size);
    for (std::int64_t i = 0; i < count; ++i)
      std::copy_n(h.row(tokens[static_cast<std::size_t>(i)].row), h.size, in.row(i));
    add_outputs(x, outputs(in, with), tokens);
  };
  // Many tokens: each task a part of them. Few: the products' own tasks.
  const std::span<const routed_token> all = routed;
  const std::size_t at_once = tokens_at_once();
  if (all.size() <= at_once) {
    if (!all.empty()) work(all, options.executor);
    return;
  }
  const std::size_t tasks = (all.size() + at_once - 1) / at_once;
  options.executor.run(tasks, [&](std::size_t i) {
    const std::size_t first = all.size() * i / tasks, last = all.size() * (i + 1) / tasks;  // none of a single token
    work(all.subspan(first, last - first), serial);
  });
}

}  // namespace mxfp4::model

// src/model/experts.hpp -- the mixture of experts of a layer: the router, and one expert at a time.
// SPDX-License-Identifier: Apache-2.0
//
//   h = norm(x) --> route_topk(Wg h, bias) --> x += weight * down(glu(gate h, up h)), experts by their number
//
// A layer without experts is one expert that every token takes with weight 1; a shared expert is one more behind the
// others.
// Experts one after the other need not be in memory together. Theirs is the order of transformers' sum too.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/config.hpp"
#include "model/token_rows.hpp"
#include "model/weights.hpp"

namespace mxfp4::model {

/// Which experts a token takes, k of them, in the order of their numbers, and with what weights.
struct routing {
  std::int64_t top_k = 0;             ///< slots of a token
  std::int64_t always = 0;            ///< of these, slots that every token fills with the same expert
  std::vector<std::int32_t> experts;  ///< tokens x k
  std::vector<float> weights;         ///< tokens x k
};

/// Whether a layer's experts are in stacks. Those of a family that is published so may have been taken apart.
[[nodiscard]] bool in_stacks(const checkpoint::checkpoint_reader& checkpoint, const model_config& config,
                             std::int64_t layer);

/// The share of a token's experts that both take, in the mean, not counting those that every token takes; 1 where there
/// are no others. @param a, b  of the same tokens.
[[nodiscard]] double router_agreement(const routing& a, const routing& b);

/// A token that takes an expert, and with what weight.
struct routed_token {
  std::int64_t row = 0;
  float weight = 0;
};

/// The tokens that take expert `index`, in their order.
[[nodiscard]] std::vector<routed_token> tokens_of(const routing& r, std::int64_t index);

/// x[tokens[i].row] += tokens[i].weight * outputs[i].
void add_outputs(token_rows& x, const token_rows& outputs, std::span<const routed_token> tokens);

class router {
 public:
  router() = default;
  /// @throws file_error where weights are missing or do not fit.
  router(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer);

  /// What the constructor will read, by the headers alone. @throws file_error as it does.
  static void require(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer);

  /// For products again and again.
  void arrange() { gate_.arrange(); }

  [[nodiscard]] token_rows normed(const token_rows& x) const;
  /// @param h  normed tokens.  @throws file_error for a logit or a bias that is NaN, naming the checkpoint, the
  ///         layer and its place.
  [[nodiscard]] routing route(const token_rows& h, const product_options& options) const;

 private:
  std::string path_;
  std::int64_t layer_ = 0, top_k_ = 0;
  std::int64_t shared_ = -1;  // its number, where there is one
  bool dense_ = false;
  float eps_ = 0;
  route_options how_;
  std::vector<float> norm_, bias_;
  linear gate_;
};

/// "model.layers.3.mlp.experts.5". @param index  as model_config::experts_in counts.
[[nodiscard]] std::string expert_name(const model_config& config, std::int64_t layer, std::int64_t index);

inline constexpr std::int64_t product_tokens_at_once = 1024;  ///< at most, of a task of expert_weights::add_to

struct expert_weights {
  linear gate, up, down;
  moe_options function;

  expert_weights() = default;
  /// @throws file_error where weights are missing or do not fit.
  expert_weights(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
                 std::int64_t index);
  /// The same in the order in which products read it: linear::load_arranged.
  [[nodiscard]] static expert_weights load_arranged(const checkpoint::checkpoint_reader& checkpoint,
                                                    const model_config& config, std::int64_t layer, std::int64_t index,
                                                    executor_ref executor, expert_weights spare);
  /// What they will read, by the headers alone. @throws file_error as they do.
  static void require(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
                      std::int64_t index);
  /// Becomes the same in MXFP4, matrix by matrix. @return  what that lost.
  /// @throws file_error as linear::quantized does.
  weight_error quantize(recipe_id recipe, const std::string& name, executor_ref executor);
  /// What the same expert lost in another checkpoint, of which some rows are in memory at a time; in a stack all of it.
  /// @throws file_error as the constructor does.
  [[nodiscard]] weight_error error_of(const checkpoint::checkpoint_reader& other, const model_config& config,
                                      std::int64_t layer, std::int64_t index, executor_ref executor) const;

  /// For each token that `r` sends to expert `index`: x += weight * down(glu(gate h, up h)).
  /// @param h  normed tokens. Some are gathered at a time: 4 MiB a thread, or what 64 tokens take, are needed besides.
  void add_to(token_rows& x, const token_rows& h, const routing& r, std::int64_t index,
              const product_options& options) const;

  /// down(glu(gate h, up h)), a row for each of `h`.
  [[nodiscard]] token_rows outputs(const token_rows& h, const product_options& options) const;

  /// glu(gate h, up h), which is what down is multiplied with.
  [[nodiscard]] token_rows activated(const token_rows& h, const product_options& options) const;

  [[nodiscard]] std::uint64_t stored_bytes() const noexcept;
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept;

 private:
  template <class LoadStack, class Load>
  void fill(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
            std::int64_t index, LoadStack load_stack, Load load);
  [[nodiscard]] std::size_t tokens_at_once() const noexcept;
};

/// Looks at the headers for every tensor of a model: what the last layer lacks is known before the first is read.
/// @throws file_error as the constructors do.
void require_all_tensors(const checkpoint::checkpoint_reader& checkpoint, const model_config& config);

}  // namespace mxfp4::model

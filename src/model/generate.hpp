// src/model/generate.hpp -- a model that goes on with a text, token by token.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <random>
#include <span>
#include <vector>

#include "model/attention.hpp"
#include "model/experts.hpp"

namespace mxfp4::model {

/// Experts that were needed: kept up to a number of bytes, the one unused for the longest time goes first. The one that
/// was asked for last stays.
class expert_store {
 public:
  /// @param checkpoint  must outlive this.
  expert_store(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::uint64_t limit)
      : checkpoint_(checkpoint),
        config_(config),
        limit_(limit),
        places_(static_cast<std::size_t>(config.shape.layers * places_a_layer(config)), kept_.end()) {}
  expert_store(const expert_store&) = delete;
  expert_store& operator=(const expert_store&) = delete;

  /// Valid until the next call. @throws file_error where weights are missing or do not fit.
  [[nodiscard]] const expert_weights& get(std::int64_t layer, std::int64_t index);

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::int64_t loads() const noexcept { return loads_; }  ///< from the file, so far
  [[nodiscard]] std::int64_t hits() const noexcept { return hits_; }    ///< found in memory
  [[nodiscard]] std::uint64_t bytes_read() const noexcept { return bytes_read_; }

 private:
  /// The shared expert's too, or the one of a dense layer.
  [[nodiscard]] static std::int64_t places_a_layer(const model_config& config) { return config.shape.experts + 1; }

  struct entry {
    std::size_t place;
    expert_weights weights;
  };

  const checkpoint::checkpoint_reader& checkpoint_;
  const model_config& config_;
  std::uint64_t limit_, bytes_ = 0, bytes_read_ = 0;
  std::int64_t loads_ = 0, hits_ = 0;
  std::list<entry> kept_;  // the last used first
  std::vector<std::list<entry>::iterator> places_;
};

/// @param what  "weights" while they are read, "tokens" while some are taken.
using layer_progress = std::function<void(std::int64_t done, std::int64_t total, const char* what)>;

/// In memory: all weights but those of experts, which the store has, and the keys and values of the tokens so far.
class generator {
 public:
  /// @param checkpoint     must outlive this.
  /// @param expert_memory  bytes of experts that are kept.
  /// @param progress       told of layers that are done, of all of them, and whether weights are read or tokens taken.
  /// @throws file_error where weights are missing or do not fit.
  generator(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, const product_options& options,
            std::uint64_t expert_memory, layer_progress progress = {});

  /// Takes tokens that follow those taken before; the logits of what comes after each of them, or after the last alone.
  /// @throws file_error for an id outside the vocabulary, for more tokens than the model takes, and for logits that are
  ///         NaN or infinite, naming the position.
  [[nodiscard]] token_rows take(std::span<const std::int64_t> ids, bool last_alone = true);

  /// Forgets all tokens. Experts stay in memory.
  void clear() { caches_.assign(caches_.size(), {}); }

  [[nodiscard]] std::int64_t length() const noexcept { return caches_[0].length; }
  [[nodiscard]] const expert_store& experts() const noexcept { return experts_; }

 private:
  struct layer {
    attention attend;
    router route;
  };

  const checkpoint::checkpoint_reader& checkpoint_;
  model_config config_;
  product_options options_;
  layer_progress progress_;
  expert_store experts_;
  rotary_table rotary_;
  std::vector<layer> layers_;
  std::vector<kv_cache> caches_;
  std::vector<float> norm_;
  linear head_;
};

/// A token drawn from softmax(logits / temperature); the likeliest one, the first of equals, for temperature 0.
/// The same on every machine for the same logits and random numbers, where std::exp is.
[[nodiscard]] std::int64_t sample(std::span<const float> logits, double temperature, std::mt19937_64& random);

}  // namespace mxfp4::model

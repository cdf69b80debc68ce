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

/// Experts that were needed: kept up to a number of bytes, the one unused for the longest time goes first. One is kept
/// in any case: that which was asked for last.
class expert_store {
 public:
  /// @param checkpoint, config  must outlive this. @param executor  too: it reads and packs.
  expert_store(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::uint64_t limit,
               executor_ref executor = {})
      : checkpoint_(checkpoint),
        config_(config),
        executor_(executor),
        limit_(limit),
        sizes_(static_cast<std::size_t>(2 * config.shape.layers)),
        places_(static_cast<std::size_t>(config.shape.layers * places_a_layer(config)), kept_.end()) {}
  expert_store(const expert_store&) = delete;
  expert_store& operator=(const expert_store&) = delete;

  /// Valid until the next call. @throws file_error where weights are missing or do not fit.
  [[nodiscard]] const expert_weights& get(std::int64_t layer, std::int32_t index);

  using expert_work = std::function<void(std::size_t i, const expert_weights& weights)>;
  /// work(i, weights of indices[i]) for each, by tasks of the executor that may have their own: as many at once as are
  /// kept, so that one is read while another is multiplied; in any order. @param indices  each but once.
  /// @throws file_error as get does, and what `work` throws; what was read by then is kept.
  void for_each(std::int64_t layer, std::span<const std::int32_t> indices, const expert_work& work);

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::int64_t loads() const noexcept { return loads_; }  ///< from the file, so far
  [[nodiscard]] std::int64_t hits() const noexcept { return hits_; }    ///< found in memory
  [[nodiscard]] std::uint64_t bytes_read() const noexcept { return bytes_read_; }

 private:
  /// The shared expert's too, or the one of a dense layer.
  [[nodiscard]] static std::int64_t places_a_layer(const model_config& config) { return config.shape.experts + 1; }

  struct entry {
    std::int64_t layer;
    std::int32_t index;
    expert_weights weights;
  };

  /// @param left  of `indices`, those to be done. @return  of these, what did not fit beside those before.
  std::span<const std::size_t> some_of(std::int64_t layer, std::span<const std::int32_t> indices,
                                       std::span<const std::size_t> left, const expert_work& work);
  /// kept_.end(): it is not kept.
  [[nodiscard]] std::list<entry>::iterator& place_of(std::int64_t layer, std::int32_t index) {
    return places_[static_cast<std::size_t>(layer * places_a_layer(config_) + index)];
  }
  /// Bytes in memory, of an expert of this layer, or of its shared one; 0 before one was read.
  [[nodiscard]] std::uint64_t& size_of(std::int64_t layer, std::int32_t index) {
    return sizes_[static_cast<std::size_t>(2 * layer + (index == config_.shape.experts ? 1 : 0))];
  }

  /// Lets go of what was unused for the longest time while `more` bytes do not fit; `spared` of the kept ones stay.
  /// @return  the last that went, if it was of MXFP4 and took as many.
  expert_weights make_room(std::uint64_t more, std::size_t spared);

  const checkpoint::checkpoint_reader& checkpoint_;
  const model_config& config_;
  executor_ref executor_;
  std::uint64_t limit_, bytes_ = 0, bytes_read_ = 0;
  std::vector<std::uint64_t> sizes_;  // size_of
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

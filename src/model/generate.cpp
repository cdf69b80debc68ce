// src/model/generate.cpp -- see generate.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/generate.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "io/guarded.hpp"
#include "model/metrics.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

const expert_weights& expert_store::get(std::int64_t layer, std::int64_t index) {
  const auto place = static_cast<std::size_t>(layer * places_a_layer(config_) + index);
  if (places_[place] != kept_.end()) {
    ++hits_;
    kept_.splice(kept_.begin(), kept_, places_[place]);
    return kept_.front().weights;
  }
  kept_.push_front({place, expert_weights(checkpoint_, config_, layer, index)});
  kept_.front().weights.arrange();
  places_[place] = kept_.begin();
  bytes_ += kept_.front().weights.memory_bytes();
  bytes_read_ += kept_.front().weights.stored_bytes();
  ++loads_;
  while (bytes_ > limit_ && kept_.size() > 1) {
    bytes_ -= kept_.back().weights.memory_bytes();
    places_[kept_.back().place] = kept_.end();
    kept_.pop_back();
  }
  return kept_.front().weights;
}

generator::generator(const checkpoint_reader& checkpoint, const model_config& config, const product_options& options,
                     std::uint64_t expert_memory, layer_progress progress)
    : checkpoint_(checkpoint),
      config_(config),
      options_(options),
      progress_(std::move(progress)),
      experts_(checkpoint, config_, expert_memory),
      rotary_(config),
      caches_(static_cast<std::size_t>(config.shape.layers)) {
  require_all_tensors(checkpoint, config);  // experts come later
  for (std::int64_t l = 0; l < config.shape.layers; ++l) {
    layers_.push_back({attention(checkpoint, config, l), router(checkpoint, config, l)});
    layers_.back().attend.arrange();
    layers_.back().route.arrange();
    if (progress_) progress_(l + 1, config.shape.layers, "weights");
  }
  norm_ = read_vector(checkpoint, "model.norm.weight", config.shape.hidden);
  head_ = linear::load(checkpoint, head_name(config), config.shape.vocabulary, config.shape.hidden);
  head_.arrange();
}

token_rows generator::take(std::span<const std::int64_t> ids, bool last_alone) {
  if (options_.stop && options_.stop()) throw stopped(checkpoint_.path());
  if (std::ssize(ids) > config_.context - length())
    throw file_error({.file = checkpoint_.path(),
                      .value = "the text has " + std::to_string(length() + std::ssize(ids)) + " tokens",
                      .expected = "at most " + std::to_string(config_.context) + ", max_position_embeddings"});
  token_rows x = read_embeddings(checkpoint_, config_, ids, length());
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    layers_[l].attend.add_to(x, 0, x.count, caches_[l], rotary_, options_);
    const token_rows h = layers_[l].route.normed(x);
    const routing r = layers_[l].route.route(h, options_);
    std::vector<std::int32_t> taken = r.experts;
    std::sort(taken.begin(), taken.end());
    taken.erase(std::unique(taken.begin(), taken.end()), taken.end());
    for (const std::int32_t e : taken) experts_.get(static_cast<std::int64_t>(l), e).add_to(x, h, r, e, options_);
    if (progress_) progress_(static_cast<std::int64_t>(l) + 1, std::ssize(layers_), "tokens");
  }
  const std::int64_t first = last_alone ? x.count - 1 : 0, count = x.count - first;
  token_rows logits(count, config_.shape.vocabulary);
  for (std::int64_t t = first; t < x.count; ++t) rms_norm(x.row(t), norm_, config_.rms_eps, x.row(t));
  head_.multiply(x.rows(first, count), logits.view(), options_);
  for (std::int64_t t = 0; t < count; ++t)
    if (const std::int64_t at = find_nonfinite_logit({logits.row(t), static_cast<std::size_t>(logits.size)}); at >= 0)
      throw file_error({.file = checkpoint_.path(),
                        .value = "the logit of token " + std::to_string(at) + " at position " +
                                 std::to_string(length() - count + t) + " is NaN or infinite",
                        .expected = "a number",
                        .advice = "see `mxfp4 verify`"});
  return logits;
}

std::int64_t sample(std::span<const float> logits, double temperature, std::mt19937_64& random) {
  const auto top = std::max_element(logits.begin(), logits.end());
  if (temperature == 0) return top - logits.begin();
  std::vector<double> sums(logits.size());  // running sums of exp((logit - top) / temperature)
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i)
    sums[i] = sum += std::exp((static_cast<double>(logits[i]) - static_cast<double>(*top)) / temperature);
  // 53 bits by hand: std::uniform_real_distribution differs between libraries.
  const double drawn = static_cast<double>(random() >> 11) * 0x1p-53 * sum;
  return std::upper_bound(sums.begin(), sums.end() - 1, drawn) - sums.begin();
}

}  // namespace mxfp4::model

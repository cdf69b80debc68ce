// src/model/generate.cpp -- see generate.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/generate.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "io/guarded.hpp"
#include "model/metrics.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

const expert_weights& expert_store::get(std::int64_t layer, std::int32_t index) {
  const expert_weights* found = nullptr;
  for_each(layer, {&index, 1}, [&](std::size_t, const expert_weights& weights) { found = &weights; });
  return *found;
}

void expert_store::for_each(std::int64_t layer, std::span<const std::int32_t> indices, const expert_work& work) {
  std::vector<std::size_t> order(indices.size());  // those that are there before others take their room
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_partition(order.begin(), order.end(),
                        [&](std::size_t i) { return place_of(layer, indices[i]) != kept_.end(); });
  for (std::span<const std::size_t> left = order; !left.empty();) left = some_of(layer, indices, left, work);
}

std::span<const std::size_t> expert_store::some_of(std::int64_t layer, std::span<const std::int32_t> indices,
                                                   std::span<const std::size_t> left, const expert_work& work) {
  struct member {
    std::list<entry>::iterator at;
    bool is_missing;
    std::uint64_t reserved;  // of bytes_, until it was read
    expert_weights spare;
  };
  std::vector<member> members;
  members.reserve(left.size());
  std::uint64_t held = 0;
  for (const std::size_t i : left) {
    const std::uint64_t size = size_of(layer, indices[i]);
    if (!members.empty() && (size == 0 || size > limit_ || held > limit_ - size)) break;
    held += size;
    auto& at = place_of(layer, indices[i]);
    const bool is_missing = at == kept_.end();
    member m{at, is_missing, is_missing ? size : 0, {}};
    if (is_missing) {
      m.spare = make_room(size, members.size());
      kept_.push_front({layer, indices[i], {}});
      at = m.at = kept_.begin();
      bytes_ += size;
    } else {
      ++hits_;
      kept_.splice(kept_.begin(), kept_, m.at);
    }
    members.push_back(std::move(m));
  }
  // Those that could be read count, should another one throw.
  const auto count = [&] {
    for (member& m : members) {
      if (!m.is_missing) continue;
      bytes_ -= m.reserved;
      const expert_weights& weights = m.at->weights;
      if (weights.stored_bytes() == 0) {
        place_of(layer, m.at->index) = kept_.end();
        kept_.erase(m.at);
        continue;
      }
      size_of(layer, m.at->index) = weights.memory_bytes();
      bytes_ += weights.memory_bytes();
      bytes_read_ += weights.stored_bytes();
      ++loads_;
    }
  };
  try {
    executor_.run(members.size(), [&](std::size_t i) {
      member& m = members[i];
      if (m.is_missing)
        m.at->weights =
            expert_weights::load_arranged(checkpoint_, config_, layer, m.at->index, executor_, std::move(m.spare));
      work(left[i], m.at->weights);
    });
  } catch (...) {
    count();
    throw;
  }
  count();
  (void)make_room(0, 1);
  return left.subspan(members.size());
}

expert_weights expert_store::make_room(std::uint64_t more, std::size_t spared) {
  expert_weights last;
  while (bytes_ + more > limit_ && kept_.size() > spared) {
    expert_weights& least = kept_.back().weights;
    const std::uint64_t size = least.memory_bytes();
    bytes_ -= size;
    place_of(kept_.back().layer, kept_.back().index) = kept_.end();
    // Others' memory is of no use to what comes, and would be there beside it.
    last = size == more && least.gate.is_mxfp4() ? std::move(least) : expert_weights();
    kept_.pop_back();
  }
  return last;
}

generator::generator(const checkpoint_reader& checkpoint, const model_config& config, const product_options& options,
                     std::uint64_t expert_memory, layer_progress progress)
    : checkpoint_(checkpoint),
      config_(config),
      options_(options),
      progress_(std::move(progress)),
      experts_(checkpoint, config_, expert_memory, options_.executor),
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
    const auto number = static_cast<std::int64_t>(l);
    if (x.count == 1) {  // little work in each: those of all experts at once
      std::vector<token_rows> outputs(taken.size());
      experts_.for_each(number, taken, [&](std::size_t i, const expert_weights& weights) {
        outputs[i] = weights.outputs(h, options_);
      });
      for (std::size_t i = 0; i < taken.size(); ++i) add_outputs(x, outputs[i], tokens_of(r, taken[i]));
    } else {
      for (const std::int32_t e : taken) experts_.get(number, e).add_to(x, h, r, e, options_);
    }
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

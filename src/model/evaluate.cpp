// src/model/evaluate.cpp -- see evaluate.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "io/guarded.hpp"
#include "model/attention.hpp"
#include "model/experts.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

constexpr std::int64_t logits_at_once = std::int64_t{4} << 20;  ///< of all models: 16 MiB, and what is free by then
constexpr std::int64_t least_tokens_at_once = 8, most_tokens_at_once = 1024;
constexpr std::uint64_t attention_bytes = std::uint64_t{40} << 20;  ///< of a layer's weights; beyond that: by pieces

[[nodiscard]] double relative_error(const token_rows& reference, const token_rows& target) {
  double error = 0, values = 0;
  for (std::size_t i = 0; i < reference.data.size(); ++i) {
    const auto x = static_cast<double>(reference.data[i]), y = static_cast<double>(target.data[i]);
    error += (x - y) * (x - y);
    values += x * x;
  }
  return values == 0 ? 0.0 : std::sqrt(error / values);
}

/// A model on its way through the layers. The first is the reference.
struct traveller {
  std::string name;
  std::size_t source;               ///< whose weights, an index into evaluation::sources_
  std::optional<recipe_id> recipe;  ///< of its experts
  token_rows hidden;
};

class evaluation {
 public:
  evaluation(const checkpoint_reader& reference, std::span<const evaluation_target> targets, const model_config& config,
             std::span<const std::int64_t> ids, const evaluation_options& options)
      : config_(config),
        ids_(ids),
        options_(options),
        tokens_(static_cast<std::int64_t>(ids.size())),
        rotary_(config),
        sources_{&reference} {
    require_all_tensors(reference, config);
    for (const evaluation_target& t : targets)
      if (t.checkpoint != nullptr) require_all_tensors(*t.checkpoint, config);
    enter(reference.path(), 0, {});
    for (const evaluation_target& t : targets) {
      if (t.checkpoint != nullptr) sources_.push_back(t.checkpoint);
      enter(t.name, t.checkpoint != nullptr ? sources_.size() - 1 : 0, t.recipe);
      results_.push_back({t, sources_[models_.back().source]->tensor_bytes(), {}, {}, {}});
    }
    for (const checkpoint_reader* source : sources_) total_ += source->tensor_bytes();
  }

  [[nodiscard]] std::vector<target_result> run() {
    for (std::int64_t layer = 0; layer < config_.shape.layers; ++layer) {
      where_ = "layer " + std::to_string(layer + 1) + " of " + std::to_string(config_.shape.layers);
      attend(layer);
      mix_experts(layer);
    }
    where_ = "logits";
    compare_predictions();
    return std::move(results_);
  }

 private:
  void enter(const std::string& name, std::size_t source, std::optional<recipe_id> recipe) {
    models_.push_back({name, source, recipe, read_embeddings(*sources_[source], config_, ids_, 0)});
  }

  void attend(std::int64_t layer) {
    for (std::size_t source = 0; source < sources_.size(); ++source) {
      const attention block(*sources_[source], config_, layer, attention_bytes);
      for (traveller& m : models_) {
        if (m.source != source) continue;
        for (std::int64_t first = 0; first < tokens_; first += options_.context) {
          kv_cache cache;
          block.add_to(m.hidden, first, std::min(options_.context, tokens_ - first), cache, rotary_, options_.product);
        }
      }
      step(block.stored_bytes());
    }
  }

  void mix_experts(std::int64_t layer) {
    std::vector<routing> routes;
    std::vector<token_rows> normed;
    for (const traveller& m : models_) {
      const router route(*sources_[m.source], config_, layer);
      normed.push_back(route.normed(m.hidden));
      routes.push_back(route.route(normed.back(), options_.product));
    }
    for (std::int64_t e = 0; e < config_.experts_in(layer); ++e) {
      // What every token takes, a dense layer or a shared expert, quantize leaves alone unless asked.
      const bool is_expert = !config_.is_dense(layer) && e < config_.shape.experts;
      const auto load = [&](std::size_t i) { return expert_weights(*sources_[models_[i].source], config_, layer, e); };
      const auto product = [&](std::size_t i, const expert_weights& w) {
        w.add_to(models_[i].hidden, normed[i], routes[i], e, options_.product);
      };
      const auto note = [&](std::size_t i, const weight_error& error) {
        if (is_expert) results_[i - 1].experts.push_back({layer, e, error.relative()});
      };
      std::vector<std::size_t> by_recipe, other;
      for (std::size_t i = 1; i < models_.size(); ++i)
        if (!models_[i].recipe) other.push_back(i);
        else if (is_expert) by_recipe.push_back(i);
      // One expert is in memory at a time, and pieces of another: it is read again where that is needed.
      expert_weights now = load(0);
      product(0, now);
      const std::uint64_t stored = now.stored_bytes();
      step(stored);
      if (!is_expert)
        for (std::size_t i = 1; i < models_.size(); ++i)
          if (models_[i].recipe) product(i, now);
      for (const std::size_t i : other)
        if (is_expert)
          note(i, now.error_of(*sources_[models_[i].source], config_, layer, e, options_.product.executor));
      for (const std::size_t i : by_recipe) {
        if (i != by_recipe.front()) now = {}, now = load(0);
        note(i, now.quantize(*models_[i].recipe, expert_name(config_, layer, e), options_.product.executor));
        results_[i - 1].bytes = results_[i - 1].bytes - stored + now.stored_bytes();
        product(i, now);
      }
      for (const std::size_t i : other) {
        now = {};
        now = load(i);
        product(i, now);
        step(now.stored_bytes());
      }
    }
    for (std::size_t i = 1; i < models_.size(); ++i)
      results_[i - 1].layers.push_back({relative_error(models_[0].hidden, models_[i].hidden),
                                        router_agreement(routes[0], routes[i]), !config_.is_dense(layer)});
  }

  void compare_predictions() {
    for (traveller& m : models_) {
      const std::vector<float> norm = read_vector(*sources_[m.source], "model.norm.weight", config_.shape.hidden);
      for (std::int64_t t = 0; t < tokens_; ++t) rms_norm(m.hidden.row(t), norm, config_.rms_eps, m.hidden.row(t));
    }
    const std::int64_t vocabulary = config_.shape.vocabulary, hidden = config_.shape.hidden;
    const auto load = [&](std::size_t source, std::int64_t first, std::int64_t count) {
      return linear::load_rows(*sources_[source], head_name(config_), vocabulary, hidden, first, count);
    };
    // A head that is longer than a piece is read again for each group of tokens. The normed states of the experts are
    // gone by now: logits have their memory, so that a longer text has more tokens in a group.
    const std::int64_t piece = linear::rows_of_a_piece(hidden), models = std::ssize(models_);
    std::vector<linear> whole;
    if (vocabulary <= piece)
      for (std::size_t source = 0; source < sources_.size(); ++source) whole.push_back(load(source, 0, vocabulary));
    const std::int64_t at_once = std::clamp((logits_at_once + models * tokens_ * hidden) / (models * vocabulary),
                                            least_tokens_at_once, most_tokens_at_once);
    for (std::int64_t first = 0; first < tokens_; first += at_once) {
      const std::int64_t count = std::min(at_once, tokens_ - first);
      std::vector<token_rows> logits;
      for (std::size_t i = 0; i < models_.size(); ++i) logits.emplace_back(count, vocabulary);
      for (std::int64_t row = 0; row < vocabulary; row += piece)
        for (std::size_t source = 0; source < sources_.size(); ++source) {
          if (options_.product.stop && options_.product.stop()) throw stopped(sources_[0]->path());
          const std::int64_t rows = std::min(piece, vocabulary - row);
          const linear head = whole.empty() ? load(source, row, rows) : linear();
          for (std::size_t i = 0; i < models_.size(); ++i)
            if (models_[i].source == source)
              (whole.empty() ? head : whole[source])
                  .multiply(models_[i].hidden.rows(first, count),
                            {logits[i].data.data() + row, count, rows, vocabulary}, options_.product);
        }
      for (std::size_t i = 0; i < models_.size(); ++i) require_finite(logits[i], first, models_[i].name);
      std::vector<std::int64_t> rows;  // all but the last of a window
      for (std::int64_t t = 0; t < count; ++t)
        if ((first + t + 1) % options_.context != 0 && first + t + 1 < tokens_) rows.push_back(t);
      for (std::size_t i = 1; i < models_.size(); ++i) {
        std::vector<token_comparison>& tokens = results_[i - 1].tokens;
        const std::size_t before = tokens.size();
        tokens.resize(before + rows.size());
        options_.product.executor.run(rows.size(), [&](std::size_t r) {
          tokens[before + r] = compare_logits(row_of(logits[0], rows[r]), row_of(logits[i], rows[r]),
                                              ids_[static_cast<std::size_t>(first + rows[r] + 1)]);
        });
      }
      options_.progress(std::min(done_, total_), total_, where_);
    }
    options_.progress(total_, total_, where_);
  }

  static void require_finite(const token_rows& logits, std::int64_t first, const std::string& name) {
    for (std::int64_t t = 0; t < logits.count; ++t)
      if (const std::int64_t at = find_nonfinite_logit(row_of(logits, t)); at >= 0)
        throw file_error({.file = name,
                          .value = "the logit of token " + std::to_string(at) + " at position " +
                                   std::to_string(first + t) + " is NaN or infinite",
                          .expected = "a number",
                          .advice = "see `mxfp4 verify`"});
  }

  [[nodiscard]] static std::span<const float> row_of(const token_rows& rows, std::int64_t i) {
    return {rows.row(i), static_cast<std::size_t>(rows.size)};
  }

  void step(std::uint64_t bytes) {
    if (options_.product.stop && options_.product.stop()) throw stopped(sources_[0]->path());
    done_ += bytes;
    options_.progress(std::min(done_, total_), total_, where_);
  }

  const model_config& config_;
  std::span<const std::int64_t> ids_;
  const evaluation_options& options_;
  std::int64_t tokens_;
  rotary_table rotary_;
  std::vector<const checkpoint_reader*> sources_;  // the reference's first
  std::uint64_t done_ = 0, total_ = 0;
  std::string where_;
  std::vector<traveller> models_;
  std::vector<target_result> results_;
};

}  // namespace

std::vector<target_result> evaluate(const checkpoint_reader& reference, std::span<const evaluation_target> targets,
                                    const model_config& config, std::span<const std::int64_t> ids,
                                    const evaluation_options& options) {
  if (ids.size() < 2)
    throw file_error({.value = "the text has " + std::to_string(ids.size()) + " tokens",
                      .expected = "at least 2",
                      .advice = "one to predict"});
  return evaluation(reference, targets, config, ids, options).run();
}

}  // namespace mxfp4::model

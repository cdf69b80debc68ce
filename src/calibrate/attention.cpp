// src/calibrate/attention.cpp -- see attention.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/attention.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace mxfp4::calibrate {

using namespace model;

namespace {

/// Rounds matrices that meet the same inputs, after as much of these as the method asks for.
class common_inputs {
 public:
  common_inputs(std::int64_t cols, const expert_options& options) : options_(options) {
    if (options.method == rounding_method::hessian) sums_.emplace(cols, true);
    else squares_.emplace(cols);
  }

  [[nodiscard]] bool takes_wanted() const noexcept { return sums_.has_value(); }
  /// @param wanted  of the original model; of no use where takes_wanted() says so.
  void add(const token_rows& x, token_rows wanted) {
    if (!sums_) return squares_->add(x);
    for (std::size_t i = 0; i < x.data.size(); ++i) wanted.data[i] -= x.data[i];
    sums_->add(x, wanted);
  }
  /// After the last add().
  void finish() {
    if (sums_) {
      sums_->finish();
      rounder_.emplace(*sums_, nullptr, options_);
      sums_.reset();
      return;
    }
    importance_ = squares_->mixed({}, 1, options_.rounding.damping);
  }
  [[nodiscard]] matrix_outcome round(const linear& w, const std::string& name, executor_ref executor) const {
    return rounder_ ? rounder_->round(w, options_.plain, name, executor)
                    : round_by_importance(w, importance_, options_, name);
  }

 private:
  const expert_options& options_;
  std::optional<input_sums> sums_;
  std::optional<column_squares> squares_;
  std::optional<matrix_rounder> rounder_;
  std::vector<float> importance_;
};

}  // namespace

attention_outcome calibrate_attention(const attention& block, const attention_inputs& inputs,
                                      const expert_options& options, const std::string& name) {
  const auto for_each_window = [&inputs](const auto& body) {
    for (std::int64_t first = 0; first < inputs.now.count; first += inputs.context) {
      inputs.require_running();
      body(first, std::min(inputs.context, inputs.now.count - first));
    }
  };
  const executor_ref executor = inputs.product.executor;
  const auto [q, k, v, o] = block.projections();
  attention_outcome out;
  out.tokens = inputs.now.count;
  {
    common_inputs in(q->cols(), options);
    for_each_window([&](std::int64_t first, std::int64_t count) {
      in.add(block.normed(inputs.now, first, count),
             in.takes_wanted() ? block.normed(inputs.original, first, count) : token_rows());
    });
    in.finish();
    out.q = in.round(*q, name + ".q_proj", executor);
    out.k = in.round(*k, name + ".k_proj", executor);
    out.v = in.round(*v, name + ".v_proj", executor);
  }
  attention rounded = block;
  const std::array<linear*, 4> projections = rounded.projections();
  *projections[0] = out.q.weights;
  *projections[1] = out.k.weights;
  *projections[2] = out.v.weights;
  const auto heads = [&](const attention& of, const token_rows& x, std::int64_t first, std::int64_t count) {
    kv_cache cache;
    return of.mixed(of.normed(x, first, count), cache, inputs.rotary, inputs.product);
  };
  common_inputs in(o->cols(), options);
  for_each_window([&](std::int64_t first, std::int64_t count) {
    in.add(heads(rounded, inputs.now, first, count),
           in.takes_wanted() ? heads(block, inputs.original, first, count) : token_rows());
  });
  in.finish();
  out.o = in.round(*o, name + ".o_proj", executor);
  return out;
}

}  // namespace mxfp4::calibrate

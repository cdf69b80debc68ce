// src/calibrate/needs.cpp -- see needs.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/needs.hpp"

#include "calibrate/layer_matrices.hpp"
#include "model/attention.hpp"
#include "model/experts.hpp"

namespace mxfp4::calibrate {

using namespace model;

namespace {

/// A config.json may name sizes whose products no integer holds: 2^60 is said then, which nobody has.
[[nodiscard]] std::uint64_t bytes_of(double bytes) { return static_cast<std::uint64_t>(std::min(bytes, 0x1p60)); }

}  // namespace

memory_need memory_of(const model_config& config, const calibration_size& size) {
  const auto n = [](std::int64_t x) { return static_cast<double>(x); };
  const model_shape& s = config.shape;
  const bool dense = is_of_linears(config);
  const double hidden = n(s.hidden), inner = n(dense ? config.experts.dense_intermediate : s.intermediate),
               widest = std::max(hidden, inner);
  const double tokens = n(size.tokens), context = std::min(tokens, n(size.context)), threads = n(size.threads);
  const double query = n(config.query_size()), key = n(config.key_size()), value = n(config.value_size()),
               mixed = n(s.heads * s.value_dim);
  constexpr double number = sizeof(float), weight = sizeof(float);  // F32; BF16 and FP8 take half of it
  memory_need need;
  need.states = bytes_of(2 * tokens * hidden * number);
  // Hidden states and their normed ones of a window, q, k and v and their cache, what heads mix; the scores of a task.
  need.attention = bytes_of(weight * hidden * (query + key + value + mixed) +
                            number * context * (2 * hidden + query + 2 * (key + value) + mixed) +
                            threads * number * attention_tokens_at_once * n(s.heads / s.key_value_heads) * context);
  // Normed states; experts and weights of each token's slots; the logits that they are chosen by.
  need.inputs = bytes_of(2 * tokens * hidden * number + tokens * n(s.experts_per_token + 1) * 16 +
                         tokens * n(s.experts) * number);
  const double others = n(std::max(config.experts.dense_intermediate, config.experts.shared_intermediate));
  const double part = std::min(tokens, n(product_tokens_at_once));
  need.products = bytes_of(weight * 3 * hidden * std::max(inner, others) +
                           threads * number * part * (2 * hidden + 2 * std::max(inner, others)));
  const double rows = std::min(tokens, n(tokens_at_once));
  // The expert as it is and in MXFP4; its tokens' inputs in both models, and what comes out of gate and up.
  const double plain = (weight + 2) * 3 * hidden * inner + number * rows * (2 * hidden + 4 * inner);
  // H of the tokens, what they drift by, both twice, the root, and two matrices in double while a target is sought; the
  // target in floats twice and in double twice.
  const auto rounding = [&size](double cols, double weights) {
    return size.method == rounding_method::diagonal ? 0.0 : cols * cols * 40 + weights * 24;
  };
  const double attention_weights = hidden * (query + key + value + mixed);
  // Of a model without experts the attention's codes are there too, until those of the layer are written.
  need.an_expert = bytes_of(plain + rounding(widest, hidden * inner) + (dense ? attention_weights : 0.0));
  if (size.method == rounding_method::hessian && !dense) need.sums = bytes_of(hidden * hidden * number);
  // Once more as it is, and in MXFP4; a window's inputs and heads of the other model.
  if (dense)
    need.attention_codes = bytes_of((weight + 2) * attention_weights + number * context * (hidden + mixed) +
                                    rounding(std::max(hidden, mixed), hidden * std::max(query, mixed)));
  return need;
}

calibration_work work_of(const model_config& config, const calibration_size& size) {
  const model_shape& s = config.shape;
  const auto h = static_cast<double>(s.hidden), i = static_cast<double>(s.intermediate);
  const auto n = static_cast<double>(s.experts), k = static_cast<double>(s.experts_per_token);
  const auto tokens = static_cast<double>(size.tokens), context = static_cast<double>(size.context);
  // A root is K^3 / 3: one for rounding, one for each target. Of a row of a matrix, its target and the solution of that
  // take 4 K^2, five measurements 10 K^2, the first pass K^2, three more 6 K^2; of a weight the codes some 2500.
  const double roots = h * h * h + 2.0 / 3 * i * i * i;
  const double rows = 21 * (2 * h * h * i + i * i * h) + 2500 * 3 * h * i;
  const double attention =
      2 * h *
          static_cast<double>(config.query_size() + config.key_size() + config.value_size() + s.heads * s.value_dim) +
      2 * context / 2 * static_cast<double>(config.query_size() + s.heads * s.value_dim);
  // Of each expert of a token: sums H and D of h and of i; gate and up twice for those of down; both models' products.
  const double slot = 3 * (h * h + i * i) + 8 * h * i + 12 * h * i;
  const double shared = 12 * h * static_cast<double>(config.experts.shared_intermediate);
  calibration_work work;
  for (std::int64_t layer = 0; layer < s.layers; ++layer) {
    work.of_tokens += tokens * 2 * attention;
    if (config.is_dense(layer)) {
      work.of_tokens += tokens * 12 * h * static_cast<double>(config.experts.dense_intermediate);
      continue;
    }
    work.of_tokens += tokens * (k * slot + shared + h * h);
    work.of_experts += n * (roots + rows);
  }
  return work;
}

std::uint64_t disk_of(const model_config& config, std::int64_t tokens) {
  const model_shape& s = config.shape;
  std::int64_t layers = 0;
  for (std::int64_t layer = 0; layer < s.layers; ++layer) layers += config.is_dense(layer) ? 0 : 1;
  const auto n = [](std::int64_t x) { return static_cast<double>(x); };
  const double weights = n(layers) * n(s.experts) * 3 * n(s.hidden) * n(s.intermediate);
  return bytes_of(weights / block_size * 17 + 2 * 2 * n(tokens) * n(s.hidden) * sizeof(float));
}

}  // namespace mxfp4::calibrate

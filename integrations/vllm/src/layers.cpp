// integrations/vllm/src/layers.cpp -- see layers.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "layers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

namespace mxfp4::vllm {

namespace {

[[nodiscard]] int8_scaling scaling_of(activations kind) noexcept {
  if (kind == activations::residual2) return int8_scaling::residual2;
  return kind == activations::residual3 ? int8_scaling::residual3 : int8_scaling::e8m0;
}

/// f.operator()<T>() with the type of the numbers.
template <class F>
auto with_numbers(number type, F&& f) {
  if (type == number::bfloat16) return f.template operator()<bf16>();
  if (type == number::float16) return f.template operator()<f16>();
  return f.template operator()<float>();
}

template <class T>
[[nodiscard]] dense_view<const T> view_of(const rows_in& x, std::int64_t first, std::int64_t rows, std::int64_t cols) {
  return {static_cast<const T*>(x.data) + first * x.stride, rows, cols, x.stride};
}

/// Floats to the type of the output, a run of elements for each task.
template <class T>
void round_all(const float* from, T* to, std::int64_t count, const process_team& team) {
  constexpr std::int64_t run = 16384;
  const auto round_run = [&](std::size_t task) noexcept {
    const std::int64_t first = static_cast<std::int64_t>(task) * run, last = std::min(count, first + run);
    for (std::int64_t i = first; i < last; ++i) to[i] = encode<T>(from[i]);
  };
  team.run(static_cast<std::size_t>((count + run - 1) / run), round_run);
}

/// Calls body(first, rows) for runs of rows that are as even as can be, each of `most` rows or fewer: a run of one
/// token at the end would be multiplied by another kernel than the others.
template <class Body>
[[nodiscard]] status for_row_runs(std::int64_t rows, std::int64_t most, Body&& body) {
  const std::int64_t runs = (rows + most - 1) / most;
  for (std::int64_t i = 0; i < runs; ++i) {
    const std::int64_t first = rows * i / runs, last = rows * (i + 1) / runs;
    if (const status s = body(first, last - first); !s.ok()) return s;
  }
  return {};
}

/// A workspace for this shape at least.
[[nodiscard]] status provide_workspace(workshop& shop, const moe_shape& s) {
  moe_shape& have = shop.largest;
  if (s.tokens <= have.tokens && s.top_k <= have.top_k && s.experts <= have.experts && s.hidden <= have.hidden &&
      s.intermediate <= have.intermediate)
    return {};
  have = {std::max(s.tokens, have.tokens), std::max(s.top_k, have.top_k), std::max(s.experts, have.experts),
          std::max(s.hidden, have.hidden), std::max(s.intermediate, have.intermediate)};
  shop.workspace = moe_workspace{};  // the old memory first
  result<moe_workspace> made = moe_workspace::create(have);
  if (!made) {
    have = {};
    return made.error();
  }
  shop.workspace = *std::move(made);
  return {};
}

}  // namespace

result<linear> linear::create(const const_mx_view<>& w, const process_team& team) {
  result<packed_matrix> packed = dispatch::pack(w, {.executor = team});
  if (!packed) return packed.error();
  linear made;
  made.weights_ = *std::move(packed);
  return result<linear>(std::move(made));
}

std::int64_t linear::bytes() const noexcept { return static_cast<std::int64_t>(weights_.bytes().size()); }

status linear::run(const rows_in& x, const float* bias, const rows_out& y, number type, activations kind,
                   workshop& shop) const {
  const std::lock_guard lock(shop.mutex);
  const std::int64_t n = rows(), k = cols();
  return with_numbers(type, [&]<class T>() -> status {
    return for_row_runs(x.rows, rows_within(shop, 4 * n), [&](std::int64_t first, std::int64_t rows) -> status {
      T* const out = static_cast<T*>(y.data) + first * n;
      float* floats = nullptr;
      if constexpr (std::is_same_v<T, float>) floats = out;
      else floats = grown(shop.results, rows * n);
      if (bias != nullptr)
        for (std::int64_t m = 0; m < rows; ++m) std::copy_n(bias, n, floats + m * n);
      const gemm_options options{.accumulate = bias != nullptr, .executor = shop.team};
      const dense_view<const T> in = view_of<T>(x, first, rows, k);
      const dense_view<float> products{floats, rows, n, n};
      status s;
      if (kind == activations::exact) {
        s = dispatch::gemm(weights_, in, products, options);
      } else {
        const auto quantised = dispatch::quantize_activations(in, scaling_of(kind), {.executor = shop.team});
        s = quantised ? dispatch::gemm(weights_, *quantised, products, options) : quantised.error();
      }
      if constexpr (!std::is_same_v<T, float>)
        if (s.ok()) round_all(floats, out, rows * n, shop.team);
      return s;
    });
  });
}

result<expert_layer> expert_layer::create(const source& from, const moe_options& options, const process_team& team) {
  const std::int64_t rows = from.intermediate, hidden = from.hidden;
  expert_layer made;
  made.options_ = options;
  made.hidden_ = hidden;
  made.intermediate_ = rows;
  made.experts_.reserve(static_cast<std::size_t>(from.experts));
  const std::int64_t biases = (from.w13_bias != nullptr ? 2 * rows : 0) + (from.w2_bias != nullptr ? hidden : 0);
  made.biases_.reserve(static_cast<std::size_t>(from.experts * biases));  // addresses stay
  const auto kept = [&made](const float* bias, std::int64_t count, std::int64_t step) {
    const float* const at = made.biases_.data() + made.biases_.size();
    for (std::int64_t i = 0; i < count; ++i) made.biases_.push_back(bias[i * step]);
    return at;
  };
  const std::int64_t step = from.rows_in_turn ? 2 : 1;  // from a row of gate to its next
  // An expert's matrices are often smaller than a huge page: all are one piece of memory.
  const std::int64_t above_bytes = packed_matrix::memory_bytes(rows, hidden);
  const std::int64_t down_bytes = packed_matrix::memory_bytes(hidden, rows);
  const std::int64_t all_bytes = from.experts * (2 * above_bytes + down_bytes);
  made.memory_ = mxfp4::detail::allocate(all_bytes);
  if (made.memory_ == nullptr) return status{errc::out_of_memory, "experts", all_bytes};
  std::uint8_t* place = made.memory_.get();
  const auto packed = [&](const std::uint8_t* codes, const std::uint8_t* scales, std::int64_t n, std::int64_t k,
                          std::int64_t apart) -> result<packed_matrix> {
    const std::int64_t need = packed_matrix::memory_bytes(n, k);
    result<packed_matrix> in_place = packed_matrix::uninitialized(n, k, {place, static_cast<std::size_t>(need)});
    if (!in_place) return in_place;
    place += need;
    packed_matrix matrix = *std::move(in_place);
    const const_mx_view<> view{codes, scales, n, k, apart * k / 2, apart * k / block_size};
    if (const status s = dispatch::pack_rows(view, 0, matrix, {.executor = team}); !s.ok()) return s;
    return result<packed_matrix>(std::move(matrix));
  };
  for (std::int64_t e = 0; e < from.experts; ++e) {
    const std::uint8_t* const codes = from.w13 + e * rows * hidden;  // 2 I x H / 2
    const std::uint8_t* const scales = from.w13_scale + e * 2 * rows * (hidden / block_size);
    const std::int64_t up = from.rows_in_turn ? 1 : rows;  // its first row
    result<packed_matrix> gate = packed(codes, scales, rows, hidden, step);
    if (!gate) return gate.error();
    result<packed_matrix> above =
        packed(codes + up * hidden / 2, scales + up * (hidden / block_size), rows, hidden, step);
    if (!above) return above.error();
    result<packed_matrix> down =
        packed(from.w2 + e * hidden * rows / 2, from.w2_scale + e * hidden * (rows / block_size), hidden, rows, 1);
    if (!down) return down.error();
    expert<packed_matrix> x{*std::move(gate), *std::move(above), *std::move(down)};
    if (from.w13_bias != nullptr) {
      const float* const bias = from.w13_bias + e * 2 * rows;
      x.gate_bias = kept(bias, rows, step);
      x.up_bias = kept(bias + up, rows, step);
    }
    if (from.w2_bias != nullptr) x.down_bias = kept(from.w2_bias + e * hidden, hidden, 1);
    made.experts_.push_back(std::move(x));
  }
  return result<expert_layer>(std::move(made));
}

std::int64_t expert_layer::bytes() const noexcept {
  std::size_t sum = biases_.size() * sizeof(float);
  for (const auto& x : experts_) sum += x.gate.bytes().size() + x.up.bytes().size() + x.down.bytes().size();
  return static_cast<std::int64_t>(sum);
}

template <class T>
status expert_layer::multiply(const dense_view<const T>& x, const dense_view<const std::int32_t>& indices,
                              const dense_view<const float>& weights, const dense_view<float>& y, activations kind,
                              workshop& shop) const {
  if (const status s = provide_workspace(shop, {x.rows, indices.cols, experts(), hidden_, intermediate_}); !s.ok())
    return s;
  moe_options options = options_;
  options.executor = shop.team;
  if (kind == activations::exact) return dispatch::moe(experts_, x, indices, weights, y, shop.workspace, options);
  const auto quantised = dispatch::quantize_activations(x, scaling_of(kind), {.executor = shop.team});
  if (!quantised) return quantised.error();
  return dispatch::moe(experts_, *quantised, indices, weights, y, shop.workspace, options);
}

template <class T>
status expert_layer::run_unlocked(const rows_in& x, const dense_view<const std::int32_t>& indices,
                                  const dense_view<const float>& weights, std::span<const std::int32_t> local, T* y,
                                  activations kind, workshop& shop) const {
  const std::int64_t k = indices.cols, hidden = hidden_;
  const std::int64_t floats_a_token =
      k * (std::max(2 * intermediate_, hidden) + std::max(intermediate_, hidden)) + hidden;
  return for_row_runs(x.rows, rows_within(shop, floats_a_token), [&](std::int64_t first, std::int64_t rows) -> status {
    const dense_view<const T> in = view_of<T>(x, first, rows, hidden);
    T* const out = y + first * hidden;
    if (local.empty()) {
      float* floats = nullptr;
      if constexpr (std::is_same_v<T, float>) floats = out;
      else floats = grown(shop.results, rows * hidden);
      const status s = multiply<T>(in, {indices.data + first * indices.stride, rows, k, indices.stride},
                                   {weights.data + first * weights.stride, rows, k, weights.stride},
                                   {floats, rows, hidden, hidden}, kind, shop);
      if constexpr (!std::is_same_v<T, float>)
        if (s.ok()) round_all(floats, out, rows * hidden, shop.team);
      return s;
    }
    // The slots whose expert is here, each as a token with one expert: what another process has costs nothing.
    std::vector<std::int64_t> token;
    std::vector<std::int32_t> which;
    std::vector<float> share;
    std::vector<std::int64_t> starts{0};  // of a token's slots, and the end of the last one's
    for (std::int64_t m = 0; m < rows; ++m) {
      for (std::int64_t slot = 0; slot < k; ++slot) {
        const std::int32_t e = indices.row(first + m)[slot];
        if (e < 0 || static_cast<std::size_t>(e) >= local.size())
          return {errc::out_of_range, "indices", e, static_cast<std::int64_t>(local.size()) - 1, "", first + m, slot};
        if (local[static_cast<std::size_t>(e)] < 0) continue;
        token.push_back(m);
        which.push_back(local[static_cast<std::size_t>(e)]);
        share.push_back(weights.row(first + m)[slot]);
      }
      starts.push_back(static_cast<std::int64_t>(token.size()));
    }
    const auto slots = static_cast<std::int64_t>(token.size());
    std::vector<T> gathered(static_cast<std::size_t>(slots * hidden));
    const auto gather = [&](std::size_t i) noexcept {
      std::copy_n(in.row(token[i]), hidden, gathered.data() + static_cast<std::int64_t>(i) * hidden);
    };
    shop.team.run(token.size(), gather);
    float* const floats = grown(shop.results, slots * hidden);
    const status s = multiply<T>({gathered.data(), slots, hidden, hidden}, {which.data(), slots, 1, 1},
                                 {share.data(), slots, 1, 1}, {floats, slots, hidden, hidden}, kind, shop);
    if (!s.ok()) return s;
    const auto add_up = [&](std::size_t m) noexcept {
      T* const row = out + static_cast<std::int64_t>(m) * hidden;
      for (std::int64_t i = 0; i < hidden; ++i) {
        float sum = 0.0f;
        for (std::int64_t at = starts[m]; at < starts[m + 1]; ++at) sum += floats[at * hidden + i];
        row[i] = encode<T>(sum);
      }
    };
    shop.team.run(static_cast<std::size_t>(rows), add_up);
    return {};
  });
}

status expert_layer::run(const rows_in& x, const dense_view<const std::int32_t>& indices,
                         const dense_view<const float>& weights, std::span<const std::int32_t> local, const rows_out& y,
                         number type, activations kind, workshop& shop) const {
  const std::lock_guard lock(shop.mutex);
  return with_numbers(
      type, [&]<class T>() { return run_unlocked(x, indices, weights, local, static_cast<T*>(y.data), kind, shop); });
}

status expert_layer::run(const rows_in& x, const routing& router, std::span<const std::int32_t> local,
                         const rows_out& y, number type, activations kind, workshop& shop) const {
  const std::lock_guard lock(shop.mutex);
  const std::int64_t all = local.empty() ? experts() : static_cast<std::int64_t>(local.size());
  const std::int64_t rows = x.rows, k = router.top_k;
  float* const logits = grown(shop.logits, rows * all);
  // A token whose logits have a NaN has a NaN for its result, and any experts: vLLM warms up with such tokens.
  std::vector<std::int64_t> broken;
  with_numbers(router.type, [&]<class T>() {
    for (std::int64_t m = 0; m < rows; ++m) {
      const T* const from = static_cast<const T*>(router.logits.data) + m * router.logits.stride;
      bool has_nan = false;
      for (std::int64_t e = 0; e < all; ++e) {
        logits[m * all + e] = decode(from[e]);
        has_nan |= std::isnan(logits[m * all + e]);
      }
      if (!has_nan) continue;
      std::fill_n(logits + m * all, all, 0.0f);
      broken.push_back(m);
    }
  });
  shop.chosen.resize(static_cast<std::size_t>(rows * k));
  shop.chosen_weights.resize(static_cast<std::size_t>(rows * k));
  const dense_view<std::int32_t> indices{shop.chosen.data(), rows, k, k};
  const dense_view<float> weights{shop.chosen_weights.data(), rows, k, k};
  route_options options = router.options;
  options.executor = shop.team;
  if (const status s = dispatch::route_topk({logits, rows, all, all}, router.bias, indices, weights, options); !s.ok())
    return s;
  for (const std::int64_t m : broken) std::fill_n(weights.row(m), k, std::numeric_limits<float>::quiet_NaN());
  return with_numbers(type, [&]<class T>() {
    return run_unlocked(x, {indices.data, rows, k, k}, {weights.data, rows, k, k}, local, static_cast<T*>(y.data), kind,
                        shop);
  });
}

}  // namespace mxfp4::vllm

// bench/peers/moe_peer.cpp -- this library's moe for packages.py: a layer of experts, by functions in C.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "mxfp4/moe.hpp"

namespace {

using namespace mxfp4;

struct layer {
  std::int64_t experts, hidden, inner;
  std::vector<expert<const_mx_view<>>> views;
  std::vector<expert<packed_matrix>> packed;
  moe_workspace workspace;
  std::int64_t tokens = 0, top_k = 0;
};

template <class Experts, class X>
int run(layer& l, const Experts& experts, const X& x, const std::int32_t* indices, const float* weights, float* y) {
  return moe(experts, x, {indices, l.tokens, l.top_k, l.top_k}, {weights, l.tokens, l.top_k, l.top_k},
             {y, l.tokens, l.hidden, l.hidden}, l.workspace)
                 .ok()
             ? 0
             : 1;
}

}  // namespace

extern "C" {

/// gate, up: E x I x H, down: E x H x I weights, two codes a byte, the even element in the low nibble; which stay where
/// they are. Null on failure.
void* moe_create(std::int64_t experts, std::int64_t hidden, std::int64_t inner, const std::uint8_t* const* codes,
                 const std::uint8_t* const* scales) {
  auto l = std::make_unique<layer>();
  l->experts = experts;
  l->hidden = hidden;
  l->inner = inner;
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto matrix = [&](int i, std::int64_t n, std::int64_t k) {
      return const_mx_view<>{codes[i] + e * n * k / 2, scales[i] + e * n * k / 32, n, k, k / 2, k / 32};
    };
    l->views.push_back({matrix(0, inner, hidden), matrix(1, inner, hidden), matrix(2, hidden, inner)});
    auto gate = pack(l->views.back().gate), up = pack(l->views.back().up), down = pack(l->views.back().down);
    if (!gate || !up || !down) return nullptr;
    l->packed.push_back({*std::move(gate), *std::move(up), *std::move(down)});
  }
  return l.release();
}

int moe_prepare(void* of, std::int64_t tokens, std::int64_t top_k) {
  auto& l = *static_cast<layer*>(of);
  auto made = moe_workspace::create({tokens, top_k, l.experts, l.hidden, l.inner});
  if (!made) return 1;
  l.workspace = *std::move(made);
  l.tokens = tokens;
  l.top_k = top_k;
  return 0;
}

/// x: bf16, y: float, tokens x hidden. product: bf16_packed, bf16_view, int8_packed, int8_residual2_packed.
int moe_multiply(void* of, const char* product, const std::uint16_t* x, const std::int32_t* indices,
                 const float* weights, float* y) {
  auto& l = *static_cast<layer*>(of);
  const dense_view<const bf16> tokens{reinterpret_cast<const bf16*>(x), l.tokens, l.hidden, l.hidden};
  const std::string_view name = product;
  if (name == "bf16_packed") return run(l, l.packed, tokens, indices, weights, y);
  if (name == "bf16_view") return run(l, l.views, tokens, indices, weights, y);
  const auto scaling = name == "int8_residual2_packed" ? int8_scaling::residual2 : int8_scaling::e8m0;
  if (scaling == int8_scaling::e8m0 && name != "int8_packed") return 1;
  const auto quantized = quantize_activations(tokens, scaling);
  return quantized ? run(l, l.packed, *quantized, indices, weights, y) : 1;
}

void moe_destroy(void* of) { delete static_cast<layer*>(of); }
}

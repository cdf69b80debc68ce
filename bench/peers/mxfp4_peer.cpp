// bench/peers/mxfp4_peer.cpp -- this library, or another commit of it, as a peer (peer.h).
// SPDX-License-Identifier: Apache-2.0
//
// Compiled as it is against the headers of any commit since b8b6007: what an older one lacks is not in its list.
#include "peer.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mxfp4/linalg.hpp"

#ifndef MXFP4_PEER_NAME
#define MXFP4_PEER_NAME "mxfp4"
#endif

namespace {

using namespace mxfp4;

template <class Scaling>
constexpr bool has_residuals = requires { Scaling::residual2; };

struct product {
  std::int64_t n, k;
  std::vector<std::uint8_t> codes, scales;
  packed_matrix packed;
  int8_activations quantized;
  std::string name;
  dense_view<const float> x{};

  [[nodiscard]] const_mx_view<> view() const { return {codes.data(), scales.data(), n, k, k / 2, k / 32}; }
};

/// The scaling that the name of an int8 product asks for.
template <class Scaling>
[[nodiscard]] Scaling scaling_of(std::string_view name) {
  if constexpr (has_residuals<Scaling>) {
    if (name.starts_with("int8_residual2")) return Scaling::residual2;
    if (name.starts_with("int8_residual3")) return Scaling::residual3;
  }
  return Scaling::e8m0;
}

}  // namespace

const char* peer_name(void) { return MXFP4_PEER_NAME; }

const char* peer_products(void) {
  if constexpr (has_residuals<int8_scaling>)
    return "f32_packed f32_view int8_packed int8_view int8_residual2_packed int8_residual2_view int8_residual3_packed "
           "int8_residual3_view";
  else return "f32_packed f32_view int8_packed int8_view";
}

void* peer_create(std::int64_t n, std::int64_t k, const std::uint8_t* codes, const std::uint8_t* scales) {
  auto w = std::make_unique<product>();
  w->n = n;
  w->k = k;
  w->codes.assign(codes, codes + n * k / 2);
  w->scales.assign(scales, scales + n * k / 32);
  auto packed = pack(w->view());
  if (!packed) return nullptr;
  w->packed = *std::move(packed);
  return w.release();
}

int peer_prepare(void* weights, const char* name, std::int64_t m, const float* x) {
  auto& w = *static_cast<product*>(weights);
  w.name = name;
  w.x = {x, m, w.k, w.k};
  if ((" " + std::string(peer_products()) + " ").find(" " + w.name + " ") == std::string::npos) return 1;
  if (!w.name.starts_with("int8")) return 0;
  auto made = int8_activations::create(m, w.k, scaling_of<int8_scaling>(w.name));
  if (!made) return 1;
  w.quantized = *std::move(made);
  return 0;
}

int peer_multiply(void* weights, float* y) {
  auto& w = *static_cast<product*>(weights);
  const dense_view<float> out{y, w.x.rows, w.n, w.n};
  const auto multiply = [&](const auto& tokens) {
    return w.name.ends_with("view") ? gemm(w.view(), tokens, out) : gemm(w.packed, tokens, out);
  };
  if (!w.name.starts_with("int8")) return multiply(w.x).ok() ? 0 : 1;
  return quantize_activations(w.x, w.quantized).ok() && multiply(w.quantized).ok() ? 0 : 1;
}

void peer_destroy(void* weights) { delete static_cast<product*>(weights); }

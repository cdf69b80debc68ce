// bench/peers/wrong_peer.cpp -- a peer whose products are all 0: the test that a wrong one is not timed.
// SPDX-License-Identifier: Apache-2.0
#include "peer.h"

#include <algorithm>
#include <cstdint>

namespace {

struct size {
  std::int64_t n, m;
};

}  // namespace

const char* peer_name(void) { return "wrong"; }
const char* peer_products(void) { return "f32_packed"; }
void* peer_create(std::int64_t n, std::int64_t, const std::uint8_t*, const std::uint8_t*) { return new size{n, 0}; }
int peer_prepare(void* weights, const char*, std::int64_t m, const float*) {
  static_cast<size*>(weights)->m = m;
  return 0;
}
int peer_multiply(void* weights, float* y) {
  const size& s = *static_cast<size*>(weights);
  std::fill_n(y, s.n * s.m, 0.0f);
  return 0;
}
void peer_destroy(void* weights) { delete static_cast<size*>(weights); }

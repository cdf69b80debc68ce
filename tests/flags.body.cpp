// tests/flags.body.cpp -- all recipes on all recorded blocks, all decodes, and a digest of the rest.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled once per set of floating-point options (flags.cmake). Nothing here does floating-point arithmetic of its
// own.
#include "flags.body.hpp"

#include <cstdio>
#include <cstring>

#include "mxfp4/format/block.hpp"
#include "mxfp4/format/peer_cast.hpp"
#include "support/peers.hpp"

namespace mxfp4::test {
namespace {

using loader = const std::uint8_t* (*)(const char*);

comparison run_peer(const peer& p, const char* set, int blocks, loader load) {
  char name[160];
  const auto file = [&](const char* suffix) {
    std::snprintf(name, sizeof name, "%s/%s.%s", set, p.name, suffix);
    return load(name);
  };
  std::snprintf(name, sizeof name, "%s/inputs.%s", set, p.input);
  recorded r{load(name), nullptr, nullptr, nullptr, blocks};
  r.scale = file("scale.u8");
  r.packed = file("packed.u8");
  if (p.has_valid) r.valid = file("valid.u8");
  return p.run(r, p.stable);
}

template <class Dialect, class T, class Bits>
int wrong_decodes(const std::uint8_t* table, Bits exponent_mask) {
  int wrong = 0;
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned code = 0; code < 16; ++code) {
      const T weight = decode_weight<T, Dialect>(static_cast<e2m1>(code), static_cast<e8m0>(byte));
      Bits ours = 0, theirs = 0;
      std::memcpy(&ours, &weight, sizeof ours);
      std::memcpy(&theirs, table + (byte * 16 + code) * sizeof(T), sizeof theirs);
      const auto magnitude = [](Bits b) { return static_cast<Bits>(b & (static_cast<Bits>(~Bits{0}) >> 1)); };
      const bool both_nan = magnitude(ours) > exponent_mask && magnitude(theirs) > exponent_mask;
      wrong += ours == theirs || both_nan ? 0 : 1;
    }
  return wrong;
}

/// FNV-1a of everything that has no recorded vectors: min_mse, stochastic rounding, double, conversions, f16 decode.
class digest {
 public:
  void add(std::uint64_t value) {
    for (int i = 0; i < 8; ++i) state_ = (state_ ^ (value >> (8 * i) & 0xFFu)) * 0x100000001B3u;
  }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0xCBF29CE484222325u;
};

void add_block(digest& d, const block& b) {
  d.add(static_cast<std::uint64_t>(b.scale));
  for (const std::uint8_t byte : b.codes) d.add(byte);
}

std::uint64_t digest_of_the_rest(loader load) {
  digest d;
  const std::uint8_t* input = load("dev/inputs.f32");
  std::uint64_t random_state = 1;
  for (int b = 0; b < dev_blocks; ++b) {
    std::uint32_t bits[block_size], random[block_size];
    float x[block_size];
    std::memcpy(bits, input + b * 128, sizeof bits);
    std::memcpy(x, bits, sizeof x);
    for (int i = 0; i < block_size; ++i) {
      random_state = random_state * 6364136223846793005u + 1442695040888963407u;
      random[i] = static_cast<std::uint32_t>(random_state >> 32);
    }
    add_block(d, encode_block<recipe::min_mse>(x));
    add_block(d, encode_block_stochastic<recipe::torchao_rceil>(x, random));
    for (int i = 0; i < block_size; ++i) {
      d.add(static_cast<std::uint64_t>(encode_bf16(x[i])));
      d.add(static_cast<std::uint64_t>(encode_f16(x[i])));
      d.add(static_cast<std::uint64_t>(encode_e4m3(x[i])));
      d.add(static_cast<std::uint64_t>(encode_e4m3_nan(x[i])));
      d.add(static_cast<std::uint64_t>(encode_e2m1(x[i])));
      d.add(static_cast<std::uint64_t>(peer_cast::mlx_e8m0(x[i])));
      d.add(static_cast<std::uint64_t>(peer_cast::onednn_e2m1(x[i])));
      double wide = 0;  // its bits: a float's exponent rebased, the mantissa with noise below it
      const std::uint64_t wide_bits = (std::uint64_t{bits[i] >> 31} << 63) |
                                      (std::uint64_t{(bits[i] & 0x7FFFFFFFu) + (896u << 23)} << 29) | (random[i] & 3u);
      std::memcpy(&wide, &wide_bits, sizeof wide);
      d.add(static_cast<std::uint64_t>(encode_e2m1(wide)));
      d.add(detail::float_bits(detail::multiply(x[i], x[(i + 1) % block_size])));
    }
  }
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned code = 0; code < 16; ++code)
      d.add(static_cast<std::uint64_t>(decode_weight<f16>(static_cast<e2m1>(code), static_cast<e8m0>(byte))));
  for (unsigned i = 0; i < 65536; ++i) d.add(detail::float_bits(decode(static_cast<f16>(i))));
  for (unsigned i = 0; i < 256; ++i) d.add(detail::float_bits(decode(static_cast<e4m3>(i))));
  return d.value();
}

}  // namespace

flags_report run_everything(loader load) {
  flags_report report;
  for (const peer& p : peers) {
    const bool right =
        run_peer(p, "dev", dev_blocks, load) == comparison{p.dev_scales, p.dev_codes, 0, 0, -1} &&
        run_peer(p, "examples", examples_blocks, load) == comparison{p.examples_scales, p.examples_codes, 0, 0, -1};
    if (right) continue;
    if (report.wrong_recipes++ == 0) report.first_wrong = p.name;
  }
  for (const char* table : {"exhaustive/decode_cuda.f32", "exhaustive/decode_ml_dtypes.f32"})
    report.wrong_decodes += wrong_decodes<dialect::ocp, float>(load(table), std::uint32_t{0x7F800000u});
  report.wrong_decodes +=
      wrong_decodes<dialect::ggml, float>(load("exhaustive/decode_ggml.f32"), std::uint32_t{0x7F800000u});
  report.wrong_decodes +=
      wrong_decodes<dialect::inf_at_255, bf16>(load("exhaustive/decode_gptoss.bf16"), std::uint16_t{0x7F80u});
  report.digest = digest_of_the_rest(load);
  return report;
}

}  // namespace mxfp4::test

// tests/peer_cast.golden.test.cpp -- single numbers as the peers cast them: all recorded sweeps and exhaustive tables.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "mxfp4/format/peer_cast.hpp"
#include "support/oracle.hpp"
#include "support/print.hpp"
#include "support/sweep.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
namespace cast = mxfp4::peer_cast;

struct e2m1_peer {
  const char* name;
  e2m1 (*cast)(float);
};
const e2m1_peer e2m1_peers[] = {
    {"cuda_rn", [](float x) { return cast::cuda_e2m1(x); }},
    {"cuda_rz", [](float x) { return cast::cuda_e2m1<toward_zero>(x); }},
    {"mlx", [](float x) { return cast::cuda_e2m1(x); }},
    {"torchao", [](float x) { return encode_e2m1(x); }},
    {"cutlass_host", cast::cutlass_e2m1},
    {"ml_dtypes", cast::ml_dtypes_e2m1},
    {"compressed_tensors_cpu", cast::compressed_tensors_e2m1},
    {"onednn", cast::onednn_e2m1},
};

struct e8m0_peer {
  const char* name;
  e8m0 (*cast)(float);
};
const e8m0_peer e8m0_peers[] = {
    {"cuda_rp_sat", cast::cuda_e8m0_up<true>},
    {"cuda_rp_nosat", cast::cuda_e8m0_up<false>},
    {"cuda_rz_sat", cast::cuda_e8m0_down<true>},
    {"cuda_rz_nosat", cast::cuda_e8m0_down<false>},
    {"torchao_rceil", cast::cuda_e8m0_up<false>},
    {"cutlass_host_ctor", cast::cutlass_e8m0},
    {"cutlass_host_convert_from_float", cast::cutlass_e8m0},
    {"ml_dtypes", cast::ml_dtypes_e8m0<false>},
    {"ml_dtypes_saturate", cast::ml_dtypes_e8m0<true>},
    {"ml_dtypes_truncate", cast::ml_dtypes_e8m0_truncate},
    {"mlx", cast::mlx_e8m0},
    {"onednn", cast::onednn_e8m0},
};

}  // namespace

TEST_CASE("float to FP4 is that of each peer, special values included", "[peer_cast][golden]") {
  const auto in = load<std::uint32_t>("dev/scalars_fp4.f32");
  REQUIRE(in.size() == 2308);
  for (const e2m1_peer& peer : e2m1_peers) {
    CAPTURE(peer.name);
    const auto codes = load_bytes(std::string("dev/scalars_fp4.") + peer.name + ".u8");
    REQUIRE(codes.size() == in.size());
    findings found;
    // these two turn the bits of a NaN into a code: no defined result
    const std::string name = peer.name;
    const bool nan_is_undefined = name == "torchao" || name == "compressed_tensors_cpu";
    int skipped = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (nan_is_undefined && (in[i] & 0x7FFFFFFFu) > 0x7F800000u) ++skipped;
      else found.expect(peer.cast(as_float(in[i])) == e2m1{codes[i]}, in[i]);
    }
    CHECK(found == none);
    CHECK(skipped == (nan_is_undefined ? 10 : 0));
  }
}

TEST_CASE("float to E8M0 is that of each peer, special values included", "[peer_cast][golden]") {
  const auto in = load<std::uint32_t>("dev/scalars_e8m0.f32");
  REQUIRE(in.size() == 5928);
  for (const e8m0_peer& peer : e8m0_peers) {
    CAPTURE(peer.name);
    const auto bytes = load_bytes(std::string("dev/scalars_e8m0.") + peer.name + ".u8");
    REQUIRE(bytes.size() == in.size());
    findings found;
    for (std::size_t i = 0; i < in.size(); ++i) found.expect(peer.cast(as_float(in[i])) == e8m0{bytes[i]}, in[i]);
    CHECK(found == none);
  }
}

TEST_CASE("every bf16 to E8M0 and both to FP4 as CUDA does", "[peer_cast][golden][exhaustive]") {
  const auto up_sat = load_bytes("exhaustive/bf16_to_e8m0_rp_sat_cuda.u8");
  const auto up = load_bytes("exhaustive/bf16_to_e8m0_rp_nosat_cuda.u8");
  const auto down_sat = load_bytes("exhaustive/bf16_to_e8m0_rz_sat_cuda.u8");
  const auto down = load_bytes("exhaustive/bf16_to_e8m0_rz_nosat_cuda.u8");
  const auto bf16_codes = load_bytes("exhaustive/bf16_to_fp4_rn_cuda.u8");
  const auto half_codes = load_bytes("exhaustive/half_to_fp4_rn_cuda.u8");
  for (const auto* table : {&up_sat, &up, &down_sat, &down, &bf16_codes, &half_codes}) REQUIRE(table->size() == 65536);
  findings scales, codes;
  for (std::size_t i = 0; i < 65536; ++i) {
    const float x = decode(static_cast<bf16>(i));
    scales.expect(cast::cuda_e8m0_up<true>(x) == e8m0{up_sat[i]}, i);
    scales.expect(cast::cuda_e8m0_up<false>(x) == e8m0{up[i]}, i);
    scales.expect(cast::cuda_e8m0_down<true>(x) == e8m0{down_sat[i]}, i);
    scales.expect(cast::cuda_e8m0_down<false>(x) == e8m0{down[i]}, i);
    codes.expect(cast::cuda_e2m1(x) == e2m1{bf16_codes[i]}, i);
    codes.expect(cast::cuda_e2m1(decode(static_cast<f16>(i))) == e2m1{half_codes[i]}, i);
  }
  CHECK(scales == none);
  CHECK(codes == none);
}

TEST_CASE("MLX's cast follows the recorded log2f in every binade", "[peer_cast][exhaustive]") {
  const auto half_way = load<std::uint32_t>("exhaustive/log2f_round_half_threshold_bits.u32");
  REQUIRE(half_way.size() == 254);
  findings found;
  for (std::uint32_t e = 1; e <= 254; ++e) {
    const std::uint32_t at = half_way[e - 1];
    for (std::uint32_t bits = at - 200; bits <= at + 200; ++bits) {
      const std::uint32_t byte = bits < at ? e : e + 1;
      found.expect(cast::mlx_e8m0(as_float(bits)) == static_cast<e8m0>(byte > 254 ? 254 : byte), bits);
    }
    found.expect(cast::mlx_e8m0(as_float(e << 23)) == static_cast<e8m0>(e), e << 23);
  }
  // subnormal numbers are not in the table: their logarithm in double, rounded to float
  for (std::uint32_t bits = 0x5A827Au - 5000; bits <= 0x5A827Au + 5000; ++bits) {
    const auto log2 = static_cast<float>(std::log2(static_cast<double>(as_float(bits))));
    found.expect(cast::mlx_e8m0(as_float(bits)) == static_cast<e8m0>(std::round(log2) + 127), bits);
  }
  CHECK(found == none);
}

TEST_CASE("oneDNN's cast is the least distance in float", "[peer_cast][exhaustive]") {
  // the definition, written out: distances rounded to float, the even code of equals
  const auto by_distance = [](std::uint64_t i) {
    const float x = as_float(static_cast<std::uint32_t>(i));
    int best = 0;
    float least = x;
    for (int code = 1; code < 8; ++code) {
      const float value = static_cast<float>(fp4_values[code]), distance = x < value ? value - x : x - value;
      if (distance < least || (distance == least && code % 2 == 0)) {
        best = code;
        least = distance;
      }
    }
    return cast::onednn_e2m1(x) == static_cast<e2m1>(best) && cast::onednn_e2m1(-x) == static_cast<e2m1>(best | 8);
  };
  const std::uint64_t infinity = 0x7F800000u;
  CHECK(sweep_each(0, infinity, by_distance, 509) == none);
  for (const float at : {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 0x1p24f, 0x1p25f, 0x1p26f, 0x1p27f, 0x1p28f})
    CHECK(sweep_each(as_bits(at) - 5000, as_bits(at) + 5000, by_distance) == none);
}

TEST_CASE("casts of special values", "[peer_cast][golden]") {
  const float inf = as_float(0x7F800000u), nan = as_float(0x7FC00000u), minus_nan = as_float(0xFFC00000u);
  const float largest = 0x1.FFFFFEp127f;
  struct codes {
    float in;
    std::uint8_t cuda, cutlass, ml_dtypes, compressed_tensors, onednn;
  };
  for (const auto& r : {codes{nan, 7, 7, 8, 0, 0}, codes{minus_nan, 7, 15, 0, 0, 0}, codes{inf, 7, 7, 7, 7, 0},
                        codes{-inf, 15, 15, 15, 15, 0}, codes{-0.0f, 8, 8, 8, 0, 8}, codes{0x1p28f, 7, 7, 7, 7, 6},
                        codes{-0x1p28f, 15, 15, 15, 15, 14}, codes{-0x1p-149f, 8, 8, 8, 8, 8}}) {
    CAPTURE(r.in);
    CHECK(cast::cuda_e2m1(r.in) == e2m1{r.cuda});
    CHECK(cast::cutlass_e2m1(r.in) == e2m1{r.cutlass});
    CHECK(cast::ml_dtypes_e2m1(r.in) == e2m1{r.ml_dtypes});
    CHECK(cast::compressed_tensors_e2m1(r.in) == e2m1{r.compressed_tensors});
    CHECK(cast::onednn_e2m1(r.in) == e2m1{r.onednn});
  }
  struct bytes {
    float in;
    std::uint8_t up_sat, up, down_sat, down, cutlass, ml_dtypes, ml_dtypes_sat, ml_dtypes_trunc, mlx, onednn;
  };
  for (const auto& r :
       {bytes{0.0f, 0, 0, 0, 0, 0, 255, 0, 255, 0, 0}, bytes{-1.0f, 127, 127, 127, 127, 127, 255, 0, 255, 0, 127},
        bytes{nan, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
        bytes{inf, 254, 255, 254, 255, 255, 255, 255, 255, 255, 255},
        bytes{largest, 254, 255, 254, 254, 254, 255, 254, 254, 254, 254},
        bytes{1.5f, 128, 128, 127, 127, 128, 128, 128, 127, 128, 127},
        bytes{0x1.7FFFFEp0f, 128, 128, 127, 127, 128, 127, 127, 127, 128, 127},
        bytes{0x1p-127f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, bytes{0x1.000004p-127f, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0}}) {
    CAPTURE(r.in);
    CHECK(cast::cuda_e8m0_up<true>(r.in) == e8m0{r.up_sat});
    CHECK(cast::cuda_e8m0_up<false>(r.in) == e8m0{r.up});
    CHECK(cast::cuda_e8m0_down<true>(r.in) == e8m0{r.down_sat});
    CHECK(cast::cuda_e8m0_down<false>(r.in) == e8m0{r.down});
    CHECK(cast::cutlass_e8m0(r.in) == e8m0{r.cutlass});
    CHECK(cast::ml_dtypes_e8m0<false>(r.in) == e8m0{r.ml_dtypes});
    CHECK(cast::ml_dtypes_e8m0<true>(r.in) == e8m0{r.ml_dtypes_sat});
    CHECK(cast::ml_dtypes_e8m0_truncate(r.in) == e8m0{r.ml_dtypes_trunc});
    CHECK(cast::mlx_e8m0(r.in) == e8m0{r.mlx});
    CHECK(cast::onednn_e8m0(r.in) == e8m0{r.onednn});
  }
}

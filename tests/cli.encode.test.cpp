// tests/cli.encode.test.cpp -- mxfp4 encode and decode against the recorded vectors of the peers.
// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli.support.hpp"
#include "support/peers.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using strings = std::vector<std::string>;

/// How the program calls what a recording was made with.
struct spelled {
  const char* recording;
  const char* recipe;
};
constexpr spelled spellings[] = {
    {"compressed_tensors_cpu_f32", "compressed_tensors"},
    {"compressed_tensors_cpu_bf16", "compressed_tensors"},
    {"compressed_tensors_cpu_f16", "compressed_tensors"},
    {"torchao_floor_f32", "torchao_floor"},
    {"torchao_floor_bf16", "torchao_floor"},
    {"torchao_ceil_f32", "torchao_ceil"},
    {"torchao_even_f32", "torchao_even"},
    {"torchao_even_bf16", "torchao_even"},
    {"torchao_rceil_f32", "torchao_rceil"},
    {"torchao_rceil_bf16", "torchao_rceil"},
    {"microxcaling_cpp_nearest", "microxcaling_nearest"},
    {"microxcaling_cpp_even", "microxcaling_even"},
    {"microxcaling_py_nearest", "microxcaling_py_nearest"},
    {"microxcaling_py_even", "microxcaling_py_even"},
    {"modelopt_f32", "modelopt"},
    {"modelopt_bf16", "modelopt"},
    {"ggml_ref", "ggml"},
    {"ik_llama", "ggml"},
    {"mlx_metal_src", "mlx_metal_0_32_1"},
    {"triton_kernels_round_up_f32", "triton_up"},
    {"triton_kernels_round_up_bf16", "triton_up"},
    {"triton_kernels_round_down_f32", "triton_down"},
    {"triton_kernels_legacy_ties_away_round_up_f32", "triton_legacy"},
    {"cuda_host_rceil_mulrcp6_nosat", "cuda_rceil"},
    {"cuda_host_rceil_div6_satfinite", "cuda_rceil_satfinite"},
};

std::string recipe_of(const std::string& recording) {
  for (const spelled& s : spellings)
    if (recording == s.recording) return s.recipe;
  FAIL("no spelling of " << recording);
  return {};
}

block_facts facts_by_type(const std::string& type, const std::uint8_t* block) {
  return type == "f32" ? facts_of<float>(block) : type == "bf16" ? facts_of<bf16>(block) : facts_of<f16>(block);
}

}  // namespace

TEST_CASE("cli: encode gives the bytes of every peer", "[cli][golden]") {
  for (const peer& p : peers) {
    const std::string type = p.input, set = "dev/", name = p.name;
    CAPTURE(name, type);
    const scratch_folder folder;
    const std::string packed = folder / "packed", scale = folder / "scale";
    const outcome o =
        run({MXFP4_PROGRAM, "encode", "--recipe", recipe_of(name), "--type", type,
             std::string(MXFP4_TEST_VECTORS) + "/dev/inputs." + type, "--packed", packed, "--scale", scale});
    REQUIRE(o.code == 0);
    CHECK_THAT(o.out, ContainsSubstring("2014 blocks by " + recipe_of(name)));

    const std::vector<std::uint8_t> input = load_bytes(set + "inputs." + type);
    const std::vector<std::uint8_t> peer_scale = load_bytes(set + name + ".scale.u8");
    const std::vector<std::uint8_t> peer_packed = load_bytes(set + name + ".packed.u8");
    const std::vector<std::uint8_t> valid =
        p.has_valid ? load_bytes(set + name + ".valid.u8") : std::vector<std::uint8_t>{};
    const std::string our_scale = read_text(scale), our_packed = read_text(packed);
    REQUIRE(our_scale.size() == dev_blocks);
    REQUIRE(our_packed.size() == std::size_t{dev_blocks} * 16);
    int scales = 0, codes = 0;
    for (std::size_t b = 0; b < dev_blocks; ++b) {
      block_facts facts = facts_by_type(type, input.data() + b * input.size() / dev_blocks);
      facts.peer_scale = peer_scale[b];
      facts.valid = valid.empty() || valid[b] != 0;
      const stable_part stable = p.stable(facts);
      scales += stable.scale ? 1 : 0;
      codes += stable.codes ? 1 : 0;
      const bool same_scale = static_cast<std::uint8_t>(our_scale[b]) == peer_scale[b];
      const bool same_codes = std::memcmp(our_packed.data() + 16 * b, peer_packed.data() + 16 * b, 16) == 0;
      if ((stable.scale && !same_scale) || (stable.codes && !same_codes)) FAIL("block " << b << " differs");
    }
    CHECK(scales == p.dev_scales);
    CHECK(codes == p.dev_codes);
  }
}

TEST_CASE("cli: decode gives the values of every dialect, for every code and scale byte", "[cli][golden]") {
  std::vector<std::uint8_t> codes, scales;  // block s: codes 0..15 twice, under byte s
  for (int s = 0; s < 256; ++s) {
    for (int i = 0; i < 16; ++i) codes.push_back(static_cast<std::uint8_t>(2 * i % 16 | (2 * i + 1) % 16 << 4));
    scales.push_back(static_cast<std::uint8_t>(s));
  }
  const scratch_folder folder;
  const std::string packed = write_text(folder / "packed", bytes_of(codes)),
                    scale = write_text(folder / "scale", bytes_of(scales));
  const auto decode = [&](const std::string& to, const std::string& dialect) {
    const outcome o = run({MXFP4_PROGRAM, "decode", "--to", to, "--dialect", dialect, "--packed", packed, "--scale",
                           scale, folder / "out", "--overwrite"});
    REQUIRE(o.code == 0);
    CHECK(o.out == "256 blocks to " + to + ", dialect " + dialect + "\n");
    return read_text(folder / "out");
  };
  const auto is_nan = [](std::uint32_t bits) { return (bits & 0x7FFFFFFFu) > 0x7F800000u; };
  const auto compare = [&](const std::string& text, const std::vector<std::uint32_t>& expected) {
    REQUIRE(text.size() == 256u * 32 * 4);
    const std::vector<std::uint32_t> values = values_of<std::uint32_t>(text);
    int wrong = 0;
    for (std::size_t s = 0; s < 256; ++s)
      for (std::size_t i = 0; i < 32; ++i) {
        const std::uint32_t got = values[32 * s + i], want = expected[16 * s + i % 16];
        wrong += got == want || (is_nan(got) && is_nan(want)) ? 0 : 1;
      }
    CHECK(wrong == 0);
  };
  compare(decode("f32", "ocp"), load<std::uint32_t>("exhaustive/decode_cuda.f32"));
  compare(decode("f32", "ggml"), load<std::uint32_t>("exhaustive/decode_ggml.f32"));

  for (const char* peer : {"exhaustive/decode_gptoss.bf16", "exhaustive/decode_compressed_tensors.bf16"}) {
    CAPTURE(peer);
    const std::vector<std::uint16_t> expected = load<std::uint16_t>(peer);
    const std::string text = decode("bf16", "inf_at_255");
    REQUIRE(text.size() == 256u * 32 * 2);
    const std::vector<std::uint16_t> values = values_of<std::uint16_t>(text);
    int wrong = 0;
    for (std::size_t i = 0; i < 256u * 32; ++i) {
      const std::uint16_t got = values[i];
      const std::uint16_t want = expected[i / 32 * 16 + i % 16];
      const bool both_nan = (got & 0x7FFF) > 0x7F80 && (want & 0x7FFF) > 0x7F80;
      wrong += got == want || both_nan ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
  const std::string f16 = decode("f16", "ocp");
  REQUIRE(f16.size() == 256u * 32 * 2);
  CHECK(f16.substr(127 * 64, 16) ==
        std::string("\x00\x00\x00\x38\x00\x3C\x00\x3E\x00\x40\x00\x42\x00\x44\x00\x46", 16));  // 0 .5 1 1.5 2 3 4 6
}

TEST_CASE("cli: encode, report as JSON", "[cli]") {
  const scratch_folder folder;
  std::vector<float> x(64, 1.0f);
  x[1] = 7.0f;    // saturates: scale 1, largest 6
  x[2] = 0.125f;  // rounds to zero
  x[3] = -0.0f;
  x[32] = NAN;  // a NaN block: its 31 ones are lost
  const std::string in = write_text(folder / "x", bytes_of(x));
  const outcome o = run(
      {MXFP4_PROGRAM, "encode", "--json", "--recipe", "ocp", in, "--packed", folder / "p", "--scale", folder / "s"});
  REQUIRE(o.code == 0);
  CHECK(o.err == "");
  const auto report = nlohmann::json::parse(o.out);
  CHECK(report["blocks"] == 2);
  CHECK(report["weights"] == 64);
  CHECK(report["saturated"] == 1);
  CHECK(report["zeroed"] == 1);
  CHECK(report["lost"] == 31);
  CHECK(report["nonfinite"] == 1);
  CHECK(report["nan_blocks"] == 1);
  CHECK(report["max_error"] == 1.0);
  // |W|^2 = 29 + 49 + 1/64 + 31, |W - Q|^2 = 1 + 1/64 + 31
  CHECK(std::abs(report["relative_error"].get<double>() - std::sqrt(32.015625 / 109.015625)) < 1e-12);
  CHECK(read_text(folder / "s") == "\x7F\xFF");
}

TEST_CASE("cli: an empty array has no blocks", "[cli]") {
  const scratch_folder folder;
  const std::string in = write_text(folder / "x", "");
  CHECK(
      run({MXFP4_PROGRAM, "encode", "--recipe", "ggml", in, "--packed", folder / "p", "--scale", folder / "s"}).code ==
      0);
  CHECK(run({MXFP4_PROGRAM, "decode", "--packed", folder / "p", "--scale", folder / "s", folder / "y"}).code == 0);
  CHECK(read_text(folder / "y").empty());
  CHECK(folder.names() == strings{"p", "s", "x", "y"});
}

TEST_CASE("cli: arrays longer than a slab", "[cli]") {
  const scratch_folder folder;
  std::vector<float> x(32 * 70001);  // two slabs and a bit
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(i % 7) * (i / 32 % 2 == 0 ? 0.5f : 1.0f);  // 0 .. 6: E2M1 less 5
  for (float& v : x) v = v == 5.0f ? 4.0f : v == 2.5f ? 2.0f : v;
  const std::string in = write_text(folder / "x", bytes_of(x));
  REQUIRE(
      run({MXFP4_PROGRAM, "encode", "--recipe", "torchao_rceil", in, "--packed", folder / "p", "--scale", folder / "s"})
          .code == 0);
  REQUIRE(run({MXFP4_PROGRAM, "decode", "--packed", folder / "p", "--scale", folder / "s", folder / "y"}).code == 0);
  CHECK(read_text(folder / "y") == read_text(in));
}

TEST_CASE("cli: encode and decode refuse sizes that are no blocks, and leave nothing", "[cli]") {
  const scratch_folder folder;
  const std::string odd = write_text(folder / "odd", std::string(129, 'x'));
  const outcome e =
      run({MXFP4_PROGRAM, "encode", "--recipe", "ocp", odd, "--packed", folder / "p", "--scale", folder / "s"});
  CHECK(e.code == 1);
  CHECK_THAT(e.err, ContainsSubstring("holds 129 bytes, expected a multiple of 128"));
  const std::string p = write_text(folder / "p16", std::string(48, 'x')), s = write_text(folder / "s2", "xx");
  const outcome d = run({MXFP4_PROGRAM, "decode", "--packed", p, "--scale", s, folder / "y"});
  CHECK(d.code == 1);
  CHECK_THAT(d.err, ContainsSubstring("s2: holds 2 bytes, expected 3"));
  const outcome q = run({MXFP4_PROGRAM, "decode", "--packed", odd, "--scale", s, folder / "y"});
  CHECK(q.code == 1);
  CHECK_THAT(q.err, ContainsSubstring("odd: holds 129 bytes, expected a multiple of 16"));
  CHECK(folder.names() == strings{"odd", "p16", "s2"});
}

TEST_CASE("cli: both outputs of encode or neither", "[cli]") {
  const scratch_folder folder;
  const std::string in = write_text(folder / "x", std::string(128 * 100, 'x'));
  const auto encode = [&](const std::string& packed, const std::string& scale, const limits& limit = {}) {
    return run({MXFP4_PROGRAM, "encode", "--recipe", "ocp", in, "--packed", packed, "--scale", scale}, limit).code;
  };
  CHECK(encode(folder / "p", folder / "none/s") == 1);
  CHECK(encode(folder / "none/p", folder / "s") == 1);
  CHECK(encode(folder / "p", folder / "s", {1000}) == 1);  // 1600 bytes of codes do not fit, 100 of scales do
  CHECK(folder.names() == strings{"x"});
  CHECK(encode(folder / "p", folder / "s") == 0);
  CHECK(folder.names() == strings{"p", "s", "x"});
}

// tests/calibrate.importance.test.cpp -- scales by importance against all scales and all codes; llama.cpp's files byte
// by byte.
//
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "calibrate/imatrix.hpp"
#include "calibrate/importance.hpp"
#include "cli.support.hpp"
#include "mxfp4/io/error.hpp"
#include "mxfp4/quantize.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::calibrate;
using Catch::Matchers::ContainsSubstring;
using mxfp4::test::scratch_folder;
using mxfp4::test::splitmix;
using mxfp4::test::write_text;

struct encoded_block {
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(16), scale = std::vector<std::uint8_t>(1);

  [[nodiscard]] unsigned code(std::size_t c) const { return c % 2 == 0 ? codes[c / 2] & 15u : codes[c / 2] >> 4; }
  [[nodiscard]] double at(std::size_t c) const { return test::weight(code(c), scale[0]); }
};

encoded_block plain(const std::vector<float>& w) {
  encoded_block b;
  REQUIRE(quantize(recipe_id::compressed_tensors, dense_view<const float>{w.data(), 1, 32, 32},
                   mx_view<>{b.codes.data(), b.scale.data(), 1, 32, 16, 1})
              .ok());
  return b;
}

double cost(const std::vector<float>& w, const std::vector<float>& importance, const encoded_block& q) {
  double sum = 0;
  for (std::size_t c = 0; c < 32; ++c) {
    const double e = double(w[c]) - q.at(c);
    sum += double(importance[c]) * (e * e);
  }
  return sum;
}

/// Over every scale and every code.
double least_cost(const std::vector<float>& w, const std::vector<float>& importance) {
  double least = std::numeric_limits<double>::infinity();
  for (int scale = 0; scale < 255; ++scale) {
    double sum = 0;
    for (std::size_t c = 0; c < 32; ++c) {
      double best = std::numeric_limits<double>::infinity();
      for (unsigned code = 0; code < 16; ++code)
        best = std::fmin(best, std::pow(double(w[c]) - test::weight(code, scale), 2));
      sum += double(importance[c]) * best;
    }
    least = std::fmin(least, sum);
  }
  return least;
}

double uniform(splitmix& random) { return static_cast<double>(random.next() >> 11) * 0x1p-52 - 1; }

// Bytes of files, little-endian on every machine.
std::string u32(std::uint32_t value) {
  std::string text;
  for (int i = 0; i < 4; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}
std::string f32(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return u32(bits);
}
std::string u64(std::uint64_t value) { return u32(std::uint32_t(value)) + u32(std::uint32_t(value >> 32)); }
std::string floats(const std::vector<float>& values) {
  std::string text;
  for (const float v : values) text += f32(v);
  return text;
}
std::string string_of(const std::string& s) { return u64(s.size()) + s; }
std::string padded_to_32(std::string s) {
  s.resize((s.size() + 31) / 32 * 32);
  return s;
}

std::string dat_entry(const std::string& name, std::uint32_t calls, const std::vector<float>& values) {
  return u32(std::uint32_t(name.size())) + name + u32(calls) + u32(std::uint32_t(values.size())) + floats(values);
}

/// Two experts with two columns; the second one met no token.
std::string gguf_of(const std::string& type, const std::vector<float>& sums, const std::vector<float>& counts) {
  const std::string name = "blk.0.ffn_up_exps.weight";
  const auto tensor = [&](const std::string& suffix, std::uint64_t first, std::uint64_t second, std::uint64_t offset) {
    return string_of(name + suffix) + u32(2) + u64(first) + u64(second) + u32(0) + u64(offset);
  };
  const std::uint64_t n = counts.size();
  return padded_to_32("GGUF" + u32(3) + u64(2) + u64(4) + string_of("general.type") + u32(8) + string_of(type) +
                      string_of("imatrix.datasets") + u32(9) + u32(8) + u64(1) + string_of("a.txt") +
                      string_of("imatrix.chunk_count") + u32(4) + u32(3) + string_of("imatrix.chunk_size") + u32(4) +
                      u32(512) + tensor(".in_sum2", sums.size() / n, n, 0) + tensor(".counts", 1, n, 32)) +
         padded_to_32(floats(sums)) + padded_to_32(floats(counts));
}

}  // namespace

TEST_CASE("importance: the least over all scales and codes", "[calibrate]") {
  splitmix random(1);
  int improved = 0, far = 0;
  for (int i = 0; i < 400; ++i) {
    std::vector<float> w, importance;
    for (int c = 0; c < 32; ++c) {
      w.push_back(float(std::ldexp(uniform(random), random.in(-6, 1))));
      importance.push_back(float(std::exp(uniform(random) * (i % 2 == 0 ? 1 : 12))));
    }
    if (i % 5 == 0) w[0] = 0;
    if (i % 7 == 0) importance[3] = 0;
    const encoded_block before = plain(w);
    encoded_block q = before;
    const checkpoint::code_costs costs = choose_by_importance(w, importance, 0, q.codes, q.scale);
    const double least = least_cost(w, importance);
    CAPTURE(i);
    CHECK(std::fabs(cost(w, importance, q) - least) <= 1e-9 * least);
    CHECK(std::fabs(costs.chosen - least) <= 1e-9 * least);
    CHECK(std::fabs(costs.plain - cost(w, importance, before)) <= 1e-9 * costs.plain);
    improved += costs.chosen < costs.plain ? 1 : 0;
    far += before.scale[0] - q.scale[0] > 1 ? 1 : 0;
  }
  CHECK(improved > 100);
  CHECK(far > 10);
}

TEST_CASE("importance: blocks by hand", "[calibrate]") {
  // 6 does not count, 0.3 does: under 2^-1 it is 0.25, under no other scale it is nearer.
  std::vector<float> w(32, 0.3f), importance(32, 1.0f);
  w[0] = 6;
  importance[0] = 0;
  encoded_block q = plain(w);
  CHECK(q.scale[0] == 127);
  static_cast<void>(choose_by_importance(w, importance, 0, q.codes, q.scale));
  CHECK(q.scale[0] == 126);
  CHECK(q.at(0) == 3);
  for (std::size_t c = 1; c < 32; ++c) CHECK(q.code(c) == 1);

  // The second block of a row has its own columns, the third is the next row's first.
  std::vector<float> three = w, both(32, 1.0f);
  three.insert(three.end(), w.begin(), w.end());
  three.insert(three.end(), w.begin(), w.end());
  both.insert(both.end(), importance.begin(), importance.end());
  encoded_block all;
  all.codes.assign(48, 0x11);
  all.scale.assign(3, 127);
  for (const std::size_t i : {0u, 16u, 32u}) all.codes[i] = 0x17;
  static_cast<void>(choose_by_importance(three, both, 0, all.codes, all.scale));
  CHECK(all.scale == std::vector<std::uint8_t>{127, 126, 127});

  // What does not count at all, and what is no number, stays.
  encoded_block odd;
  odd.codes.assign(16, 0xA5);
  odd.scale[0] = 99;
  const encoded_block was = odd;
  const checkpoint::code_costs none = choose_by_importance(w, std::vector<float>(32), 0, odd.codes, odd.scale);
  CHECK((odd.codes == was.codes && odd.scale == was.scale && none.plain == 0 && none.chosen == 0));
  w[9] = NAN;
  static_cast<void>(choose_by_importance(w, importance, 0, odd.codes, odd.scale));
  CHECK((odd.codes == was.codes && odd.scale == was.scale));
}

TEST_CASE("imatrix: both forms of the file, byte by byte", "[calibrate]") {
  const scratch_folder folder;
  const imatrix old = read_imatrix(write_text(
      folder / "old.dat", u32(2) + dat_entry("blk.0.attn_q.weight", 4, {8, 2}) +
                              dat_entry("blk.0.ffn_up_exps.weight", 0, {3, 4, 1, 1}) + u32(7) + u32(5) + "a.txt"));
  REQUIRE(old.entries.size() == 2);
  CHECK(old.entries.at("blk.0.attn_q.weight").squares == std::vector<float>{2, 0.5f});
  CHECK(old.entries.at("blk.0.ffn_up_exps.weight").squares == std::vector<float>{3, 4, 1, 1});
  CHECK(old.entries.at("blk.0.attn_q.weight").counts.empty());
  CHECK((old.chunks == 7 && old.chunk_size == 0));
  const imatrix shortest = read_imatrix(write_text(folder / "shortest", u32(1) + dat_entry("x", 1, {5})));
  CHECK((shortest.entries.at("x").squares == std::vector<float>{5} && shortest.chunks == 0));

  const imatrix now = read_imatrix(write_text(folder / "now.gguf", gguf_of("imatrix", {12, 6, 0, 0}, {4, 0})));
  REQUIRE(now.entries.size() == 1);
  const imatrix_entry& entry = now.entries.at("blk.0.ffn_up_exps.weight");
  CHECK(entry.squares == std::vector<float>{3, 1.5f, 0, 0});
  CHECK(entry.counts == std::vector<std::int64_t>{4, 0});
  CHECK((now.chunks == 3 && now.chunk_size == 512));
}

TEST_CASE("imatrix: files that are none", "[calibrate][bad_input]") {
  struct row {
    std::string bytes, says;
  };
  const std::string whole = u32(1) + dat_entry("blk.0.attn_q.weight", 4, {8, 2}) + u32(7) + u32(5) + "a.txt";
  std::vector<row> rows = {
      {"", "an end instead of the number of entries at byte 0"},
      {u32(0), "no entries"},
      {u32(0xFFFFFFFF), "-1 as the number of entries"},
      {u32(2) + dat_entry("x", 1, {5}) + dat_entry("x", 1, {5}), "'x' twice"},
      {u32(1) + dat_entry("x", 1, {-1}), "has a mean square of -1.0"},
      {u32(1) + dat_entry("x", 1, {NAN}), "has a mean square of "},
      {whole + "x", "it has more at byte"},
      {u32(1) + u32(0x7FFFFFFF) + "x", "an end instead of a name"},
      {u32(1) + u32(1) + "x" + u32(1) + u32(0x7FFFFFFF) + f32(1), "an end instead of its numbers"},
      {gguf_of("model", {1, 1}, {1}), "general.type is \"model\", expected \"imatrix\""},
      {gguf_of("imatrix", {1, 1, 1, 1}, {1, -1}), "has -1.0"},
      {gguf_of("imatrix", {1, NAN}, {1}), "has a mean square of "},
      {gguf_of("imatrix", {1, 1}, {1}).substr(0, 200), "x"},
  };
  for (std::size_t size = 0; size < whole.size(); ++size)
    if (size != whole.size() - 13 && size != whole.size() - 9)  // before and behind the chunks it may end
      rows.push_back({whole.substr(0, size), "x"});
  for (const row& r : rows) {
    const scratch_folder folder;
    CAPTURE(r.says, r.bytes.size());
    std::string message = "accepted";
    try {
      static_cast<void>(read_imatrix(write_text(folder / "x", r.bytes)));
    } catch (const io::file_error& error) {
      message = error.what();
    }
    CHECK_THAT(message, ContainsSubstring(r.says) && !ContainsSubstring("accepted"));
  }
}

TEST_CASE("imatrix: what llama.cpp calls a weight", "[calibrate]") {
  struct row {
    const char *ours, *theirs;
    std::int64_t expert;
  };
  for (const row& r :
       {row{"model.layers.3.block_sparse_moe.experts.17.w1.weight", "blk.3.ffn_gate_exps.weight", 17},
        {"model.layers.3.block_sparse_moe.experts.17.w2.weight", "blk.3.ffn_down_exps.weight", 17},
        {"model.layers.3.block_sparse_moe.experts.0.w3.weight", "blk.3.ffn_up_exps.weight", 0},
        {"model.layers.61.mlp.experts.5.down_proj.weight", "blk.61.ffn_down_exps.weight", 5},
        {"model.layers.0.mlp.experts.gate_up_proj", "blk.0.ffn_gate_exps.weight", 0},
        {"model.layers.0.mlp.experts.down_proj", "blk.0.ffn_down_exps.weight", 0},
        {"model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight", 0},
        {"model.layers.0.mlp.shared_experts.up_proj.weight", "blk.0.ffn_up_shexp.weight", 0},
        {"model.layers.0.mlp.shared_expert.down_proj.weight", "blk.0.ffn_down_shexp.weight", 0},
        {"model.layers.1.block_sparse_moe.shared_experts.up_proj.weight", "blk.1.ffn_up_shexp.weight", 0},
        {"model.layers.4.experts.down_proj", "blk.4.ffn_down_exps.weight", 0},
        {"model.layers.4.mlp.experts.99999999999.up_proj.weight", "", 0},
        {"model.layers.9.self_attn.q_proj.weight", "blk.9.attn_q.weight", 0},
        {"model.layers.9.self_attn.o_proj.weight", "blk.9.attn_output.weight", 0},
        {"model.layers.9.self_attn.kv_a_proj_with_mqa.weight", "blk.9.attn_kv_a_mqa.weight", 0},
        {"model.layers.9.mlp.gate.weight", "", 0},
        {"model.layers.9.mlp.experts.x.up_proj.weight", "", 0},
        {"model.layers.x.mlp.up_proj.weight", "", 0},
        {"model.layers.9", "", 0},
        {"lm_head.weight", "", 0},
        {"", "", 0}}) {
    CAPTURE(r.ours);
    const imatrix_place place = imatrix_place_of(r.ours);
    CHECK(place.entry == r.theirs);
    if (!place.entry.empty()) CHECK(place.expert == r.expert);
  }
}

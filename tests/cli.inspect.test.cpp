// tests/cli.inspect.test.cpp -- mxfp4 inspect of a directory, and of one tensor.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint.support.hpp"
#include "mxfp4/io/gguf_file.hpp"

namespace {

using namespace mxfp4::io;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using strings = std::vector<std::string>;

outcome inspect(strings rest) {
  rest.insert(rest.begin(), "inspect");
  return mxfp4_run(rest);
}

json report(strings rest) {
  rest.insert(rest.begin(), "inspect");
  return mxfp4_json(rest);
}

/// Two rows of one block each: scales 2 and 2^-3; a NaN block would be 255.
std::string two_blocks(const scratch_folder& folder, char second_scale = 124) {
  // Low nibble first: 6 -6 1 1 1 ... and then 0.5 0.5 ...
  const std::string codes = "\xF7" + std::string(15, '\x22') + std::string(16, '\x11');
  const std::string scales = {char(128), second_scale};
  const std::string header = R"({"a.w_packed":{"dtype":"U8","shape":[2,16],"data_offsets":[0,32]},)"
                             R"("a.w_scale":{"dtype":"U8","shape":[2,1],"data_offsets":[32,34]},)"
                             R"("b":{"dtype":"F32","shape":[4],"data_offsets":[34,50]},)"
                             R"("n":{"dtype":"I64","shape":[1],"data_offsets":[50,58]}})";
  const std::vector<float> b = {3.0f, -4.0f, 0.0f, INFINITY};
  return write_text(folder / "x.safetensors",
                    safetensors_text(header, codes + scales + bytes_of(b) + std::string(8, '1')));
}

}  // namespace

TEST_CASE("inspect: one MXFP4 tensor, by hand", "[cli][inspect]") {
  const scratch_folder folder;
  const std::string file = two_blocks(folder);
  const json t = report({file, "a.w"})["tensor"];
  CHECK(t["dtype"] == "MXFP4");
  CHECK(t["shape"] == json{2, 32});
  CHECK(t["bytes"] == 34);
  CHECK(t["elements"] == 64);
  CHECK(t["largest"] == 12.0);
  CHECK(t["zeros"] == 0);
  CHECK(t["nonfinite"] == 0);
  CHECK(t["mean"] == (30 * 2.0 + 32 * 0.0625) / 64);
  CHECK(std::abs(t["rms"].get<double>() - std::sqrt((2 * 144.0 + 30 * 4.0 + 32 * 0.0625 * 0.0625) / 64)) < 1e-15);
  CHECK(t["codes"] == json{0, 32, 30, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1});
  CHECK(t["scales"] == json{{"124", 1}, {"128", 1}});
  CHECK(report({file, "a.w_packed"})["tensor"] == t);  // the part's name will do

  const std::string text = inspect({file, "a.w"}).out;
  CHECK_THAT(text, ContainsSubstring("a.w: MXFP4 [2, 32], 34 B\n64 weights, largest magnitude 12, mean 0.9688, "));
  CHECK_THAT(text, ContainsSubstring("\n-6        1   1.56 %  ##\n"));
  CHECK_THAT(text, ContainsSubstring("\n+0.5     32  50.00 %  " + std::string(50, '#') + "\n"));
  CHECK_THAT(text, ContainsSubstring("\n+6        1   1.56 %  ##\n"));
  CHECK_THAT(text, ContainsSubstring("\n124: 2^-3      1  50.00 %  " + std::string(50, '#') + "\n"));
  CHECK_THAT(text, ContainsSubstring("\n126: 2^-1      0   0.00 %\n"));
  CHECK_THAT(text, ContainsSubstring("\n128: 2^1       1  50.00 %"));

  const json nan = report({two_blocks(folder, '\xFF'), "a.w"})["tensor"];
  CHECK(nan["nonfinite"] == 32);
  CHECK(nan["scales"]["255"] == 1);
}

TEST_CASE("inspect: one tensor of another type", "[cli][inspect]") {
  const scratch_folder folder;
  const std::string file = two_blocks(folder);
  const json b = report({file, "b"})["tensor"];
  CHECK(b["dtype"] == "F32");
  CHECK(b["largest"] == 4.0);
  CHECK(b["nonfinite"] == 1);
  CHECK(b["zeros"] == 1);
  CHECK(std::abs(b["mean"].get<double>() + 1.0 / 3) < 1e-15);
  CHECK(std::abs(b["rms"].get<double>() - std::sqrt(25.0 / 3)) < 1e-15);
  CHECK_FALSE(b.contains("codes"));
  CHECK(inspect({file, "b"}).out.find('#') == std::string::npos);

  const outcome integers = inspect({file, "n"});
  CHECK(integers.code == 1);
  CHECK_THAT(integers.err, ContainsSubstring("tensor 'n': is I64, expected MXFP4, F32, F16, BF16 or F8_E4M3"));
  const outcome none = inspect({file, "c"});
  CHECK(none.code == 1);
  CHECK(none.out == "");
  CHECK_THAT(none.err, ContainsSubstring("has no tensor 'c', expected one of those that inspect lists"));
}

TEST_CASE("inspect: a directory by kind; FP8 and its block scales are one tensor", "[cli][inspect]") {
  const scratch_folder folder;
  const std::string dir = folder / "m";
  REQUIRE(run({MXFP4_GENERATE, "--checkpoint", dir}).code == 0);
  const json r = report({dir});
  CHECK(r["shards"].size() == 3);
  CHECK(r["ignored_files"] == json{"leftover.safetensors"});
  CHECK(r["tensors"].size() == 35);
  CHECK(r["kinds"]["F8_E4M3"] == json{{"tensors", 20}, {"elements", 786432}, {"bytes", 786432 + 192}});
  CHECK(r["kinds"]["BF16"]["tensors"] == 11);
  CHECK(r["kinds"]["F32"]["tensors"] == 4);
  CHECK(r["tensor_bytes"] == 1319120);
  const std::string text = inspect({dir}).out;
  CHECK_THAT(text, ContainsSubstring("\nF8_E4M3       20    786432  786.62 kB   8.00\n"));
  CHECK_THAT(text, ContainsSubstring("\n1 file ignored: see mxfp4 verify\n"));
  CHECK_THAT(text, ContainsSubstring(dir + ": 3 shards, 1.32 MB, "));

  // The widened values: about N(0, 0.02).
  const json w = report({dir, "model.layers.0.self_attn.q_proj.weight"})["tensor"];
  CHECK(w["elements"] == 256 * 256);
  CHECK(w["rms"].get<double>() > 0.01);
  CHECK(w["rms"].get<double>() < 0.03);
  CHECK(std::abs(w["mean"].get<double>()) < 0.001);
}

TEST_CASE("inspect: a part of a split GGUF says so", "[cli][inspect]") {
  struct row {
    std::vector<gguf_pair> pairs;
    const char* text;  // behind the path
    int part, parts;   // 0: nothing of them
  };
  const gguf_pair count{"split.count", gguf_type::u32, std::uint64_t{3}},
      toy{"general.architecture", gguf_type::string, "toy"};
  const row rows[] = {
      {{toy, count}, ": GGUF, part 1 of 3 of a model, of which this is not the whole, architecture toy, 17 B", 1, 3},
      {{count, {"split.no", gguf_type::u32, std::uint64_t{2}}},
       ": GGUF, part 3 of 3 of a model, of which this is not the whole, 17 B",
       3,
       3},
      {{toy, {"split.count", gguf_type::u32, std::uint64_t{1}}}, ": GGUF, architecture toy, 17 B", 0, 0},
      {{}, ": GGUF, no architecture, 17 B", 0, 0},
  };
  for (const auto& [pairs, text, part, parts] : rows) {
    CAPTURE(text);
    const scratch_folder folder;
    gguf_header header;
    header.pairs = pairs;
    header.tensors = {{"a.weight", ggml_type::mxfp4, {1, 32}, 0, 0}};
    gguf_writer out = gguf_writer::create(folder / "x.gguf", header).value();
    const std::string block(17, '\0');
    out.append("a.weight", std::as_bytes(std::span(block))).value();
    out.commit().value();
    CHECK_THAT(inspect({folder / "x.gguf"}).out, ContainsSubstring((folder / "x.gguf") + text));
    const json r = report({folder / "x.gguf"});
    CHECK(r.contains("split") == (parts > 0));
    if (parts > 0) CHECK(r["split"] == json{{"part", part}, {"parts", parts}});
  }
}

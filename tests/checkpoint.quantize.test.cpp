// tests/checkpoint.quantize.test.cpp -- mxfp4 quantize DIR OUT: every kind of tensor, the files, the report.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <stdlib.h>  // posix_openpt, ptsname
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint.support.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "support/oracle.hpp"

namespace {

namespace fs = std::filesystem;
using namespace mxfp4;
using namespace mxfp4::test;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using strings = std::vector<std::string>;

/// bf16(w * scale of its 128 x 128 block), matrix after matrix.
std::vector<bf16> widen(const std::vector<e4m3>& w, const std::vector<float>& scales, std::size_t rows,
                        std::size_t cols) {
  const std::size_t scale_rows = (rows + 127) / 128, scale_cols = (cols + 127) / 128;
  std::vector<bf16> out;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const std::size_t matrix = i / (rows * cols), r = i / cols % rows, c = i % cols;
    out.push_back(encode_bf16(decode(w[i]) * scales[(matrix * scale_rows + r / 128) * scale_cols + c / 128]));
  }
  return out;
}

const std::string expert = "model.layers.4.mlp.experts.7.down_proj.weight";
const std::string query = "model.layers.4.self_attn.q_proj.weight";
const std::string stack = "model.layers.5.mlp.experts.gate_up_proj";
const std::string fp8_stack = "model.layers.5.mlp.experts.down_proj";

struct model {
  std::vector<e4m3> expert_fp8 = narrowed<e4m3>(some_weights(200 * 416, 1), 800);
  std::vector<float> expert_scales = {0.01f, 0.02f, 0.5f, 3.0f, 0.07f, 1e-3f, 1e-30f, 0.3f};
  std::vector<e4m3> query_fp8 = narrowed<e4m3>(some_weights(130 * 200, 2), 400);
  std::vector<float> query_scales = {0.5f, 0.25f, 0.011f, 7.0f};
  std::vector<bf16> stacked = narrowed<bf16>(some_weights(3 * 40 * 64, 3));
  std::vector<e4m3> stacked_fp8 = narrowed<e4m3>(some_weights(2 * 130 * 160, 4), 500);
  std::vector<float> stacked_scales = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f};

  /// An expert's scales lie in the other shard.
  std::string write(const std::string& folder) const {
    write_checkpoint(folder,
                     {{"model-00000-of-00009.safetensors",
                       {{{expert, dtype::f8_e4m3, {200, 416}}, bytes_of(expert_fp8)},
                        {{query, dtype::f8_e4m3, {130, 200}}, bytes_of(query_fp8)},
                        {{query + "_scale_inv", dtype::f32, {2, 2}}, bytes_of(query_scales)},
                        {{"model.layers.4.mlp.gate.weight", dtype::f32, {1, 32}}, std::string(128, 'g')},
                        {{"lm_head.weight", dtype::bf16, {4, 32}}, std::string(256, 'l')}}},
                      {"model-00007-of-00009.safetensors",
                       {{{expert + "_scale_inv", dtype::f32, {2, 4}}, bytes_of(expert_scales)},
                        {{stack, dtype::bf16, {3, 40, 64}}, bytes_of(stacked)},
                        {{fp8_stack, dtype::f8_e4m3, {2, 130, 160}}, bytes_of(stacked_fp8)},
                        {{fp8_stack + "_scale_inv", dtype::f32, {2, 2, 2}}, bytes_of(stacked_scales)},
                        {{"model.norm.weight", dtype::bf16, {32}}, std::string(64, 'n')}}}},
                     R"({"model_type":"test","vocab_size":4})");
    for (const char* name : {"README.md", "tokenizer.json", "LICENSE"}) write_text(folder + "/" + name, name);
    fs::create_directory(folder + "/docs");
    write_text(folder + "/docs/README.md", "kept");
    return folder;
  }
};

/// Runs the program and returns the events it logs.
std::vector<json> log_of(strings arguments) {
  arguments.emplace_back("--json");
  const outcome o = mxfp4_run(std::move(arguments));
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK(o.err == "");
  std::vector<json> events;
  for (std::size_t at = 0, end = 0; (end = o.out.find('\n', at)) != std::string::npos; at = end + 1)
    events.push_back(json::parse(o.out.substr(at, end - at)));
  return events;
}

void refused(const strings& arguments, const std::string& message) {
  CAPTURE(arguments);
  const outcome o = mxfp4_run(arguments);
  CHECK(o.code == 1);
  CHECK(o.out == "");
  CHECK_THAT(o.err, ContainsSubstring(message));
}

}  // namespace

TEST_CASE("checkpoint: quantize, every kind of tensor", "[checkpoint]") {
  const model m;
  const scratch_folder folder;
  const std::string in = m.write(folder / "in"), out = folder / "out";
  for (const bool keep : {false, true}) {
    CAPTURE(keep);
    fs::remove_all(out);
    const std::vector<json> log = log_of({"quantize", in, out, "--others", keep ? "fp8" : "bf16", "--threads", "3"});
    CHECK(log.front()["recipe"] == "compressed_tensors");
    CHECK(log.back()["complete"] == true);
    CHECK(log.back()["written"] == 2);
    CHECK(log.back()["quantized"] == 3);

    const safetensors_reader first = safetensors_reader::open(out + "/model-00000-of-00009.safetensors").value();
    const safetensors_reader second = safetensors_reader::open(out + "/model-00007-of-00009.safetensors").value();
    CHECK(first.header().tensors.size() == (keep ? 6 : 5));
    CHECK(second.header().tensors.size() == 5);
    CHECK(first.header().extra == metadata{{"format", "pt"}});
    const auto check = [](const safetensors_reader& file, const std::string& name, dtype type,
                          const std::vector<std::int64_t>& shape, const std::string& data) {
      CAPTURE(name);
      REQUIRE(file.find(name) != nullptr);
      CHECK(file.find(name)->type == type);
      CHECK(file.find(name)->shape == shape);
      CHECK((tensor_data(file, name) == data));
    };
    const auto [codes, scales] =
        by_library<recipe::compressed_tensors>(widen(m.expert_fp8, m.expert_scales, 200, 416), 200, 416);
    check(first, expert + "_packed", dtype::u8, {200, 208}, codes);
    check(first, expert + "_scale", dtype::u8, {200, 13}, scales);
    check(first, "model.layers.4.mlp.gate.weight", dtype::f32, {1, 32}, std::string(128, 'g'));
    check(first, "lm_head.weight", dtype::bf16, {4, 32}, std::string(256, 'l'));
    if (keep) {
      check(first, query, dtype::f8_e4m3, {130, 200}, bytes_of(m.query_fp8));
      check(first, query + "_scale", dtype::f32, {2, 2}, bytes_of(m.query_scales));
    } else {
      check(first, query, dtype::bf16, {130, 200}, bytes_of(widen(m.query_fp8, m.query_scales, 130, 200)));
    }
    const auto [stack_codes, stack_scales] = by_library<recipe::compressed_tensors>(m.stacked, 120, 64);
    check(second, stack + "_packed", dtype::u8, {3, 40, 32}, stack_codes);
    check(second, stack + "_scale", dtype::u8, {3, 40, 2}, stack_scales);
    const auto [fp8_codes, fp8_scales] =
        by_library<recipe::compressed_tensors>(widen(m.stacked_fp8, m.stacked_scales, 130, 160), 260, 160);
    check(second, fp8_stack + "_packed", dtype::u8, {2, 130, 80}, fp8_codes);
    check(second, fp8_stack + "_scale", dtype::u8, {2, 130, 5}, fp8_scales);
    check(second, "model.norm.weight", dtype::bf16, {32}, std::string(64, 'n'));

    // The index names every tensor that is there, and counts its bytes.
    const json index = json::parse(read_text(out + "/model.safetensors.index.json"));
    std::uint64_t size = 0;
    std::size_t count = 0;
    for (const safetensors_reader* file : {&first, &second})
      for (const tensor_info& t : file->header().tensors) {
        CHECK(index["weight_map"][t.name] == fs::path(file->path()).filename().string());
        size += t.bytes();
        ++count;
      }
    CHECK(index["weight_map"].size() == count);
    CHECK(index["metadata"] == json{{"total_size", size}});

    std::set<std::string> names;
    for (const auto& [name, bytes] : tree(out)) names.insert(name);
    CHECK(names == std::set<std::string>{"LICENSE", "config.json", "docs/", "docs/README.md",
                                         "model-00000-of-00009.safetensors", "model-00007-of-00009.safetensors",
                                         "model.safetensors.index.json", "mxfp4_report.json", "tokenizer.json"});
    const json config = json::parse(read_text(out + "/config.json"));
    CHECK(config["vocab_size"] == 4);
    CHECK(config["quantization_config"]["quant_method"] == "compressed-tensors");
  }
}

TEST_CASE("checkpoint: the report agrees with weights and bytes", "[checkpoint]") {
  const model m;
  const scratch_folder folder;
  const std::string in = m.write(folder / "in"), out = folder / "out";
  log_of({"quantize", in, out});
  const json report = json::parse(read_text(out + "/mxfp4_report.json"));
  REQUIRE(report["quantized"].size() == 1 + 3 + 2);  // a stack has an entry for each matrix
  REQUIRE(report["experts"].size() == 1 + 3);        // matrices of one expert are one
  const safetensors_reader first = safetensors_reader::open(out + "/model-00000-of-00009.safetensors").value();
  const safetensors_reader second = safetensors_reader::open(out + "/model-00007-of-00009.safetensors").value();

  /// Sums of one matrix from what is in the file.
  struct sums {
    double w = 0, e = 0, largest = 0;
    std::int64_t saturated = 0, zeroed = 0;
    std::map<std::string, std::int64_t> histogram;

    void operator+=(const sums& other) { w += other.w, e += other.e, saturated += other.saturated; }
  };
  const auto sum_of = [](const safetensors_reader& file, const std::string& name, const std::vector<bf16>& weights,
                         std::size_t matrix, std::size_t size) {
    const std::string codes = tensor_data(file, name + "_packed"), scales = tensor_data(file, name + "_scale");
    sums s;
    for (std::size_t i = matrix * size; i < (matrix + 1) * size; ++i) {
      const auto byte = static_cast<unsigned char>(codes[i / 2]);
      const unsigned code = i % 2 == 0 ? byte & 15u : byte >> 4u;
      const int exponent = static_cast<unsigned char>(scales[i / 32]) - 127;
      const double x = static_cast<double>(decode(weights[i]));
      const double q = weight(code, 127 + exponent);
      s.w += x * x;
      s.e += (x - q) * (x - q);
      s.largest = std::max(s.largest, std::abs(x - q));
      if (x != 0 && q == 0) ++s.zeroed;
      if (std::abs(x) > std::ldexp(6.0, exponent)) ++s.saturated;
      if (i % 32 == 0) ++s.histogram[std::to_string(static_cast<unsigned char>(scales[i / 32]))];
    }
    return s;
  };
  const auto close = [](double a, double b) { return std::abs(a - b) <= 20 * 0x1p-24 * std::abs(b); };  // measure_error
  const auto check = [&](const json& entry, const sums& s, std::size_t size) {
    CAPTURE(entry.dump());
    CHECK(entry["weights"] == size);
    CHECK(close(entry["squared_weights"], s.w));
    CHECK(close(entry["squared_error"], s.e));
    CHECK(close(entry["relative_error"], std::sqrt(s.e / s.w)));
    CHECK(entry["saturated"] == s.saturated);
    CHECK(entry["lost"] == 0);
  };
  const auto check_matrix = [&](const json& entry, const sums& s, std::size_t size) {
    check(entry, s, size);
    CHECK(entry["max_error"] == s.largest);
    CHECK(entry["zeroed"] == s.zeroed);
    CHECK(entry["scale_histogram"] == json(s.histogram));
  };
  const json& quantized = report["quantized"];
  const sums one = sum_of(first, expert, widen(m.expert_fp8, m.expert_scales, 200, 416), 0, 200 * 416);
  CHECK(one.saturated > 0);
  CHECK(quantized[0]["name"] == expert);
  CHECK(quantized[0]["bytes"] == 200 * 416 + 32);
  CHECK(quantized[0]["mxfp4_bytes"] == 200 * 416 / 32 * 17);
  CHECK_FALSE(quantized[0].contains("expert"));
  check_matrix(quantized[0], one, 200 * 416);
  sums total = one;
  std::vector<sums> by_expert(3);
  const std::vector<bf16> wide = widen(m.stacked_fp8, m.stacked_scales, 130, 160);
  for (const json& entry : quantized) {
    if (!entry.contains("expert")) continue;
    const std::size_t matrix = entry["expert"];
    const bool is_fp8 = entry["name"] == fp8_stack;
    const sums s =
        is_fp8 ? sum_of(second, fp8_stack, wide, matrix, 130 * 160) : sum_of(second, stack, m.stacked, matrix, 40 * 64);
    check_matrix(entry, s, is_fp8 ? 130 * 160 : 40 * 64);
    CHECK(entry["bytes"] == (is_fp8 ? 130 * 160 + 16 : 2 * 40 * 64));
    by_expert[matrix] += s;
    total += s;
  }
  CHECK(report["experts"][0]["module"] == "model.layers.4.mlp.experts");
  CHECK(report["experts"][0]["layer"] == 4);
  CHECK(report["experts"][0]["expert"] == 7);
  check(report["experts"][0], one, 200 * 416);
  for (std::size_t e = 0; e < 3; ++e) {
    const json& entry = report["experts"][1 + e];
    CHECK(entry["layer"] == 5);
    CHECK(entry["expert"] == e);
    check(entry, by_expert[e], e < 2 ? 40 * 64 + 130 * 160 : 40 * 64);
  }
  check(report["total"], total, 200 * 416 + 3 * 40 * 64 + 2 * 130 * 160);
  CHECK(report["total"]["tensors"] == 3);
  CHECK(report["settings"]["recipe"] == "compressed_tensors");
  std::map<std::string, std::string> actions;
  for (const json& c : report["copied"]) actions[c["name"]] = c["action"];
  CHECK(actions == std::map<std::string, std::string>{{query, "widen_fp8"},
                                                      {"model.layers.4.mlp.gate.weight", "copy"},
                                                      {"lm_head.weight", "copy"},
                                                      {"model.norm.weight", "copy"}});
}

TEST_CASE("checkpoint: the same bytes for any number of threads, and twice is once", "[checkpoint]") {
  const model m;
  const scratch_folder folder;
  const std::string in = m.write(folder / "in");
  log_of({"quantize", in, folder / "one", "--threads", "1"});
  log_of({"quantize", in, folder / "five", "--threads", "5"});
  const auto one = tree(folder / "one");
  CHECK(differences(one, tree(folder / "five")) == strings{});
  const std::vector<json> again = log_of({"quantize", in, folder / "one"});
  CHECK(again.back()["kept"] == 2);
  CHECK(again.back()["written"] == 0);
  CHECK(differences(one, tree(folder / "one")) == strings{});
}

TEST_CASE("checkpoint: progress on a terminal, and only there", "[checkpoint]") {
  const model m;
  const scratch_folder folder;
  const std::string in = m.write(folder / "in"), out = folder / "out";
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) SKIP("no pseudo-terminal here");
  const int side = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  REQUIRE(side >= 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
    dup2(side, STDERR_FILENO);
    execl(MXFP4_PROGRAM, "mxfp4", "quantize", in.c_str(), out.c_str(), nullptr);
    _exit(127);
  }
  close(side);
  std::string shown;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(terminal, buffer, sizeof buffer)) > 0;)
    shown.append(buffer, static_cast<std::size_t>(n));
  close(terminal);
  int state = 0;
  REQUIRE(waitpid(child, &state, 0) == child);
  CHECK(WEXITSTATUS(state) == 0);
  CHECK_THAT(shown, ContainsSubstring(" % ") && ContainsSubstring(" of ") && ContainsSubstring("B/s  ") &&
                        ContainsSubstring(" left") && ContainsSubstring("relative error 0."));
  CHECK(shown.ends_with("\r\x1b[K"));  // nothing stays
}

TEST_CASE("checkpoint: a single file is cut into shards", "[checkpoint]") {
  const scratch_folder folder;
  const std::string in = folder / "in";
  fs::create_directory(in);
  std::vector<tensor> tensors;
  for (int e = 0; e < 5; ++e)
    tensors.push_back({{"layers.0.experts." + std::to_string(e) + ".w1.weight", dtype::bf16, {32, 64}},
                       bytes_of(narrowed<bf16>(some_weights(2048, static_cast<std::uint32_t>(e))))});
  tensors.push_back({{"large", dtype::u8, {5000}}, std::string(5000, 'l')});
  write_shard(in + "/model.safetensors", tensors);
  write_text(in + "/config.json", "{}");
  log_of({"quantize", in, folder / "whole"});
  const safetensors_reader whole = safetensors_reader::open(folder / "whole/model.safetensors").value();
  CHECK(whole.header().tensors.size() == 11);

  log_of({"quantize", in, folder / "cut", "--max-shard-size", "2500"});  // 1088 bytes a matrix: two fit
  const json map = json::parse(read_text(folder / "cut/model.safetensors.index.json"))["weight_map"];
  CHECK(map.size() == 11);
  std::map<std::string, int> counts;
  for (const auto& [name, file] : map.items()) {
    ++counts[file];
    const safetensors_reader part = safetensors_reader::open(folder / "cut/" + file.get<std::string>()).value();
    CHECK((tensor_data(part, name) == tensor_data(whole, name)));
  }
  CHECK(counts == std::map<std::string, int>{{"model-00001-of-00004.safetensors", 4},
                                             {"model-00002-of-00004.safetensors", 4},
                                             {"model-00003-of-00004.safetensors", 2},
                                             {"model-00004-of-00004.safetensors", 1}});
}

TEST_CASE("checkpoint: weights that are not finite", "[checkpoint]") {
  const scratch_folder folder;
  std::vector<float> w = some_weights(2 * 3 * 32);
  w[32 * 4 + 5] = INFINITY;
  const std::string in = write_checkpoint(
      folder / "in", {{"a.safetensors", {{{"experts.down_proj", dtype::f32, {2, 3, 32}}, bytes_of(w)}}}});
  refused({"quantize", in, folder / "out"},
          "a.safetensors: tensor 'experts.down_proj': weight [1, 1, 5] is NaN or infinite, expected finite weights");
  CHECK_FALSE(fs::exists(folder / "out/a.safetensors"));
  const std::vector<json> log = log_of({"quantize", in, folder / "fresh", "--nonfinite", "encode"});
  CHECK(log.back()["nonfinite"] == 1);
  refused({"quantize", in, folder / "out", "--nonfinite", "encode"}, "settings/nonfinite was \"refuse\" and is now");
}

TEST_CASE("checkpoint: places that are refused, and nothing is touched", "[checkpoint]") {
  const model m;
  const scratch_folder folder;
  const std::string in = m.write(folder / "in");
  const auto before = tree(in);
  refused({"quantize", in, in}, "is the input");
  refused({"quantize", in, in + "/out"}, "is inside the input");
  refused({"quantize", in, in + "/../in/docs/x"}, "is inside the input");
  {  // relative to the input: names that do not exist yet, and `..` behind one
    const fs::path here = fs::current_path();
    fs::current_path(in);
    for (const char* const out : {"out", "a/b", "./out", "o/..", "out/../.", "docs/../out"}) {
      CAPTURE(out);
      for (const strings& command :
           {strings{"quantize", ".", out}, strings{"quantize", in, out}, strings{"quantize", ".", out, "--overwrite"}})
        refused(command, "the input");
    }
    fs::current_path(here);
  }
  CHECK(differences(before, tree(in)) == strings{});
  fs::create_directory_symlink(in, folder / "link");
  refused({"quantize", in, folder / "link/out"}, "is inside the input");
  refused({"quantize", folder / "link", in + "/out"}, "is inside the input");
  fs::create_directory(folder / "foreign");
  write_text(folder / "foreign/mine.txt", "x");
  refused({"quantize", in, folder / "foreign"}, "holds 'mine.txt', which is not of a run of mxfp4 quantize");
  refused({"quantize", in, folder / "foreign", "--overwrite"}, "holds 'mine.txt'");
  CHECK(read_text(folder / "foreign/mine.txt") == "x");
  refused({"quantize", in, in + "/LICENSE"}, "LICENSE: is inside the input");
  write_text(folder / "file", "x");
  refused({"quantize", in, folder / "file"}, "file: is not a directory");
  CHECK(differences(before, tree(in)) == strings{});
  refused({"merge", folder / "foreign"}, "holds neither a begun nor a complete result");
  fs::remove(in + "/config.json");
  refused({"quantize", in, folder / "out"}, "has no config.json, expected one");
  CHECK_FALSE(fs::exists(folder / "out"));
}

TEST_CASE("checkpoint: usage", "[checkpoint]") {
  const model m;
  const scratch_folder folder;
  const std::string in = m.write(folder / "in"), out = folder / "out";
  struct row {
    strings options;
    const char* message;
  };
  const row rows[] = {
      {{"--rank", "0"}, "--rank: needs --world too"},
      {{"--world", "2"}, "--world: needs --rank too"},
      {{"--rank", "2", "--world", "2"}, "is '2', expected auto or a number from 0 to 1"},
      {{"--rank", "-1", "--world", "2"}, "is '-1', expected auto"},
      {{"--rank", "1x", "--world", "2"}, "is '1x', expected auto"},
      {{"--rank", "1", "--world", "0"}, "--world"},
      {{"--rank", "1", "--world", "2", "--overwrite"}, "--overwrite: is for one process"},
      {{"--others", "fp4"}, "fp4 not in {bf16,fp8}"},
      {{"--max-shard-size", "large"}, "--max-shard-size"},
      {{"--threads", "-1"}, "--threads"},
  };
  for (const auto& [options, message] : rows) {
    CAPTURE(options);
    strings line = {"quantize", in, out};
    line.insert(line.end(), options.begin(), options.end());
    const outcome o = mxfp4_run(line);
    CHECK(o.code == 2);
    CHECK_THAT(o.err, ContainsSubstring(message));
  }
  CHECK_FALSE(fs::exists(out));
  const outcome file = mxfp4_run({"quantize", in + "/model-00000-of-00009.safetensors", out, "--others", "fp8"});
  CHECK(file.code == 2);
  CHECK_THAT(file.err, ContainsSubstring("--others: is for a directory, and IN is a file"));
}

TEST_CASE("checkpoint: too little space is noticed before the first byte", "[checkpoint]") {
  const scratch_folder folder;
  const std::string in = write_checkpoint(
      folder / "in", {{"a.safetensors", {{{"experts.down_proj", dtype::f32, {1, 1, 32}}, std::string(128, '\0')}}}});
  const std::uint64_t there = fs::space(folder / "in").available, large = there + (std::uint64_t{1} << 30);
  safetensors_header header;
  header.tensors = {{"experts.down_proj", dtype::f32, {1, 1, 32}, 0, 128},
                    {"hole", dtype::u8, {static_cast<std::int64_t>(large)}, 128, 128 + large}};
  const std::string text = format_header(header);
  write_text(in + "/a.safetensors", text);
  std::error_code error;
  fs::resize_file(in + "/a.safetensors", text.size() + 128 + large, error);
  if (error) SKIP("no sparse file of " << large << " bytes: " << error.message());
  write_text(in + "/model.safetensors.index.json",
             R"({"weight_map":{"experts.down_proj":"a.safetensors","hole":"a.safetensors"}})");
  refused({"quantize", in, folder / "out"}, "bytes free, the result needs");
  CHECK_FALSE(fs::exists(folder / "out/config.json"));
}

TEST_CASE("checkpoint: memory does not grow with shards, tensors or the checkpoint", "[checkpoint][memory]") {
#if defined(__SANITIZE_ADDRESS__)
  SKIP("the sanitizer's own memory is beyond the limit");
#endif
  if (read_text(MXFP4_PROGRAM).starts_with("#!")) SKIP("the emulator's own memory is beyond the limit");
  constexpr std::uint64_t limit = std::uint64_t{40} << 20;
  constexpr std::int64_t part = std::int64_t{44} << 20;  // bytes of a tensor; more than the limit
  const scratch_folder folder;
  const std::vector<tensor_info> tensors = {{"layers.0.experts.gate_up_proj", dtype::bf16, {11, 1024, 2048}},
                                            {"layers.0.experts.0.w1.weight", dtype::f32, {5632, 2048}},
                                            {"embed_tokens.weight", dtype::bf16, {part / 2048, 1024}},
                                            {"lm_head.weight", dtype::f8_e4m3, {part / 4096, 4096}}};
  for (const bool single : {true, false}) {
    CAPTURE(single);
    const std::string in = folder / (single ? "single" : "sharded"), out = in + "-out";
    fs::create_directory(in);
    write_text(in + "/config.json", "{}");
    std::vector<tensor_info> all = tensors;
    all.push_back({"lm_head.weight_scale_inv", dtype::f32, {part / 4096 / 128, 32}});
    std::uint64_t size = 0;
    for (const tensor_info& t : all) size += tensor_bytes(t.type, t.shape).value();
    REQUIRE(size >= 4 * limit);
    if (single) {
      write_sparse(in + "/model.safetensors", all);
    } else {
      json index;
      for (std::size_t i = 0; i < all.size(); ++i) {
        const std::string file = std::to_string(i) + ".safetensors";
        write_sparse(in + "/" + file, {all[i]});
        index["weight_map"][all[i].name] = file;
      }
      write_text(in + "/model.safetensors.index.json", index.dump());
    }
    const outcome o = mxfp4_run({"quantize", in, out, "--threads", "2"}, {.data_bytes = limit});
    INFO(o.err);
    CHECK(o.code == 0);
    CHECK(fs::exists(out + "/model.safetensors.index.json"));
    fs::remove_all(out);
  }
}

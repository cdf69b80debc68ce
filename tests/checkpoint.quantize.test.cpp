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
const std::string moe = "model.layers.5.mlp.experts.";
const std::string stack = moe + "down_proj";
const std::string fp8_stack = moe + "gate_up_proj";
constexpr std::size_t stacked_experts = 2, hidden = 416, inner = 160;  // the up matrix begins within a band of 128 rows

struct model {
  std::vector<e4m3> expert_fp8 = narrowed<e4m3>(some_weights(200 * 416, 1), 800);
  std::vector<float> expert_scales = {0.01f, 0.02f, 0.5f, 3.0f, 0.07f, 1e-3f, 1e-30f, 0.3f};
  std::vector<e4m3> query_fp8 = narrowed<e4m3>(some_weights(130 * 200, 2), 400);
  std::vector<float> query_scales = {0.5f, 0.25f, 0.011f, 7.0f};
  std::vector<bf16> stacked = narrowed<bf16>(some_weights(stacked_experts * hidden * inner, 3));
  std::vector<e4m3> stacked_fp8 = narrowed<e4m3>(some_weights(stacked_experts * 2 * inner * hidden, 4), 500);
  std::vector<float> stacked_scales = [] {
    std::vector<float> scales;
    for (std::size_t i = 0; i < stacked_experts * 3 * 4; ++i) scales.push_back(0.1f * static_cast<float>(i % 7 + 1));
    return scales;
  }();

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
                        {{stack, dtype::bf16, {2, 416, 160}}, bytes_of(stacked)},
                        {{fp8_stack, dtype::f8_e4m3, {2, 320, 416}}, bytes_of(stacked_fp8)},
                        {{fp8_stack + "_scale_inv", dtype::f32, {2, 3, 4}}, bytes_of(stacked_scales)},
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
    CHECK(second.header().tensors.size() == 3 * stacked_experts * 2 + 1);
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
    // Stacks are taken apart: gate rows before up rows, each matrix as if it had been by itself.
    const std::vector<bf16> wide = widen(m.stacked_fp8, m.stacked_scales, 2 * inner, hidden);
    const auto rows_of = [](const std::vector<bf16>& w, std::size_t matrix) {
      constexpr std::size_t size = inner * hidden;
      return std::vector<bf16>(w.begin() + static_cast<std::ptrdiff_t>(matrix * size),
                               w.begin() + static_cast<std::ptrdiff_t>((matrix + 1) * size));
    };
    for (std::size_t e = 0; e < stacked_experts; ++e) {
      const std::string name = moe + std::to_string(e);
      const auto [gate, gate_scales] = by_library<recipe::compressed_tensors>(rows_of(wide, 2 * e), inner, hidden);
      check(second, name + ".gate_proj.weight_packed", dtype::u8, {160, 208}, gate);
      check(second, name + ".gate_proj.weight_scale", dtype::u8, {160, 13}, gate_scales);
      const auto [up, up_scales] = by_library<recipe::compressed_tensors>(rows_of(wide, 2 * e + 1), inner, hidden);
      check(second, name + ".up_proj.weight_packed", dtype::u8, {160, 208}, up);
      check(second, name + ".up_proj.weight_scale", dtype::u8, {160, 13}, up_scales);
      const auto [down, down_scales] = by_library<recipe::compressed_tensors>(rows_of(m.stacked, e), hidden, inner);
      check(second, name + ".down_proj.weight_packed", dtype::u8, {416, 80}, down);
      check(second, name + ".down_proj.weight_scale", dtype::u8, {416, 5}, down_scales);
    }
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
  REQUIRE(report["quantized"].size() == 1 + 3 * stacked_experts);  // a stack has an entry for each matrix
  REQUIRE(report["experts"].size() == 1 + stacked_experts);        // matrices of one expert are one
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
  std::vector<sums> by_expert(stacked_experts);
  const std::vector<bf16> wide = widen(m.stacked_fp8, m.stacked_scales, 2 * inner, hidden);
  std::size_t seen = 1;
  for (std::size_t e = 0; e < stacked_experts; ++e)
    for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
      const std::string name = moe + std::to_string(e) + "." + part + ".weight";
      const auto entry =
          std::find_if(quantized.begin(), quantized.end(), [&name](const json& q) { return q["name"] == name; });
      REQUIRE(entry != quantized.end());
      ++seen;
      const bool is_fp8 = std::string(part) != "down_proj";
      // The sums are of what is in the file: one matrix, and so its own weights from the first on.
      const std::size_t matrix = is_fp8 ? 2 * e + (std::string(part) == "up_proj" ? 1 : 0) : e;
      const std::vector<bf16>& all = is_fp8 ? wide : m.stacked;
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(matrix * inner * hidden);
      const sums s =
          sum_of(second, name, {begin, begin + static_cast<std::ptrdiff_t>(inner * hidden)}, 0, inner * hidden);
      check_matrix(*entry, s, inner * hidden);
      CHECK((*entry)["shape"] == (is_fp8 ? json{inner, hidden} : json{hidden, inner}));
      CHECK((*entry)["bytes"] == (is_fp8 ? inner * hidden + 6 * 4 : 2 * inner * hidden));
      CHECK_FALSE(entry->contains("expert"));
      by_expert[e] += s;
      total += s;
    }
  CHECK(seen == quantized.size());
  CHECK(report["experts"][0]["module"] == "model.layers.4.mlp.experts");
  CHECK(report["experts"][0]["layer"] == 4);
  CHECK(report["experts"][0]["expert"] == 7);
  check(report["experts"][0], one, 200 * 416);
  for (std::size_t e = 0; e < stacked_experts; ++e) {
    const json& entry = report["experts"][1 + e];
    CHECK(entry["layer"] == 5);
    CHECK(entry["expert"] == e);
    check(entry, by_expert[e], 3 * inner * hidden);
  }
  check(report["total"], total, 200 * 416 + stacked_experts * 3 * inner * hidden);
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

namespace {

/// [experts, rows, cols] to [experts, cols, rows].
std::vector<bf16> turned(const std::vector<bf16>& w, std::size_t count, std::size_t rows, std::size_t cols) {
  std::vector<bf16> out(w.size());
  for (std::size_t e = 0; e < count; ++e)
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) out[(e * cols + c) * rows + r] = w[(e * rows + r) * cols + c];
  return out;
}

std::vector<bf16> piece(const std::vector<bf16>& w, std::size_t first, std::size_t count) {
  const auto begin = w.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

constexpr std::size_t turned_in = 1024, turned_out = 640;  // a matrix of more weights than the pipeline takes at a time

/// Experts as llama4 and gpt_oss save them: [experts, in, out].
std::string write_turned(const std::string& folder, const std::vector<bf16>& gate_up, const std::vector<bf16>& down,
                         const char* config) {
  return write_checkpoint(
      folder,
      {{"a.safetensors",
        {{{moe + "gate_up_proj", dtype::bf16, {2, 1024, 1280}}, bytes_of(turned(gate_up, 2, 1280, 1024))},
         {{"model.layers.5.mlp.router.weight", dtype::bf16, {2, 1024}}, std::string(4096, 'r')},
         {{moe + "down_proj", dtype::bf16, {2, 640, 1024}}, bytes_of(turned(down, 2, 1024, 640))}}}},
      config);
}

void verified(const std::string& out, const std::string& in) {
  const outcome o = mxfp4_run({"verify", out, "--against", in});
  INFO(o.out << o.err);
  CHECK(o.code == 0);
  CHECK_THAT(o.out, ContainsSubstring("0 errors"));
}

}  // namespace

TEST_CASE("checkpoint: a stack [experts, in, out] has its blocks along in", "[checkpoint]") {
  const std::vector<bf16> gate_up = narrowed<bf16>(some_weights(2 * 2 * turned_out * turned_in, 5)),
                          down = narrowed<bf16>(some_weights(2 * turned_in * turned_out, 6));
  const scratch_folder folder;
  const std::string in = write_turned(folder / "in", gate_up, down, R"({"model_type":"llama4_text"})");
  log_of({"quantize", in, folder / "one", "--threads", "1"});
  log_of({"quantize", in, folder / "out", "--threads", "3"});
  CHECK(differences(tree(folder / "one"), tree(folder / "out")) == strings{});
  const safetensors_reader file = safetensors_reader::open(folder / "out/model.safetensors").value();
  CHECK(file.header().tensors.size() == 13);
  for (std::size_t e = 0; e < 2; ++e) {
    const std::string name = moe + std::to_string(e);
    const auto check = [&](const char* part, const std::vector<bf16>& w, std::int64_t rows, std::int64_t cols) {
      CAPTURE(e, part);
      const auto [codes, scales] = by_library<recipe::compressed_tensors>(w, rows, cols);
      CHECK((tensor_data(file, name + part + "_packed") == codes));
      CHECK((tensor_data(file, name + part + "_scale") == scales));
    };
    constexpr std::size_t size = turned_out * turned_in;
    check(".gate_proj.weight", piece(gate_up, 2 * e * size, size), turned_out, turned_in);
    check(".up_proj.weight", piece(gate_up, (2 * e + 1) * size, size), turned_out, turned_in);
    check(".down_proj.weight", piece(down, e * size, size), turned_in, turned_out);
  }
  verified(folder / "out", in);

  // verify compares the weights, whichever way they lay.
  std::vector<bf16> other = down;
  other[turned_out * 700 + 33] = encode_bf16(7.0f);
  write_turned(folder / "other", gate_up, other, R"({"model_type":"llama4_text"})");
  const outcome o = mxfp4_run({"verify", folder / "out", "--against", folder / "other"});
  CHECK(o.code == 1);
  CHECK_THAT(o.out, ContainsSubstring("experts.0.down_proj.weight'") && ContainsSubstring("first in row 700, block 1"));
}

TEST_CASE("checkpoint: gpt2 has its layers as [in, out], its codes are [out, in]", "[checkpoint]") {
  // c_proj is square, and nothing but the family tells which way it lies.
  constexpr std::int64_t inputs = 96, outputs = 700;
  const std::vector<bf16> fc = narrowed<bf16>(some_weights(inputs * outputs, 7)),
                          proj = narrowed<bf16>(some_weights(inputs * inputs, 8));
  const auto in_out = [](const std::vector<bf16>& w, std::int64_t rows, std::int64_t cols) {
    std::vector<bf16> turned;
    for (std::int64_t c = 0; c < cols; ++c)
      for (std::int64_t r = 0; r < rows; ++r) turned.push_back(w[static_cast<std::size_t>(r * cols + c)]);
    return turned;
  };
  const std::string names[] = {"h.0.mlp.c_fc.weight", "h.0.attn.c_proj.weight"};
  const auto source = [&](const std::string& folder, const std::vector<bf16>& square) {
    return write_checkpoint(folder,
                            {{"a.safetensors",
                              {{{names[0], dtype::bf16, {inputs, outputs}}, bytes_of(in_out(fc, outputs, inputs))},
                               {{"h.0.mlp.c_fc.bias", dtype::bf16, {outputs}}, bytes_of(std::vector<bf16>(outputs))},
                               {{names[1], dtype::bf16, {inputs, inputs}}, bytes_of(in_out(square, inputs, inputs))}}}},
                            R"({"model_type":"gpt2"})");
  };
  const scratch_folder folder;
  const std::string in = source(folder / "in", proj), out = folder / "out";
  const outcome quantized = mxfp4_run({"quantize", in, out, "--linears"});
  REQUIRE(quantized.code == 0);
  CHECK_THAT(quantized.err, ContainsSubstring("starts these layers at random; vLLM 0.32"));
  const safetensors_reader file = safetensors_reader::open(out + "/model.safetensors").value();
  const auto check = [&](const std::string& name, const std::vector<bf16>& w, std::int64_t rows, std::int64_t cols) {
    CAPTURE(name);
    const auto [codes, scales] = by_library<recipe::compressed_tensors>(w, rows, cols);
    REQUIRE(file.find(name + "_packed") != nullptr);
    CHECK(file.find(name + "_packed")->shape == std::vector<std::int64_t>{rows, cols / 2});
    CHECK(file.find(name + "_scale")->shape == std::vector<std::int64_t>{rows, cols / 32});
    CHECK((tensor_data(file, name + "_packed") == codes));
    CHECK((tensor_data(file, name + "_scale") == scales));
  };
  check(names[0], fc, outputs, inputs);
  check(names[1], proj, inputs, inputs);
  verified(out, in);

  // Back to [in, out], of GGUF too; what multiplies them otherwise is refused.
  REQUIRE(mxfp4_run({"dequantize", out, folder / "back"}).code == 0);
  REQUIRE(mxfp4_run({"convert", out, folder / "out.gguf", "--to", "gguf"}).code == 0);
  REQUIRE(mxfp4_run({"dequantize", folder / "out.gguf", folder / "of_gguf"}).code == 0);
  for (const char* name : {"back", "of_gguf"}) {
    CAPTURE(name);
    const safetensors_reader wide =
        safetensors_reader::open(folder / (std::string(name) + "/model.safetensors")).value();
    REQUIRE(wide.find(names[0]) != nullptr);
    CHECK(wide.find(names[0])->shape == std::vector<std::int64_t>{inputs, outputs});
    REQUIRE(wide.find(names[1]) != nullptr);
  }
  done({"quantize", folder / "back", folder / "again", "--linears", "--recipe", "torchao_even"});
  CHECK((tensor_data(safetensors_reader::open(folder / "again/model.safetensors").value(), names[1] + "_scale") ==
         tensor_data(file, names[1] + "_scale")));
  const outcome fp8 = mxfp4_run({"convert", out, folder / "fp8", "--to", "block-fp8"});
  CHECK(fp8.code == 1);
  CHECK_THAT(fp8.err, ContainsSubstring("is a layer of gpt2, which no reader takes as FP8"));

  // One weight of the source is another; the place is that of the matrix [out, in].
  std::vector<bf16> other = proj;
  other[50 * inputs + 40] = encode_bf16(7.0f);
  const outcome o = mxfp4_run({"verify", out, "--against", source(folder / "other", other)});
  CHECK(o.code == 1);
  CHECK_THAT(o.out, ContainsSubstring("h.0.attn.c_proj.weight'") && ContainsSubstring("first in row 50, block 1"));

  // Codes of a layer as it lay, which its bias tells: verify and dequantize say so.
  const std::string lay =
      write_checkpoint(folder / "lay",
                       {{"a.safetensors",
                         {{{names[0], dtype::bf16, {64, inputs}}, bytes_of(narrowed<bf16>(some_weights(64 * inputs)))},
                          {{"h.0.mlp.c_fc.bias", dtype::bf16, {inputs}}, bytes_of(std::vector<bf16>(inputs))}}}},
                       R"({"model_type":"llama"})");
  done({"quantize", lay, folder / "along", "--include", "weight", "--force"});
  const outcome along = mxfp4_run({"verify", folder / "along"});
  CHECK(along.code == 1);
  CHECK_THAT(along.out, ContainsSubstring("is MXFP4 [64, 96] with its blocks along the outputs by its bias"));
  std::filesystem::remove(folder / "along/mxfp4_report.json");
  write_text(folder / "along/config.json", R"({"model_type":"gpt2"})");
  const outcome back = mxfp4_run({"dequantize", folder / "along", folder / "wide"});
  CHECK(back.code == 1);
  CHECK_THAT(back.err, ContainsSubstring("is MXFP4 [64, 96] with its blocks along the outputs by its bias"));
}

TEST_CASE("checkpoint: gpt_oss in its own form", "[checkpoint]") {
  const std::vector<bf16> gate_up = narrowed<bf16>(some_weights(2 * 2 * turned_out * turned_in, 5)),
                          down = narrowed<bf16>(some_weights(2 * turned_in * turned_out, 6));
  const scratch_folder folder;
  const std::string in = write_turned(folder / "in", gate_up, down, R"({"model_type":"gpt_oss"})"),
                    out = folder / "out";
  log_of({"quantize", in, out});
  const safetensors_reader file = safetensors_reader::open(out + "/model.safetensors").value();
  const auto [codes, scales] =
      by_library<recipe::compressed_tensors>(gate_up, 4 * std::int64_t{turned_out}, std::int64_t{turned_in});
  REQUIRE(file.find(moe + "gate_up_proj_blocks") != nullptr);
  CHECK(file.find(moe + "gate_up_proj_blocks")->shape == std::vector<std::int64_t>{2, 1280, 32, 16});
  CHECK((tensor_data(file, moe + "gate_up_proj_blocks") == codes));
  CHECK((tensor_data(file, moe + "gate_up_proj_scales") == scales));
  const json config = json::parse(read_text(out + "/config.json"))["quantization_config"];
  CHECK(config == json{{"quant_method", "mxfp4"}, {"modules_to_not_convert", {"model.layers.*.mlp.router"}}});
  verified(out, in);
  // One by one, its rows taking turns, they are what another program is given.
  REQUIRE(mxfp4_run({"convert", out, folder / "apart", "--to", "compressed-tensors"}).code == 0);
  const safetensors_reader apart = safetensors_reader::open(folder / "apart/model.safetensors").value();
  CHECK((tensor_data(apart, moe + "0.gate_proj.weight_packed").substr(0, 512) == codes.substr(0, 512)));
  CHECK((tensor_data(apart, moe + "0.up_proj.weight_packed").substr(0, 512) == codes.substr(512, 512)));
}

TEST_CASE("checkpoint: a place in a stack that is not finite", "[checkpoint]") {
  const scratch_folder folder;
  std::vector<float> w = some_weights(2 * 32 * 3);
  w[32 * 3 + 4 * 3 + 2] = INFINITY;
  const std::string in =
      write_checkpoint(folder / "in", {{"a.safetensors", {{{moe + "down_proj", dtype::f32, {2, 32, 3}}, bytes_of(w)}}}},
                       R"({"model_type":"test","hidden_size":3})");
  refused({"quantize", in, folder / "out"}, "experts.down_proj': weight [1, 4, 2] is NaN or infinite");
}

TEST_CASE("checkpoint: a result that nobody could load is refused before a byte is written", "[checkpoint]") {
  const model m;
  const scratch_folder folder;
  const std::string in = m.write(folder / "in"), out = folder / "out";
  write_text(in + "/hf_quant_config.json", "{}");
  fs::create_directory(in + "/metal");
  write_text(in + "/metal/model.bin", "x");
  refused({"quantize", in, out, "--include", "experts|lm_head|gate"}, "is a router, which no reader takes as MXFP4");
  refused({"quantize", in, out, "--include", "experts.gate_up"}, "the result could not be loaded: ");
  CHECK_THAT(mxfp4_run({"quantize", in, out, "--linears", "--include", "x"}).err,
             ContainsSubstring("--linears: says what to quantise"));
  CHECK_FALSE(fs::exists(out));
  log_of({"quantize", in, out, "--include", "experts.gate_up", "--force"});
  CHECK(fs::exists(out + "/LICENSE"));
  CHECK_FALSE(fs::exists(out + "/hf_quant_config.json"));
  CHECK_FALSE(fs::exists(out + "/metal"));
  refused({"quantize", out, folder / "twice", "--include", "experts"}, "is quantised already: MXFP4 of compressed-ten");
}

TEST_CASE("checkpoint: every linear layer of a dense model", "[checkpoint]") {
  const scratch_folder folder;
  const auto half = [](std::size_t n) { return bytes_of(narrowed<f16>(some_weights(n))); };
  const std::string in = write_checkpoint(
      folder / "in", {{"a.safetensors",
                       {{{"model.embed_tokens.weight", dtype::f16, {8, 64}}, half(8 * 64)},
                        {{"model.layers.0.self_attn.q_proj.weight", dtype::f16, {64, 64}}, half(64 * 64)},
                        {{"model.layers.0.mlp.up_proj.weight", dtype::f16, {32, 64}}, half(32 * 64)},
                        {{"model.norm.weight", dtype::f16, {64}}, half(64)}}}});
  refused({"quantize", in, folder / "none", "--linears", "--activations", "fp8"},
          "is multiplied with 64 activations, expected a multiple of 128 for --activations fp8");
  refused({"quantize", in, folder / "none"}, "without experts --linears takes a dense model's layers");
  const outcome o = mxfp4_run({"quantize", in, folder / "out", "--linears"});
  CHECK(o.code == 0);
  CHECK_THAT(o.err, ContainsSubstring("mxfp4: warning: the model is F16, and transformers runs its MXFP4 layers in"));
  const json config = json::parse(read_text(folder / "out/config.json"))["quantization_config"];
  CHECK(config["config_groups"]["group_0"]["targets"] == json{"Linear"});
  CHECK(config["ignore"] == json{"re:.*\\.embed_tokens$", "lm_head"});
  verified(folder / "out", in);

  // As BF16 it runs without being told so.
  write_text(in + "/config.json", R"({"torch_dtype":"float16","text_config":{"dtype":"float16"}})");
  REQUIRE(mxfp4_run({"quantize", in, folder / "kept", "--linears"}).code == 0);
  CHECK_THAT(
      mxfp4_run({"verify", folder / "kept"}).out,
      ContainsSubstring("warning: config: config.json: torch_dtype is float16, and transformers 5.24 runs MXFP4"));
  const outcome narrowed = mxfp4_run({"quantize", in, folder / "bf16", "--linears", "--dtype", "bf16"});
  CHECK(narrowed.code == 0);
  CHECK(narrowed.err == "");
  const safetensors_reader file = safetensors_reader::open(folder / "bf16/model.safetensors").value();
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight"}) {
    REQUIRE(file.find(name)->type == dtype::bf16);
    const std::size_t n = std::string(name) == "model.norm.weight" ? 64 : 8 * 64;
    std::vector<bf16> expected;
    for (const f16 x : mxfp4::test::narrowed<f16>(some_weights(n))) expected.push_back(encode_bf16(decode(x)));
    CHECK((tensor_data(file, name) == bytes_of(expected)));
  }
  const json written = json::parse(read_text(folder / "bf16/config.json"));
  CHECK(written["torch_dtype"] == "bfloat16");
  CHECK(written["text_config"]["dtype"] == "bfloat16");
  verified(folder / "bf16", in);
}

TEST_CASE("checkpoint: weights that are not finite", "[checkpoint]") {
  const scratch_folder folder;
  std::vector<float> w = some_weights(2 * 3 * 32);
  w[32 * 4 + 5] = INFINITY;
  const std::string in = write_checkpoint(
      folder / "in", {{"a.safetensors", {{{"experts.down_proj", dtype::f32, {2, 3, 32}}, bytes_of(w)}}}},
      R"({"model_type":"test","hidden_size":3})");
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
      {{"--others", "fp4"}, "is 'fp4', expected one of bf16, fp8"},
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
      folder / "in", {{"a.safetensors", {{{"experts.0.w2.weight", dtype::f32, {1, 32}}, std::string(128, '\0')}}}});
  const std::uint64_t there = fs::space(folder / "in").available, large = there + (std::uint64_t{1} << 30);
  safetensors_header header;
  header.tensors = {{"experts.0.w2.weight", dtype::f32, {1, 32}, 0, 128},
                    {"hole", dtype::u8, {static_cast<std::int64_t>(large)}, 128, 128 + large}};
  const std::string text = format_header(header);
  write_text(in + "/a.safetensors", text);
  std::error_code error;
  fs::resize_file(in + "/a.safetensors", text.size() + 128 + large, error);
  if (error) SKIP("no sparse file of " << large << " bytes: " << error.message());
  write_text(in + "/model.safetensors.index.json",
             R"({"weight_map":{"experts.0.w2.weight":"a.safetensors","hole":"a.safetensors"}})");
  refused({"quantize", in, folder / "out"}, "bytes free, the result needs");
  CHECK_FALSE(fs::exists(folder / "out/config.json"));
}

TEST_CASE("checkpoint: memory does not grow with shards, tensors or the checkpoint", "[checkpoint][memory]") {
  require_own_memory();
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
    // The stack lies either way.
    write_text(in + "/config.json",
               single ? R"({"hidden_size":2048})" : R"({"hidden_size":1024,"model_type":"llama4_text"})");
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

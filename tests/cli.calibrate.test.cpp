// tests/cli.calibrate.test.cpp -- mxfp4 quantize --calibrate: the same files but for the codes, which are better.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "family.support.hpp"
#include "model.support.hpp"
#include "program.support.hpp"

namespace {

using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using strings = std::vector<std::string>;

/// Words that repeat themselves, as in a text.
std::string some_text(std::uint64_t seed, std::size_t bytes) {
  splitmix random(seed);
  strings words;
  for (int i = 0; i < 40; ++i) {
    words.emplace_back();
    for (int n = random.in(1, 8); n > 0; --n) words.back() += static_cast<char>(random.in('a', 'z'));
  }
  std::string text;
  while (text.size() < bytes) text += words[std::size_t(random.in(0, random.in(0, 39)))] + " ";
  return text.substr(0, bytes);
}

strings names_in(const std::string& folder) {
  strings names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

json report_of(const std::string& directory) { return json::parse(read_text(directory + "/mxfp4_report.json")); }

json compare(const std::string& model, const std::string& result, const std::string& text) {
  const outcome o = mxfp4_run(
      {"compare", model, result, "--recipes", "compressed_tensors", "--text", text, "--context", "64", "--json"});
  INFO(o.err);
  REQUIRE(o.code == 0);
  return json::parse(o.out);
}

/// A run of the program that goes on beside the test.
class background {
 public:
  /// @param environment  "NAME=value", besides ours.
  explicit background(strings arguments, strings environment = {}) {
    arguments.insert(arguments.begin(), MXFP4_PROGRAM);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    child_ = fork();
    if (child_ != 0) return;
    const int nothing = open("/dev/null", O_WRONLY);
    dup2(nothing, STDOUT_FILENO);
    dup2(nothing, STDERR_FILENO);
    for (std::string& variable : environment) putenv(variable.data());
    execv(argv[0], argv.data());
    _exit(127);
  }
  ~background() { static_cast<void>(end(SIGKILL)); }
  background(const background&) = delete;
  background& operator=(const background&) = delete;

  [[nodiscard]] bool runs() {
    if (!ended_) ended_ = waitpid(child_, &state_, WNOHANG) != 0;
    return !ended_;
  }
  /// Its exit code, or 128 + the signal. @param signal  0: waits for it.
  int end(int signal = 0) {
    if (runs()) {
      if (signal != 0) kill(child_, signal);
      waitpid(child_, &state_, 0);
      ended_ = true;
    }
    return WIFEXITED(state_) ? WEXITSTATUS(state_) : 128 + WTERMSIG(state_);
  }

 private:
  pid_t child_ = -1;
  int state_ = 0;
  bool ended_ = false;
};

struct fixture {
  scratch_folder folder;
  std::string model = tiny_model(weight_kind::fp8).write(folder / "model");
  std::string text = write_text(folder / "text", some_text(1, 4096));

  [[nodiscard]] strings quantize(const std::string& out, const strings& further = {}) const {
    strings all = {"quantize", model, folder / out, "--calibrate", text, "--context", "64"};
    all.insert(all.end(), further.begin(), further.end());
    return all;
  }
};

/// A model without experts: its linear layers.
struct dense_fixture {
  scratch_folder folder;
  std::string model = recorded_family("qwen3").write(folder / "model");
  std::string ids = write_text(folder / "ids", some_ids());

  [[nodiscard]] strings quantize(const std::string& out, const strings& further = {}) const {
    strings all = {"quantize", model, folder / out, "--linears", "--calibrate-ids", ids, "--context", "32"};
    all.insert(all.end(), further.begin(), further.end());
    return all;
  }

 private:
  /// Of a vocabulary of 64.
  [[nodiscard]] static std::string some_ids() {
    splitmix random(7);
    std::string text;
    for (int i = 0; i < 1500; ++i) text += std::to_string(random.in(0, random.in(0, 63))) + " ";
    return text;
  }
};

}  // namespace

TEST_CASE("calibrate: the same files as without, and other codes, which are better", "[cli][calibrate]") {
  const fixture f;
  const std::string out = f.folder / "out", plain = f.folder / "plain";
  const outcome o = mxfp4_run(f.quantize("out"));
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK(o.err == "");
  REQUIRE(mxfp4_run({"quantize", f.model, plain}).code == 0);
  CHECK(names_in(out) == names_in(plain));
  CHECK(read_text(out + "/config.json") == read_text(plain + "/config.json"));
  CHECK(read_text(out + "/model.safetensors.index.json") == read_text(plain + "/model.safetensors.index.json"));
  const outcome checked = mxfp4_run({"verify", out, "--against", f.model});
  INFO(checked.out);
  CHECK_THAT(checked.out, !ContainsSubstring("error: source"));
  CHECK_THAT(checked.out, ContainsSubstring("of which 30 are calibrated"));

  const json report = report_of(out), settings = report["settings"]["calibration"];
  CHECK((settings["method"] == "hessian" && settings["tokens"] == 4096 && settings["context"] == 64));
  CHECK(settings["text"].get<std::string>().size() == 32);
  CHECK(!settings["isa"].get<std::string>().empty());
  std::int64_t tokens = 0;
  for (const json& matrix : report["quantized"]) {
    const json& facts = matrix["calibration"];
    CHECK((facts["objective"] > 0 && facts["objective"] < 1));
    tokens += facts["tokens"].get<std::int64_t>();
  }
  CHECK(tokens == 4096 * tiny_model::top_k * tiny_model::layers * 3);

  // A source with one other weight, and codes that are no rounding of it.
  const std::string changed = tiny_model(weight_kind::bf16).write(f.folder / "changed");
  CHECK_THAT(mxfp4_run({"verify", out, "--against", changed}).out, ContainsSubstring("calibrated from other weights"));

  const json same = compare(f.model, out, f.text);
  CHECK(same["calibrations"][0]["passages_in_this_text"] == same["calibrations"][0]["passages"]);
  const json other = compare(f.model, out, write_text(f.folder / "other", some_text(2, 2048)));
  CHECK(other["targets"][0]["kld"]["mean"].get<double>() < 0.8 * other["targets"][1]["kld"]["mean"].get<double>());
  CHECK(other["calibrations"][0]["passages_in_this_text"] == 0);
  CHECK(report["total"]["bytes_after"] == report_of(plain)["total"]["bytes_after"]);
}

TEST_CASE("calibrate: the same bytes for any number of threads and little memory, and when it is called again",
          "[cli][calibrate]") {
  const fixture f;
  REQUIRE(mxfp4_run(f.quantize("one", {"--threads", "1"})).code == 0);
  REQUIRE(mxfp4_run(f.quantize("three", {"--threads", "3", "--memory", "64MB"})).code == 0);
  CHECK(report_of(f.folder / "one")["tensor_hashes"] == report_of(f.folder / "three")["tensor_hashes"]);
  const outcome again = mxfp4_run(f.quantize("one"));
  CHECK(again.code == 0);
  CHECK_THAT(again.out, ContainsSubstring("0 written"));

  // Another text, and a source with another weight, are another run.
  write_text(f.text, some_text(3, 4096));
  const outcome other = mxfp4_run(f.quantize("one"));
  CHECK(other.code == 1);
  CHECK_THAT(other.err, ContainsSubstring("holds the result of another run: settings/calibration/text was"));
}

TEST_CASE("calibrate: an expert that no token takes has the recipe's codes, and is named", "[cli][calibrate]") {
  const scratch_folder folder;
  tiny_model m(weight_kind::f32);
  std::vector<float> bias(tiny_model::experts);
  bias[3] = -100;
  m.tensors["model.layers.1.block_sparse_moe.e_score_correction_bias"].data = bytes_of(bias);
  const std::string model = m.write(folder / "model"), text = write_text(folder / "text", some_text(1, 2048));
  const std::string out = folder / "out", plain = folder / "plain";
  const outcome o = mxfp4_run({"quantize", model, out, "--calibrate", text});
  CHECK(o.code == 0);
  CHECK_THAT(o.err, ContainsSubstring("1 expert met no token of the calibration text and has the codes of the recipe: "
                                      "layer 1, expert 3"));
  REQUIRE(mxfp4_run({"quantize", model, plain}).code == 0);
  const json a = report_of(out)["tensor_hashes"], b = report_of(plain)["tensor_hashes"];
  REQUIRE(a.size() == b.size());
  int same = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const std::string name = a[i]["name"];
    if (name.find("experts.") == std::string::npos || !name.ends_with("_packed")) continue;
    same += a[i] == b[i] ? 1 : 0;
    if (name.find("layers.1.block_sparse_moe.experts.3.") != std::string::npos) CHECK(a[i] == b[i]);
  }
  CHECK(same == 3);

  // The page says so too; that of the plain result has nothing to say.
  const std::string page = folder / "page.html";
  REQUIRE(mxfp4_run({"report", out, "--html", page}).code == 0);
  const std::string html = read_text(page), hash = report_of(out)["settings"]["calibration"]["text"];
  CHECK_THAT(html, ContainsSubstring("calibrated on 2048 tokens in windows of 512, of a text with the hash " + hash +
                                     "; the method is hessian. "));
  CHECK_THAT(html, ContainsSubstring("<tr><td>1, w1</td><td>0</td><td>"));
  CHECK_THAT(html, ContainsSubstring("<p>1 expert met no token of the text, with the codes of the recipe: layer 1, "
                                     "expert 3.</p>"));
  CHECK_THAT(html, !ContainsSubstring("<tr><td>0, w1</td><td>0</td>"));
  REQUIRE(mxfp4_run({"report", plain, "--html", page, "--overwrite"}).code == 0);
  CHECK_THAT(read_text(page), !ContainsSubstring("alibrat"));
}

TEST_CASE("calibrate: what does not fit is said before anything is written", "[cli][calibrate]") {
  const fixture f;
  struct row {
    strings arguments;
    int code;
    std::string says;
  };
  write_text(f.folder / "short", some_text(1, 1000));
  write_text(f.folder / "ids", "1 2 300");
  const dense_fixture d;
  const std::string out = f.folder / "out";
  for (const row& r : std::vector<row>{
           {{"quantize", f.model, out, "--calibrate", f.folder / "short"},
            1,
            "the calibration text has 1000 tokens, expected at least 1024"},
           {{"quantize", f.model, out, "--calibrate-ids", f.folder / "ids"}, 1, "has 3 tokens, expected at least 1024"},
           {{"quantize", f.model, out, "--calibrate", f.folder / "none"}, 1, "none"},
           {f.quantize("out", {"--calibrate-ids", f.text}), 2, "--calibrate"},
           {f.quantize("out", {"--include", "w1"}), 2, "is for all experts"},
           {f.quantize("out", {"--linears"}), 1,
            "is a minimax_m2 model, which has experts, expected a model without, whose linear layers a calibration "
            "chooses codes for: leave --linears out"},
           {d.quantize("out", {"--exclude", "q_proj"}), 2, "is for all experts, or all --linears: leave --include and"},
           {f.quantize("out", {"--imatrix", f.text}), 2, "--imatrix"},
           {f.quantize("out", {"--calibrate-method", "best"}), 2, "--calibrate-method"},
           {{"quantize", f.model, out, "--imatrix", f.text, "--tokens", "2048"}, 2, "--tokens: is for a calibration"},
           {{"quantize", f.model, out, "--imatrix", f.folder / "none"}, 1, "none"},
           {{"quantize", f.model, out, "--imatrix", f.text}, 1, "is no importance matrix"},
           {f.quantize("out", {"--memory", "1MB"}), 1, "bytes, expected at most 1000000: allow more with --memory"},
           {{"quantize", f.model, out, "--tokens", "2048"}, 2, "--tokens: is for a calibration: name a text"},
           {{"quantize", f.model, out, "--calibrate", f.text, "--context", "1000"}, 2, "expected 2 .. 512"},
           {{"quantize", f.model + "/model.safetensors", out, "--calibrate", f.text}, 2, "is for a directory"}}) {
    const outcome o = mxfp4_run(r.arguments);
    CAPTURE(o.err);
    CHECK(o.code == r.code);
    CHECK_THAT(o.err, ContainsSubstring(r.says));
    CHECK(!std::filesystem::exists(out));
  }
}

TEST_CASE("calibrate: activations that are no numbers end it with an error, and nothing looks like a result",
          "[cli][calibrate][bad_input]") {
  struct row {
    std::string tensor;
    std::size_t at;  ///< which of its floats
    std::uint32_t bits;
    std::string says;
  };
  const std::uint32_t nan = 0x7FC00000u, infinity = 0x7F800000u, largest = 0x7F7FFFFFu;
  const std::string router = ": the router's logits (row 0, column 0) is NaN, expected a number";
  const std::string sums = "cannot be calibrated: the inputs' sums are not finite: see `mxfp4 verify`, or take another";
  const std::string later = " makes NaN or infinity of token ";
  const std::string expert = "model.layers.1.block_sparse_moe.experts.2.";
  const std::string first = "model.layers.0.block_sparse_moe.experts.2.";
  for (const row& r : std::vector<row>{{"model.layers.0.input_layernorm.weight", 3, nan, "layer 0" + router},
                                       {"model.layers.1.input_layernorm.weight", 0, infinity, "layer 1" + router},
                                       {"model.layers.0.self_attn.k_norm.weight", 1, nan, "layer 0" + router},
                                       {"model.layers.0.self_attn.o_proj.weight", 5, infinity, "layer 0" + router},
                                       {"model.layers.0.post_attention_layernorm.weight", 159, nan, "layer 0" + router},
                                       {"model.layers.1.post_attention_layernorm.weight", 7, infinity, sums},
                                       {"model.layers.1.post_attention_layernorm.weight", 7, largest, sums},
                                       {"model.layers.0.block_sparse_moe.gate.weight", 5, nan, "layer 0" + router},
                                       {expert + "w1.weight", 5, nan, expert + "w1: w has a NaN or an infinity"},
                                       {expert + "w2.weight", 5, infinity, expert + "w2: w has a NaN or an infinity"},
                                       {expert + "w2.weight", 5, largest, "layer 1" + later},
                                       {expert + "w3.weight", 5, largest, "layer 1" + later},
                                       {first + "w2.weight", 5, largest, "layer 0" + later}}) {
    CAPTURE(r.tensor, r.bits);
    const scratch_folder folder;
    tiny_model m(weight_kind::f32);
    std::memcpy(m.tensors.at(r.tensor).data.data() + r.at * 4, &r.bits, 4);
    const std::string model = m.write(folder / "model"), text = write_text(folder / "text", some_text(1, 2048));
    const std::string out = folder / "out";
    for (int times = 0; times < 2; ++times) {  // and again, where it left off
      const outcome o = mxfp4_run({"quantize", model, out, "--calibrate", text, "--context", "64"});
      CAPTURE(o.err);
      CHECK(o.code == 1);
      CHECK(o.out == "");
      CHECK_THAT(o.err, ContainsSubstring(r.says));
      CHECK(!std::filesystem::exists(out + "/mxfp4_report.json"));
      CHECK(!std::filesystem::exists(out + "/model.safetensors"));
    }
  }
}

namespace {

/// A run is killed as soon as the next of these files of its journal is there, and called again after the last.
/// @param names  in the order of the work.
template <class Fixture>
void check_resumed(const Fixture& f, std::initializer_list<const char*> names) {
  REQUIRE(mxfp4_run(f.quantize("whole")).code == 0);
  const json expected = report_of(f.folder / "whole");
  const std::string out = f.folder / "out", journal = out + "/.mxfp4/";
  for (const char* const name : names) {
    background run(f.quantize("out"));
    while (run.runs() && !std::filesystem::exists(journal + name)) usleep(200);
    static_cast<void>(run.end(SIGKILL));
  }
  const outcome last = mxfp4_run(f.quantize("out"));
  INFO(last.err);
  REQUIRE(last.code == 0);
  CHECK(report_of(out) == expected);
  CHECK(!std::filesystem::exists(journal));
}

}  // namespace

TEST_CASE("calibrate: killed wherever it is, it goes on with the same bytes", "[cli][calibrate]") {
  check_resumed(fixture(),
                {"manifest.json", "calibrated-00000-0of1.safetensors.json", "calibrated-00000-0of1.safetensors",
                 "calibrated-state-00000.safetensors", "calibrated-00001-0of1.safetensors", "model.safetensors.json"});
}

TEST_CASE("calibrate: linear layers, killed wherever it is, it goes on with the same bytes", "[cli][calibrate]") {
  check_resumed(dense_fixture(),
                {"manifest.json", "calibrated-00000-0of1.safetensors", "calibrated-state-00000.safetensors",
                 "calibrated-00001-0of1.safetensors", "calibrated-state-00002.safetensors", "model.safetensors.json"});
}

TEST_CASE("calibrate: linear layers, the same bytes for any number of threads and processes, and least memory",
          "[cli][calibrate]") {
  const dense_fixture f;
  const std::string out = f.folder / "out";
  const auto hashes = [&f](const std::string& name) { return report_of(f.folder / name)["tensor_hashes"]; };
  REQUIRE(mxfp4_run(f.quantize("one", {"--threads", "1"})).code == 0);
  const outcome little = mxfp4_run(f.quantize("little", {"--threads", "3", "--memory", "1kB"}));
  CHECK(little.code == 1);
  CHECK(!std::filesystem::exists(f.folder / "little"));
  const std::size_t at = little.err.find("needs ");
  CAPTURE(little.err);
  REQUIRE(at != std::string::npos);
  const std::string least = little.err.substr(at + 6, little.err.find(' ', at + 6) - at - 6);
  REQUIRE(mxfp4_run(f.quantize("three", {"--threads", "3", "--memory", least})).code == 0);
  CHECK(hashes("one") == hashes("three"));

  background second(f.quantize("out", {"--rank", "1", "--world", "2"}));
  while (second.runs() && !std::filesystem::exists(out + "/.mxfp4/manifest.json")) usleep(200);
  const outcome first = mxfp4_run(f.quantize("out", {"--rank", "0", "--world", "2"}));
  INFO(first.err);
  REQUIRE(first.code == 0);  // else the second one waits for ever
  CHECK(second.end() == 0);
  REQUIRE(mxfp4_run({"merge", out}).code == 0);
  CHECK(hashes("one") == hashes("out"));
}

TEST_CASE("calibrate: linear layers whose inputs or weights are no numbers end it with an error",
          "[cli][calibrate][bad_input]") {
  struct row {
    std::string tensor;
    std::string says;
  };
  const std::string sums = "cannot be calibrated: the inputs' sums are not finite: see `mxfp4 verify`, or take another";
  const std::string first = "model.layers.0.", later = "model.layers.1.";
  for (const row& r : std::vector<row>{{first + "input_layernorm.weight", first + "self_attn': " + sums},
                                       {later + "self_attn.k_norm.weight", later + "self_attn': " + sums},
                                       {later + "self_attn.q_proj.weight", "q_proj: w has a NaN or an infinity"},
                                       {first + "self_attn.o_proj.weight", "o_proj: w has a NaN or an infinity"},
                                       {first + "post_attention_layernorm.weight", first + "mlp': " + sums},
                                       {later + "mlp.down_proj.weight", "down_proj: w has a NaN or an infinity"}}) {
    CAPTURE(r.tensor);
    const dense_fixture f;
    const recorded_family family("qwen3");
    auto tensors = family.tensors();
    std::memset(tensors.at(r.tensor).data.data() + 6, 0xFF, 2);  // the fourth BF16: a NaN
    std::filesystem::remove_all(f.model);
    write_checkpoint(f.model, tensors, family.config);
    const std::string out = f.folder / "out";
    for (int times = 0; times < 2; ++times) {
      const outcome o = mxfp4_run(f.quantize("out"));
      CAPTURE(o.err);
      CHECK(o.code == 1);
      CHECK(o.out == "");
      CHECK_THAT(o.err, ContainsSubstring(r.says));
      CHECK(!std::filesystem::exists(out + "/mxfp4_report.json"));
      CHECK(!std::filesystem::exists(out + "/model.safetensors"));
    }
  }
}

TEST_CASE("calibrate: what is kept of a former run is compared with its hashes", "[cli][calibrate]") {
  const fixture f;
  const std::string out = f.folder / "out", journal = out + "/.mxfp4/";
  {
    background run(f.quantize("out"));
    while (run.runs() && !std::filesystem::exists(journal + "calibrated-state-00000.safetensors")) usleep(200);
    static_cast<void>(run.end(SIGKILL));
  }
  if (!std::filesystem::exists(journal)) return;  // it was faster
  const std::string state = journal + "calibrated-state-00000.safetensors";
  std::string bytes = read_text(state);
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 1);
  write_text(state, bytes);
  const outcome o = mxfp4_run(f.quantize("out"));
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("calibrated-state-00000.safetensors"));
}

TEST_CASE("calibrate: two processes share the experts and make the same bytes", "[cli][calibrate]") {
  const fixture f;
  REQUIRE(mxfp4_run(f.quantize("whole")).code == 0);
  const std::string out = f.folder / "out";
  background first(f.quantize("out", {"--rank", "0", "--world", "2"}));
  while (first.runs() && !std::filesystem::exists(out + "/.mxfp4/manifest.json")) usleep(200);
  const outcome second = mxfp4_run(f.quantize("out", {"--rank", "1", "--world", "2"}));
  INFO(second.err);
  REQUIRE(second.code == 0);  // else the first one waits for ever
  CHECK(first.end() == 0);
  REQUIRE(mxfp4_run({"merge", out}).code == 0);
  CHECK(report_of(out) == report_of(f.folder / "whole"));
}

TEST_CASE("calibrate: a run of another instruction set is not gone on with, unless that set is asked for",
          "[cli][calibrate]") {
  // The last two sets of "ISA      avx2, of avx2 sse2".
  const std::string version = mxfp4_run({"--version"}).out, of = ", of ";
  const std::size_t at = version.find(of);
  if (at == std::string::npos) SKIP("built without dispatch: there is one instruction set");
  std::istringstream line(version.substr(at + of.size(), version.find('\n', at) - at - of.size()));
  const strings isas(std::istream_iterator<std::string>(line), {});
  if (isas.size() < 2) SKIP("this CPU and this build have one instruction set");
  const std::string first = isas[isas.size() - 1], other = isas[isas.size() - 2];

  const fixture f;
  const std::string out = f.folder / "out", journal = out + "/.mxfp4/";
  REQUIRE(mxfp4_run(f.quantize("whole"), {}, {"MXFP4_ISA=" + first}).code == 0);
  const json expected = report_of(f.folder / "whole");
  CHECK(expected["settings"]["calibration"]["isa"] == first);
  {
    background run(f.quantize("out"), {"MXFP4_ISA=" + first});
    while (run.runs() && !std::filesystem::exists(journal + "calibrated-00000-0of1.safetensors")) usleep(200);
    static_cast<void>(run.end(SIGKILL));
  }
  const bool unfinished = std::filesystem::exists(journal);
  const outcome refused = mxfp4_run(f.quantize("out"), {}, {"MXFP4_ISA=" + other});
  CAPTURE(refused.err);
  CHECK(refused.code == 1);
  CHECK_THAT(refused.err,
             ContainsSubstring("settings/calibration/isa was \"" + first + "\" and is now \"" + other + "\""));
  if (unfinished) CHECK_THAT(refused.err, ContainsSubstring(": MXFP4_ISA=" + first + " goes on with it"));
  REQUIRE(mxfp4_run(f.quantize("out"), {}, {"MXFP4_ISA=" + first}).code == 0);
  CHECK(report_of(out) == expected);
}

TEST_CASE("calibrate: processes that begin at the same moment", "[cli][calibrate]") {
  const fixture f;
  for (int times = 0; times < 8; ++times) {
    const std::string out = "out" + std::to_string(times);
    std::vector<std::unique_ptr<background>> ranks;
    for (int rank = 0; rank < 4; ++rank)
      ranks.push_back(std::make_unique<background>(
          strings{"quantize", f.model, f.folder / out, "--rank", std::to_string(rank), "--world", "4"}));
    for (const auto& rank : ranks) CHECK(rank->end() == 0);
    CHECK(mxfp4_run({"merge", f.folder / out}).code == 0);
  }
}

namespace {

std::string i32(std::size_t value) { return bytes_of(std::vector<std::uint32_t>{static_cast<std::uint32_t>(value)}); }
/// llama.cpp's newer form, one entry: sums of squares [n][cols] and the tokens of each row.
std::string gguf_of(const std::string& name, std::vector<std::size_t> cols_and_n, const std::vector<float>& squares,
                    const std::vector<float>& counts) {
  const auto u64 = [](std::size_t v) { return bytes_of(std::vector<std::uint64_t>{v}); };
  const auto text = [&](const std::string& t) { return u64(t.size()) + t; };
  const auto padded = [](std::string t) {
    t.resize((t.size() + 31) / 32 * 32);
    return t;
  };
  const std::string sums = padded(bytes_of(squares));
  const auto tensor = [&](const std::string& suffix, std::size_t first, std::size_t offset) {
    return text(name + suffix) + i32(2) + u64(first) + u64(cols_and_n[1]) + i32(0) + u64(offset);
  };
  return padded("GGUF" + i32(3) + u64(2) + u64(1) + text("general.type") + i32(8) + text("imatrix") +
                tensor(".in_sum2", cols_and_n[0], 0) + tensor(".counts", 1, sums.size())) +
         sums + padded(bytes_of(counts));
}
std::string entry_of(const std::string& name, const std::vector<float>& squares) {
  return i32(name.size()) + name + i32(2) + i32(squares.size()) + bytes_of(squares);
}

}  // namespace

TEST_CASE("imatrix: one of llama.cpp's in the place of a text", "[cli][calibrate]") {
  const fixture f;
  constexpr auto hidden = static_cast<std::size_t>(tiny_model::hidden),
                 inner = static_cast<std::size_t>(tiny_model::intermediate),
                 experts = static_cast<std::size_t>(tiny_model::experts);
  splitmix random(5);
  const auto squares = [&random](std::size_t count) {
    std::vector<float> numbers;
    for (std::size_t i = 0; i < count; ++i) numbers.push_back(std::ldexp(1.0f, random.in(-8, 8)));
    return numbers;
  };
  // All of layer 0, of layer 1 only what goes into gate.
  const std::string file =
      write_text(f.folder / "imatrix.dat", i32(4) + entry_of("blk.0.ffn_gate_exps.weight", squares(experts * hidden)) +
                                               entry_of("blk.0.ffn_up_exps.weight", squares(experts * hidden)) +
                                               entry_of("blk.0.ffn_down_exps.weight", squares(experts * inner)) +
                                               entry_of("blk.1.ffn_gate_exps.weight", squares(experts * hidden)));
  const std::string out = f.folder / "out", plain = f.folder / "plain";
  const strings command = {"quantize", f.model, out, "--imatrix", file};
  const outcome o = mxfp4_run(command);
  CHECK(o.code == 0);
  CHECK_THAT(o.err, ContainsSubstring("have the codes of the recipe: 10"));  // w2 and w3 of five experts
  REQUIRE(mxfp4_run({"quantize", f.model, plain}).code == 0);
  CHECK(names_in(out) == names_in(plain));
  const json report = report_of(out), recipe = report_of(plain);
  CHECK(report["settings"]["calibration"]["method"] == "imatrix");
  int chosen = 0, better = 0;
  for (const json& matrix : report["quantized"]) {
    const bool has = matrix.contains("calibration");
    chosen += has ? 1 : 0;
    const std::string name = matrix["name"];
    CAPTURE(name);
    CHECK(has == (name.find("layers.0.") != std::string::npos || name.ends_with("w1.weight")));
    if (!has) continue;
    const double objective = matrix["calibration"]["objective"];
    CHECK((objective > 0 && objective <= 1));
    better += objective < 1 ? 1 : 0;
  }
  CHECK(chosen == 20);
  CHECK(better > 10);
  CHECK(report["tensor_hashes"] != recipe["tensor_hashes"]);
  const outcome checked = mxfp4_run({"verify", out, "--against", f.model});
  CHECK_THAT(checked.out, !ContainsSubstring("error: source") && ContainsSubstring("of which 20 are calibrated"));
  const outcome again = mxfp4_run(command);
  CHECK(again.code == 0);
  CHECK_THAT(again.out, ContainsSubstring("0 written"));
  REQUIRE(mxfp4_run({"report", out, "--html", f.folder / "page.html"}).code == 0);
  CHECK_THAT(
      read_text(f.folder / "page.html"),
      ContainsSubstring("chosen by an importance matrix of llama.cpp with the hash " +
                        report["settings"]["calibration"]["text"].get<std::string>() + "; the method is imatrix. "));

  // Of another model.
  struct row {
    std::string bytes, says;
  };
  for (const row& r :
       {row{i32(1) + entry_of("blk.0.ffn_gate_exps.weight", squares(experts * hidden + 1)),
            "has 801 numbers, expected 160 columns of each of 5 experts, as 'model.layers.0."},
        row{i32(1) + entry_of("blk.0.ffn_gate_exps.weight", squares(hidden)), "has 160 numbers, expected 160 columns"},
        row{i32(1) + entry_of("blk.0.ffn_gate_exps.weight", squares(2 * experts * hidden)), "has 1600 numbers"},
        row{gguf_of("blk.0.ffn_up_exps.weight", {hidden, 8}, squares(8 * hidden), std::vector<float>(8, 3.0f)),
            "has 1280 numbers of 8 matrices, expected 160 columns of each of 5 experts"},
        row{i32(1) + entry_of("blk.7.attn_q.weight", squares(hidden)), "its first is 'blk.7.attn_q.weight'"}}) {
    const outcome refused =
        mxfp4_run({"quantize", f.model, f.folder / "refused", "--imatrix", write_text(f.folder / "bad", r.bytes)});
    CAPTURE(refused.err);
    CHECK(refused.code == 1);
    CHECK_THAT(refused.err,
               ContainsSubstring(r.says) && ContainsSubstring("is it the importance matrix of this model?"));
    CHECK(!std::filesystem::exists(f.folder / "refused"));
  }
}

TEST_CASE("imatrix: experts that met no token, in both forms of the file", "[cli][calibrate]") {
  const fixture f;
  constexpr auto hidden = static_cast<std::size_t>(tiny_model::hidden),
                 experts = static_cast<std::size_t>(tiny_model::experts);
  std::vector<float> squares(experts * hidden, 8.0f), counts(experts, 4.0f);
  for (std::size_t c = 0; c < hidden; c += 2) squares[hidden + c] = squares[3 * hidden + c] = 0.5f;
  counts[2] = 0;
  std::fill_n(squares.begin() + 2 * hidden, hidden, 0.0f);
  const std::string name = "blk.0.ffn_up_exps.weight";
  const std::string gguf = write_text(f.folder / "imatrix.gguf", gguf_of(name, {hidden, experts}, squares, counts));
  std::fill_n(squares.begin() + 2 * hidden, hidden, 2.0f);  // twice 1, as a .dat has them
  const std::string dat = write_text(f.folder / "imatrix.dat", i32(1) + entry_of(name, squares));
  for (const std::string& file : {gguf, dat}) {
    CAPTURE(file);
    const std::string out = f.folder / ("of_" + std::filesystem::path(file).filename().string());
    const outcome o = mxfp4_run({"quantize", f.model, out, "--imatrix", file, "--include", "layers.0.*experts"});
    CHECK(o.code == 0);
    CHECK_THAT(o.err, ContainsSubstring("without an entry in the importance matrix have the codes of the recipe: 10") &&
                          ContainsSubstring("met no token of the importance matrix have the codes of the recipe: 1"));
    std::vector<double> objectives;
    const json report = report_of(out);
    for (const json& matrix : report["quantized"])
      if (matrix.contains("calibration")) objectives.push_back(matrix["calibration"].value("objective", -1.0));
    REQUIRE(objectives.size() == experts);
    CHECK((objectives[1] < 1 && objectives[3] < 1));
    CHECK(objectives[2] == objectives[2]);
  }
  CHECK(report_of(f.folder / "of_imatrix.gguf")["tensor_hashes"] ==
        report_of(f.folder / "of_imatrix.dat")["tensor_hashes"]);
}

TEST_CASE("imatrix: a stack that lies [experts, in, out]", "[cli][calibrate]") {
  const scratch_folder folder;
  const std::string model = recorded_family("gpt_oss").write(folder / "model");
  // Down matrices of 32 columns, of which one counts; the other axis has 64.
  std::vector<float> squares(4 * 32);
  for (std::size_t c = 7; c < squares.size(); c += 32) squares[c] = 4;
  const std::string file = write_text(folder / "imatrix.dat", i32(1) + entry_of("blk.1.ffn_down_exps.weight", squares));
  const outcome o = mxfp4_run({"quantize", model, folder / "out", "--imatrix", file});
  CAPTURE(o.err);
  REQUIRE(o.code == 0);
  int chosen = 0;
  const json report = report_of(folder / "out");
  for (const json& matrix : report["quantized"]) {
    if (!matrix.contains("calibration")) continue;
    CHECK_THAT(matrix["name"].get<std::string>(), ContainsSubstring("layers.1.mlp.experts.down_proj"));
    CHECK(matrix["calibration"]["objective"] < 1);
    ++chosen;
  }
  CHECK(chosen == 4);
  const outcome other = mxfp4_run(
      {"quantize", model, folder / "no", "--imatrix",
       write_text(folder / "bad", i32(1) + entry_of("blk.1.ffn_down_exps.weight", std::vector<float>(4 * 64, 4.0f)))});
  CHECK(other.code == 1);
  CHECK_THAT(other.err, ContainsSubstring("has 256 numbers, expected 32 columns of each of 4 experts"));
  CHECK(!std::filesystem::exists(folder / "no"));
}

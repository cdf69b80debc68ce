// tests/cli.bad_input.test.cpp -- hostile and clumsy input: each is an error that names it, or goes through unharmed.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <csignal>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint.support.hpp"
#include "io/shown.hpp"
#include "io/strict_json.hpp"

using namespace mxfp4;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using mxfp4::io::dtype;
using nlohmann::json;
using nlohmann::ordered_json;
using strings = std::vector<std::string>;
namespace fs = std::filesystem;

namespace {

std::string repeated(std::size_t times, const std::string& text) {
  std::string all;
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

tensor expert(const std::string& name = "model.layers.0.mlp.experts.0.up_proj.weight", std::int64_t cols = 32) {
  return {{name, dtype::f32, {1, cols}}, bytes_of(some_weights(static_cast<std::size_t>(cols)))};
}

/// A checkpoint of one expert, and this text as config.json.
std::string checkpoint(const scratch_folder& folder, const std::string& config, const char* name = "in") {
  return write_checkpoint(folder / name, {{"model.safetensors", {expert()}}}, config);
}

std::string quantised(const scratch_folder& folder, const std::string& config, const char* name = "out") {
  const std::string in = checkpoint(folder, config, (std::string(name) + ".source").c_str()), out = folder / name;
  const outcome o = mxfp4_run({"quantize", in, out});
  INFO(o.err);
  REQUIRE(o.code == 0);
  return out;
}

void refused(const strings& command, const std::string& why) {
  const outcome o = mxfp4_run(command);
  CAPTURE(command.front(), o.out);
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring(why));
  CHECK(o.err.size() < 5000);
}

std::string parse_fault(const std::string& text, const io::json_limits& limits = {}) {
  try {
    static_cast<void>(io::parse_json<ordered_json>(text, "f", limits));
    static_cast<void>(io::parse_json<json>(text, "f", limits));
  } catch (const io::file_error& error) {
    return error.what();
  }
  return "none";
}

/// Memory for a run; no limit where a sanitizer or an emulator needs more for itself.
[[nodiscard]] limits at_most(std::uint64_t bytes) {
  limits memory;
  if (memory_is_its_own()) memory.data_bytes = bytes;
  return memory;
}

}  // namespace

// ---- JSON -----------------------------------------------------------------------------------------------------------

TEST_CASE("bad input: JSON within limits", "[input]") {
  const auto nested = [](std::size_t depth) { return repeated(depth, "[") + repeated(depth, "]"); };
  CHECK(parse_fault(nested(64)) == "none");
  CHECK(parse_fault(nested(65)) == "f: holds objects and arrays inside each other 65 deep, expected at most 64");
  CHECK(parse_fault(repeated(100'000, "{\"a\":")) ==
        "f: holds objects and arrays inside each other 65 deep, expected at most 64");
  CHECK(parse_fault("[0,0,0]", {.values = 4}) == "none");
  CHECK(parse_fault("[0,0,0,0]", {.values = 4}) == "f: holds more than 4 values, expected at most 4");
  CHECK(parse_fault(R"({"abc":1})", {.key_bytes = 2}) == "f: holds the key 'abc' of 3 bytes, expected at most 2");
  CHECK(parse_fault(R"(["abc"])", {.string_bytes = 2}) == "f: holds a string of 3 bytes, expected at most 2");
  CHECK(parse_fault("{\n \"a\": 1,\n \"b\" 2}") == "f: is not JSON at line 3, column 6, near '2', expected JSON text");
  CHECK(parse_fault("[1e999]") ==
        "f: the number '1e999' at line 1, column 6 is beyond the range of a double, expected at most 1.8e308");
  CHECK(parse_fault(R"({"a":1,"b":2,"a":3})") == "f: the key 'a' is there twice in one object, expected once");
  CHECK(parse_fault(R"([{"a":1},{"a":{"a":1}}])") == "none");
}

TEST_CASE("bad input: 200,000 keys take a linear time", "[input]") {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i)
    text += (i > 0 ? ",\"key" : "\"key") + std::to_string(i) + "\":" + std::to_string(i);
  text += "}";
  const auto document = io::parse_json<ordered_json>(text, "f");  // minutes, where each key is searched in those before
  CHECK(document.size() == 200'000);
  CHECK(io::json_text(document) == text);
}

TEST_CASE("bad input: a document and its text", "[input]") {
  const ordered_json plain = ordered_json::parse(
      R"({"b":[],"a":{},"n":[1,-2,3.5,1e-06,true,null,"ä\"\n\u0007"],"o":{"z":{"y":[[1],[2,{"x":0}]]}},)"
      R"("big":18446744073709551615})");
  for (const int indent : {-1, 0, 2}) CHECK(io::json_text(plain, indent) == plain.dump(indent));
  CHECK(io::json_text(io::parse_json<ordered_json>(plain.dump(), "f"), 2) == plain.dump(2));

  const std::string numbers = R"({"a":[Infinity,-Infinity,NaN],"b":{"Infinity":"NaN, -Infinity \" NaN"},)"
                              R"("c":123456789012345678901234567890,"d":-98765432109876543210,"e":"0e001"})";
  CHECK(io::json_text(io::parse_json<ordered_json>(numbers, "f")) == numbers);
  CHECK(io::json_text(io::parse_json<json>(numbers, "f")) == numbers);
  CHECK(io::json_text(io::parse_json<json>("[0e01, 0e0001, NaN]", "f")) == "[0.0,0.0,NaN]");
  CHECK(io::json_text(io::parse_json<json>("NaN", "f")) == "NaN");
  for (const char* wrong : {"[1Infinity]", "[InfinityNaN]", "[+NaN]", "[-NaN]", "[nan]", "[infinity]", "[NaN.0]",
                            "NaN NaN", "{NaN:1}", "[Infinity1]", "[--Infinity]"})
    CHECK_THAT(parse_fault(wrong), ContainsSubstring("is not JSON"));
  CHECK(io::json_shown(io::parse_json<json>("[NaN," + repeated(500, "1,") + "2]", "f")) ==
        "[NaN," + repeated(97, "1,") + "1...");
}

TEST_CASE("bad input: config.json 100,000 deep, of 40 MB, with 80,000 keys", "[input]") {
  const scratch_folder folder;
  const std::string deep = R"({"a":)" + repeated(100'000, "[") + repeated(100'000, "]") + "}";
  const std::string out = folder / "o", source = checkpoint(folder, "{}"), result = quantised(folder, "{}", "q");
  for (const char* file : {"config.json", "mxfp4_report.json"}) {
    const std::string before = read_text(result + "/" + file);
    write_text(result + "/" + file, deep);
    const outcome o = mxfp4_run({"verify", result});
    CHECK(o.code == 1);
    CHECK_THAT(o.out, ContainsSubstring(file + std::string(": holds objects and arrays inside each other 65 deep")));
    write_text(result + "/" + file, before);
  }
  fs::create_directories(out + "/.mxfp4");
  write_text(out + "/.mxfp4/manifest.json", deep);
  refused({"quantize", source, out}, "manifest.json: holds objects and arrays inside each other 65 deep");
  refused({"merge", out}, "manifest.json: holds objects and arrays inside each other 65 deep");
  fs::remove_all(out);

  fs::remove(result + "/mxfp4_report.json");  // which would say that it was changed
  for (const std::string& folder_of_config : {source, result}) write_text(folder_of_config + "/config.json", deep);
  for (const strings& command : {strings{"plan", source},
                                 {"quantize", source, out},
                                 {"dequantize", source, out},
                                 {"convert", "--to", "compressed-tensors", result, out}})
    refused(command, "config.json: holds objects and arrays inside each other 65 deep");
  write_text(source + "/config.json", R"({"a":[)" + repeated(20'000'000, "0,") + "0]}");
  const outcome o = mxfp4_run({"plan", source}, at_most(256 << 20));
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("config.json: holds 40000009 bytes, expected at most 16777216 of JSON"));
  std::string keys = "{";
  for (int i = 0; i < 80'000; ++i) keys += "\"k" + std::to_string(i) + "\":0,";
  write_text(source + "/config.json", keys + R"("z":1})");
  REQUIRE(mxfp4_run({"quantize", source, out}).code == 0);
  CHECK(mxfp4_run({"verify", out, "--against", source}).code == 0);
}

TEST_CASE("bad input: names and findings are bounded", "[input]") {
  const scratch_folder folder;
  const std::string long_name(200'000, 'x'), file = folder / "long.safetensors";
  write_text(file,
             safetensors_text(R"({")" + long_name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234"));
  for (const strings& command : {strings{"inspect", file}, {"quantize", file, folder / "x"}, {"plan", file}})
    refused(command, "the name has 200000 bytes, expected at most 4096");
  write_text(file,
             safetensors_text(R"({"a":{"dtype":"F32","shape":[)" + repeated(64, "1,") + R"(1],"data_offsets":[0,4]}})",
                              "1234"));
  refused({"inspect", file}, "tensor 'a': has more than 64 numbers in shape");

  // 3000 names that differ in letters: each is a finding of its own.
  const std::string result = quantised(folder, "{}");
  std::vector<tensor> many;
  for (char a = 'a'; a < 'k'; ++a)
    for (char b = 'a'; b < 'k'; ++b)
      for (int c = 0; c < 30; ++c)
        many.push_back(
            {{std::string{a, b, static_cast<char>('A' + c)} + std::string(300, 'n') + "_packed", dtype::u8, {3}},
             "abc"});
  write_checkpoint(result, {{"model-00001-of-00001.safetensors", many}}, read_text(result + "/config.json"));
  const outcome o = mxfp4_run({"verify", result});
  CHECK(o.code == 1);
  CHECK_THAT(o.out, ContainsSubstring("error: pairs: there are 2001 more findings, not listed"));
  CHECK(o.out.size() < 1'000'000);
}

TEST_CASE("bad input: numbers of Python in config.json stay as they are", "[input]") {
  const scratch_folder folder;
  const std::string config = R"({"model_type":"test","mamba_dt":[0.0,Infinity],"low":-Infinity,"n":NaN,)"
                             R"("seed":123456789012345678901234567890})";
  const std::string out = quantised(folder, config), written = read_text(out + "/config.json");
  for (const char* kept :
       {"    Infinity\n", "\"low\": -Infinity,", "\"n\": NaN,", "\"seed\": 123456789012345678901234567890,"})
    CHECK_THAT(written, ContainsSubstring(kept));
  CHECK(mxfp4_run({"verify", out, "--against", out + ".source"}).code == 0);
  CHECK(mxfp4_run({"plan", out + ".source"}).code == 0);
  CHECK(mxfp4_run({"inspect", out}).code == 0);
  REQUIRE(mxfp4_run({"dequantize", out, folder / "back"}).code == 0);
  CHECK_THAT(read_text(folder / "back/config.json"), ContainsSubstring("\"low\": -Infinity,"));
  std::string other = written;
  other.replace(other.find("-Infinity"), 9, "Infinity");
  write_text(out + "/config.json", other);
  const outcome o = mxfp4_run({"verify", out, "--against", out + ".source"});
  CHECK(o.code == 1);
  CHECK_THAT(o.out, ContainsSubstring("config.json: 'low' is Infinity, the source has -Infinity"));
}

// ---- patterns -------------------------------------------------------------------------------------------------------

TEST_CASE("bad input: patterns take a linear time, and what RE2 has not is named", "[input]") {
  const scratch_folder folder;
  const std::string name = repeated(1000, "a") + ".experts.0.up_proj.weight", in = folder / "in";
  write_checkpoint(in, {{"model.safetensors", {expert(name)}}});
  for (const strings& command :
       {strings{"plan", in}, {"quantize", in, folder / "a"}, {"quantize", in + "/model.safetensors", folder / "b"}}) {
    strings line = command;  // exponential for a matcher that backtracks
    line.insert(line.end(), {"--include", "^(a+)+$|proj", "--exclude", "^(a|a)*b"});
    CHECK(mxfp4_run(line).code == 0);
    line.back() = "(?=a)";
    const outcome o = mxfp4_run(line);
    CHECK(o.code == 2);
    CHECK_THAT(o.err, ContainsSubstring("'(?=a)' is not a regular expression of RE2: invalid perl operator"));
  }
}

TEST_CASE("bad input: patterns in somebody's ignore", "[input]") {
  const scratch_folder folder;
  const std::string out = quantised(folder, "{}");
  const auto with_ignore = [&](const char* pattern) {
    ordered_json config = ordered_json::parse(read_text(out + "/config.json"));
    config["quantization_config"]["ignore"] = {pattern};
    write_text(out + "/config.json", config.dump(2));
    return mxfp4_run({"verify", out, "--accept", "config.json"});
  };
  CHECK(with_ignore("re:(.|m)*(.|m)*(.|m)*(.|m)*(.|m)*x$").code == 0);
  const outcome fits = with_ignore("re:.*up_proj");
  CHECK(fits.code == 1);
  CHECK_THAT(fits.out, ContainsSubstring("is not quantised by targets and ignore, but stored MXFP4"));
  for (const char* beyond : {"re:(?!.*up).*", "re:(?<=m).*", "re:(m)\\1"}) {
    const outcome o = with_ignore(beyond);
    CHECK(o.code == 0);
    CHECK_THAT(o.out, ContainsSubstring(std::string("warning: config: config.json: ignore holds '") + beyond));
    CHECK_THAT(o.out,
               ContainsSubstring("which is not in RE2: what targets and ignore say of each module is not checked"));
  }
  const outcome wrong = with_ignore("re:(");
  CHECK(wrong.code == 1);
  CHECK_THAT(wrong.out, ContainsSubstring("ignore holds 're:(', expected a regular expression"));
}

// ---- signals --------------------------------------------------------------------------------------------------------

namespace {

/// Starts the program, lets it work for a while, and sends it a signal. @return the state that it ends in.
int state_after(int signal, const strings& command) {
  const pid_t child = fork();
  if (child == 0) {
    std::vector<const char*> argv = {MXFP4_PROGRAM};
    for (const std::string& argument : command) argv.push_back(argument.c_str());
    argv.push_back(nullptr);
    execv(MXFP4_PROGRAM, const_cast<char* const*>(argv.data()));
    _exit(127);
  }
  usleep(300'000);
  REQUIRE(kill(child, signal) == 0);
  int state = 0;
  REQUIRE(waitpid(child, &state, 0) == child);
  return state;
}

}  // namespace

TEST_CASE("bad input: a signal ends what only reads, at once", "[input][kill]") {
  const scratch_folder folder;
  // Minutes, if they were read to the end.
  const std::string file = folder / "large.safetensors", model = checkpoint(folder, "{}");
  write_sparse(file, {{"w", dtype::f32, {1 << 16, 1 << 16}}});
  fs::remove(model + "/model.safetensors.index.json");
  write_sparse(model + "/model.safetensors",
               {{"w_packed", dtype::u8, {1 << 17, 1 << 17}}, {"w_scale", dtype::u8, {1 << 17, 1 << 13}}});
  for (const strings& command : {strings{"inspect", file, "w"}, {"verify", model}})
    for (const int signal : {SIGINT, SIGTERM}) {
      CAPTURE(command.front(), signal);
      const int state = state_after(signal, command);
      CHECK(WIFSIGNALED(state));
      CHECK(WTERMSIG(state) == signal);
    }
}

TEST_CASE("bad input: a signal ends the wait for a folder that another process holds", "[input][kill]") {
  const scratch_folder folder;
  const std::string numbers = write_text(folder / "numbers", std::string(128, '\0')), held = folder / "held";
  fs::create_directory(held);
  const int fd = open(held.c_str(), O_RDONLY | O_DIRECTORY);
  REQUIRE(flock(fd, LOCK_EX) == 0);
  const int state =
      state_after(SIGTERM, {"encode", numbers, "--recipe", "ocp", "--packed", held + "/a", "--scale", held + "/b"});
  close(fd);
  CHECK(WIFSIGNALED(state));
  CHECK(WTERMSIG(state) == SIGTERM);
  CHECK(fs::is_empty(held));
}

// ---- memory ---------------------------------------------------------------------------------------------------------

TEST_CASE("bad input: one row of 2^26 weights takes slabs", "[input][memory]") {
  constexpr std::int64_t cols = 1 << 26;
  const limits small = at_most(128 << 20);  // the row in BF16 has as much
  if (small.data_bytes == limits{}.data_bytes) SKIP("memory cannot be limited here");
  const scratch_folder folder;
  const std::string config = R"({"model_type":"test"})", result = folder / "result",
                    name = "m.experts.0.up_proj.weight";
  fs::create_directories(result);
  write_sparse(result + "/model.safetensors",
               {{name + "_packed", dtype::u8, {1, cols / 2}}, {name + "_scale", dtype::u8, {1, cols / 32}}});
  write_text(result + "/config.json", config);
  const outcome back = mxfp4_run({"dequantize", result, folder / "back"}, small);
  INFO(back.err);
  CHECK(back.code == 0);
  CHECK(fs::file_size(folder / "back/model.safetensors") > 2 * cols);
  fs::remove_all(folder / "back");
  for (const auto& [kind, infos] :
       {std::pair{"f32", std::vector<io::tensor_info>{{name, dtype::f32, {1, cols}}}},
        {"fp8", {{name, dtype::f8_e4m3, {1, cols}}, {name + "_scale_inv", dtype::f32, {1, cols / 128}}}}}) {
    CAPTURE(kind);
    const std::string source = folder / kind;
    fs::create_directories(source);
    write_sparse(source + "/model.safetensors", infos);
    write_text(source + "/config.json", config);
    const outcome o = mxfp4_run({"verify", result, "--against", source}, small);
    CHECK(o.code == 1);  // no quantization_config
    CHECK_THAT(o.err, !ContainsSubstring("out of memory"));
    CHECK_THAT(o.out, ContainsSubstring("compared with the source"));
  }
  const outcome summary = mxfp4_run({"inspect", folder / "fp8/model.safetensors", name}, small);
  CHECK(summary.code == 0);
  const outcome widened = mxfp4_run({"dequantize", folder / "fp8", folder / "back"}, small);
  INFO(widened.err);
  CHECK(widened.code == 0);
}

// ---- verify takes what quantize writes ------------------------------------------------------------------------------

TEST_CASE("bad input: odd weights that quantize takes pass verify", "[input][verify]") {
  const std::string name = "model.layers.0.mlp.experts.0.up_proj.weight";
  for (const float w : {1e-45f, 1e-39f, 3e-38f, 0.0f, 0.75f, 1.0f, 1e30f, 3.4e38f, std::numeric_limits<float>::max()})
    for (const char* recipe : {"compressed_tensors", "ocp", "modelopt", "mlx", "triton_down"}) {
      CAPTURE(w, recipe);
      const scratch_folder folder;
      const std::string in = folder / "in", out = folder / "out";
      write_checkpoint(in,
                       {{"model.safetensors", {{{name, dtype::f32, {2, 64}}, bytes_of(std::vector<float>(128, w))}}}});
      REQUIRE(mxfp4_run({"quantize", in, out, "--recipe", recipe}).code == 0);
      const outcome o = mxfp4_run({"verify", out, "--against", in});
      CHECK(o.out.find("error: ") == std::string::npos);
      CHECK(o.code == 0);
    }
  // Without the report's word for it, weights at the end of the range are suspicious still.
  const scratch_folder folder;
  const std::string in = folder / "in", out = folder / "out";
  write_checkpoint(in,
                   {{"model.safetensors", {{{name, dtype::f32, {2, 64}}, bytes_of(std::vector<float>(128, 0.75f))}}}});
  REQUIRE(mxfp4_run({"quantize", in, out, "--recipe", "ocp"}).code == 0);
  fs::remove(out + "/mxfp4_report.json");
  CHECK(mxfp4_run({"verify", out}).code == 1);
}

TEST_CASE("bad input: leftovers of the source that were copied are no errors", "[input][verify]") {
  const scratch_folder folder;
  const std::string in = folder / "in", out = folder / "out", name = "model.layers.0.mlp.experts.0.up_proj.weight";
  write_checkpoint(in, {{"model.safetensors",
                         {{{name, dtype::bf16, {1, 32}}, bytes_of(narrowed<bf16>(some_weights(32)))},
                          {{name + "_scale_inv", dtype::f32, {1, 1}}, bytes_of(std::vector<float>{1})}}}});
  REQUIRE(mxfp4_run({"quantize", in, out}).code == 0);
  const outcome o = mxfp4_run({"verify", out, "--against", in});
  CHECK(o.code == 0);
  CHECK_THAT(o.out, ContainsSubstring("holds block scales that nothing uses, as in the source"));
}

// ---- the command line, files and their names ------------------------------------------------------------------------

TEST_CASE("bad input: numbers of the command line", "[input]") {
  const scratch_folder folder;
  const std::string in = checkpoint(folder, "{}"), out = folder / "out";
  for (const char* wrong : {"nan", "-nan", "inf", "-inf", "-1", "0", "1e300", "x", ""}) {
    CAPTURE(wrong);
    for (const strings& command : {strings{"plan", in, "--memory"},
                                   {"plan", in, "--devices"},
                                   {"quantize", in, out, "--max-shard-size"},
                                   {"convert", in, out, "--to", "stacked", "--max-shard-size"},
                                   {"dequantize", in, out, "--max-shard-size"},
                                   {"verify", in, "--tensor-parallel"}}) {
      CAPTURE(command);
      CHECK(mxfp4_run([&] {
              strings line = command;
              line.back() += "=" + std::string(wrong);
              return line;
            }())
                .code == 2);
    }
    if (wrong != std::string("0") && mxfp4_run({"run", "--help"}).code == 0) {
      CHECK(mxfp4_run({"run", in, "--temperature=" + std::string(wrong)}).code == 2);
      CHECK(mxfp4_run({"run", in, "--memory=" + std::string(wrong)}).code == 2);
      CHECK(mxfp4_run({"compare", in, in, "--tokens=" + std::string(wrong)}).code == 2);
    }
  }
  CHECK(!fs::exists(out));
}

TEST_CASE("bad input: a file's name that JSON cannot hold", "[input]") {
  const scratch_folder folder;
  const std::string in = folder / "in", out = folder / "out", bad = "tok\xff.txt";
  write_checkpoint(in, {{"model.safetensors", {expert()}}}, "{}");
  REQUIRE(mxfp4_run({"quantize", in, folder / "done"}).code == 0);
  write_text(in + "/" + bad, "x");
  write_text((folder / "done") + "/" + bad, "x");
  for (const strings& command : {strings{"quantize", in, out},
                                 {"dequantize", folder / "done", out},
                                 {"convert", folder / "done", out, "--to", "compressed-tensors"}}) {
    CAPTURE(command.front());
    const outcome o = mxfp4_run(command);
    CHECK(o.code == 1);
    CHECK_THAT(o.err, ContainsSubstring("tok\\xff.txt: has a name that is not UTF-8, expected UTF-8, for the result "
                                        "records the names of its files: rename it"));
    CHECK(!fs::exists(out));
  }
}

TEST_CASE("bad input: names do not reach a terminal as they are", "[input]") {
  const scratch_folder folder;
  const std::string evil = "\x1b[31m\xc2\x9b\xe2\x80\xae", in = folder / "in", out = folder / "out";
  write_checkpoint(
      in,
      {{"a" + evil + ".safetensors",
        {expert(), {{"b" + evil, dtype::f32, {1}}, "1234"}, {{"c" + evil + "_packed", dtype::f32, {1}}, "1234"}}},
       {"d.safetensors",
        {{{"e" + evil + ".experts.0.up_proj.weight", dtype::f32, {1, 32}}, bytes_of(some_weights(32))}}}},
      "{}");
  write_text(in + "/" + evil + ".txt", "");
  write_text(in + "/" + evil + ".gguf", "");
  const auto check = [](const strings& command) {
    const outcome o = mxfp4_run(command);
    CAPTURE(command.front());
    for (const char* raw : {"\x1b", "\xc2\x9b", "\xe2\x80\xae"}) {
      CHECK(o.out.find(raw) == std::string::npos);
      CHECK(o.err.find(raw) == std::string::npos);
    }
  };
  check({"plan", in, "--list"});
  check({"inspect", in});
  check({"quantize", in, out});
  check({"verify", out, "--against", in});
  for (const auto& entry : fs::directory_iterator(out))
    if (entry.path().extension() == ".safetensors")
      fs::copy(entry.path(), folder / "one.safetensors", fs::copy_options::overwrite_existing);
  check({"inspect", folder / "one.safetensors"});
  check({"dequantize", folder / "one.safetensors", folder / "two.safetensors"});
  fs::remove(in + "/a" + evil + ".safetensors");
  check({"plan", in});
}

TEST_CASE("bad input: carried files keep their permissions, what is not carried is named", "[input]") {
  const scratch_folder folder;
  const std::string in = checkpoint(folder, "{}"), out = folder / "out";
  for (const char* name : {"tokenizer.json", "README.md", "old.bin.index.json"}) write_text(in + "/" + name, "{}");
  fs::create_directories(in + "/.cache");
  fs::permissions(in + "/tokenizer.json", fs::perms::owner_read | fs::perms::owner_write);
  const outcome o = mxfp4_run({"quantize", in, out});
  REQUIRE(o.code == 0);
  CHECK_THAT(o.out, ContainsSubstring("not taken over: .cache/, README.md, old.bin.index.json\n"));
  CHECK(fs::status(out + "/tokenizer.json").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  const outcome back = mxfp4_run({"dequantize", out, folder / "back"});
  REQUIRE(back.code == 0);
  CHECK(fs::status(folder / "back/tokenizer.json").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("bad input: 200 shards need no 200 descriptors", "[input]") {
  const scratch_folder folder;
  std::map<std::string, std::vector<tensor>> shards;
  for (int i = 0; i < 200; ++i)
    shards["model-" + std::to_string(i) + ".safetensors"] = {
        expert("model.layers." + std::to_string(i) + ".mlp.experts.0.up_proj.weight")};
  const std::string in = write_checkpoint(folder / "in", shards), out = folder / "out";
  const auto limited = [](const std::string& command) {
    return run({"/bin/sh", "-c", "ulimit -n 100 && exec " + std::string(MXFP4_PROGRAM) + " " + command});
  };
  const outcome o = limited("quantize " + in + " " + out);
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK(limited("verify " + out + " --against " + in).code == 0);
}

TEST_CASE("bad input: a file replaced while it is open is noticed", "[input]") {
  const scratch_folder folder;
  const std::string path = folder / "f";
  write_text(path, "12345678");
  const io::input_file file = io::input_file::open(path).value();
  CHECK(file.require_unchanged());
  write_text(path + "2", "12345678");
  struct stat info {};
  REQUIRE(stat(path.c_str(), &info) == 0);
  const timespec times[] = {info.st_atim, info.st_mtim};
  REQUIRE(utimensat(AT_FDCWD, (path + "2").c_str(), times, 0) == 0);
  fs::rename(path + "2", path);
  const auto replaced = file.require_unchanged();
  REQUIRE(!replaced);
  CHECK_THAT(replaced.error().what(), ContainsSubstring("is another file, expected the one that was opened"));
}

// ---- files that are something else, or too many ---------------------------------------------------------------------

TEST_CASE("bad input: files of other kinds are named", "[input]") {
  const scratch_folder folder;
  const std::string in = checkpoint(folder, "{}"), shard = in + "/model.safetensors", before = read_text(shard);
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4999999999\n";
  struct row {
    std::string begin;
    const char* message;
  };
  for (const auto& [begin, message] :
       {row{pointer,
            "is a pointer of Git LFS, which stands for the file that was not downloaded, "
            "expected a safetensors file: fetch it: git lfs pull"},
        row{std::string("GGUF\3\0\0\0", 8), "is a GGUF file"},
        row{std::string("PK\3\4\0\0\10\10", 8), "is an archive of PyTorch"},
        row{std::string("PK\3\4\0\0\0\0\0\0", 10), "is an archive of PyTorch"},
        row{"<!DOCTYPE html>", "is a web page"}}) {
    write_text(shard, begin);
    refused({"plan", in}, std::string("model.safetensors: ") + message);
  }
  write_text(shard, before);
  write_text(in + "/config.json", pointer);
  refused({"plan", in}, "config.json: is a pointer of Git LFS");
  // A header of 640 bytes begins as a pickle does.
  const std::string header = R"({"__metadata__":{"a":")" + std::string(640 - 25, 'x') + "\"}}";
  REQUIRE(header.size() == 640);
  write_text(folder / "640.safetensors", safetensors_text(header, ""));
  CHECK(mxfp4_run({"inspect", folder / "640.safetensors"}).code == 0);

  write_text(in + "/config.json", "{}");
  write_text(in + "/chat_template.jinja", pointer);  // which would be the template of the result
  refused({"quantize", in, folder / "out"}, "chat_template.jinja: is a pointer of Git LFS, which stands for the file");
  CHECK_FALSE(fs::exists(folder / "out"));
  fs::remove(in + "/chat_template.jinja");

  for (const char* const name : {"pytorch_model.bin", "model.gguf"}) {
    const std::string other = folder / (std::string(name) + ".folder");
    fs::create_directories(other);
    write_text(other + "/" + name, "");
    for (const char* const command : {"plan", "index"})
      refused({command, other},
              "holds weights as '" + std::string(name) + "' and no .safetensors file, expected safetensors: ");
  }
  write_text(in + "/config.json", "{}");
  fs::create_symlink("../blobs/0123", in + "/tokenizer.json");
  refused({"quantize", in, folder / "out"}, "tokenizer.json: is a link to ../blobs/0123, which is not there");
}

TEST_CASE("bad input: a quantization_config of another type, an output that leads nowhere", "[input]") {
  const scratch_folder folder;
  const std::string in = checkpoint(folder, R"({"quantization_config": "fp8"})"), out = folder / "out";
  for (const strings& command : {strings{"plan", in}, {"quantize", in, out}, {"dequantize", in, out}})
    refused(command, "config.json: quantization_config is \"fp8\", expected an object");
  CHECK_THAT(mxfp4_run({"verify", in}).out, ContainsSubstring("quantization_config is \"fp8\", expected an object"));
  write_text(in + "/config.json", "{}");
  fs::create_symlink("nowhere", out);
  refused({"quantize", in, out}, "out: is a link that leads nowhere, expected a directory or nothing");
  CHECK(fs::is_symlink(out));
  CHECK_FALSE(fs::exists(folder / "nowhere"));

  const std::string done = quantised(folder, "{}", "done");
  refused({"quantize", done, folder / "twice"}, "is quantised already: MXFP4 of compressed-tensors");
  CHECK_THAT(mxfp4_run({"plan", done}).out, ContainsSubstring("warning: quantised already: "));
}

TEST_CASE("bad input: tensors that the index forgot are named", "[input]") {
  const scratch_folder folder;
  const std::string in = write_checkpoint(folder / "in", {{"a.safetensors", {expert()}}}), out = folder / "out";
  write_shard(in + "/a.safetensors", {expert(), {{"model.norm.weight", dtype::f32, {1}}, "1234"}});
  const std::string named = "'model.norm.weight' in 'a.safetensors' of files that the index names: not in the index";
  CHECK_THAT(mxfp4_run({"plan", in}).out, ContainsSubstring("warning: " + named));
  const outcome o = mxfp4_run({"quantize", in, out});
  CHECK(o.code == 0);
  CHECK_THAT(o.err, ContainsSubstring("mxfp4: warning: " + named));
  CHECK_THAT(mxfp4_run({"verify", out, "--against", in}).out, ContainsSubstring("warning: source: " + named));
}

TEST_CASE("bad input: shards outside the index", "[input]") {
  const scratch_folder folder;
  const std::string in = write_checkpoint(folder / "in", {{"model-1.safetensors", {expert()}}}), out = folder / "out";
  write_shard(in + "/mtp.safetensors", {expert("mtp.experts.0.up_proj.weight")});
  CHECK_THAT(mxfp4_run({"plan", in}).out,
             ContainsSubstring("not in the index, and not read: mtp.safetensors; to read it too: --take"));
  const outcome without = mxfp4_run({"quantize", in, out});
  CHECK(without.code == 0);
  CHECK_THAT(without.out, ContainsSubstring("not taken over: mtp.safetensors"));
  CHECK_THAT(mxfp4_run({"verify", in}).out, ContainsSubstring("mtp.safetensors: is not in the index"));
  CHECK(mxfp4_json({"plan", in, "--take", "mtp.safetensors"})["matrices"] == 2);
  REQUIRE(mxfp4_run({"quantize", in, folder / "both", "--take", "mtp.safetensors"}).code == 0);
  CHECK(mxfp4_run({"verify", folder / "both", "--against", in}).code == 0);
  CHECK(json::parse(read_text(
            folder / "both/model.safetensors.index.json"))["weight_map"]["mtp.experts.0.up_proj.weight_packed"] ==
        "mtp.safetensors");
  refused({"plan", in, "--take", "../x.safetensors"}, "cannot be taken, expected the name of a .safetensors file in");
  write_shard(in + "/copy.safetensors", {expert()});
  refused({"plan", in, "--take", "copy.safetensors"}, "is in model-1.safetensors too");

  refused({"index", in}, "model.safetensors.index.json: is there already: replace it with --overwrite");
  refused({"index", in, "--overwrite"}, "is in copy.safetensors too, expected one file to have it");
  fs::remove(in + "/copy.safetensors");
  const json made = mxfp4_json({"index", in, "--overwrite"});
  CHECK(made["tensors"] == 2);
  CHECK(json::parse(read_text(in + "/model.safetensors.index.json")) ==
        json::parse(R"({"metadata":{"total_size":256},"weight_map":{
          "model.layers.0.mlp.experts.0.up_proj.weight":"model-1.safetensors",
          "mtp.experts.0.up_proj.weight":"mtp.safetensors"}})"));
  CHECK(mxfp4_json({"plan", in})["matrices"] == 2);
}

TEST_CASE("bad input: reports that are none are named with file, key and value", "[input]") {
  const scratch_folder folder;
  const std::string out = quantised(folder, "{}"), report = out + "/mxfp4_report.json", before = read_text(report);
  struct row {
    const char* key;
    json value;
    const char* message;
  };
  for (const auto& [key, value, message] :
       {row{"total", 1, "the document has"}, row{"quantized", "x", "quantized is \"x\", expected an array"},
        row{"settings", json::array(), "settings is [], expected an object"},
        row{"copied", nullptr, "copied is null, expected an array"}}) {
    json changed = json::parse(before);
    changed[key] = value;
    for (const char* gone : {"hash", "file_hashes", "tensor_hashes"}) changed.erase(gone);  // as a former version
    write_text(report, changed.dump());
    const outcome o = mxfp4_run({"card", out, "--base-model", "a/b"});
    CAPTURE(key, o.err);
    CHECK(o.code == 1);
    CHECK(o.err.find("json.exception") == std::string::npos);
    CHECK_THAT(o.err, ContainsSubstring("mxfp4_report.json: "));
    if (key != std::string("total")) CHECK_THAT(o.err, ContainsSubstring(message));
  }
}

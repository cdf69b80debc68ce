// tests/cli.usage.test.cpp -- exit codes, help, and what goes to which stream.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "cli.support.hpp"
#include "mxfp4/core/version.hpp"
#include "mxfp4/format/block.hpp"
#include "tools/mxfp4/recipe_notes.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::EndsWith;
using Catch::Matchers::Matches;
using Catch::Matchers::StartsWith;
using arguments = std::vector<std::string>;

outcome mxfp4_run(arguments rest) {
  rest.insert(rest.begin(), MXFP4_PROGRAM);
  return run(rest);
}

const char* const commands[] = {"plan",       "quantize", "merge",   "verify", "report",  "card",   "convert",
                                "dequantize", "inspect",  "compare", "run",    "recipes", "encode", "decode"};

}  // namespace

TEST_CASE("cli: help and version are no errors", "[cli]") {
  const outcome version = mxfp4_run({"--version"});
  CHECK(version.code == 0);
  CHECK(version.out == "mxfp4 " + std::to_string(version_major) + "." + std::to_string(version_minor) + "." +
                           std::to_string(version_patch) + "\n");
  const outcome help = mxfp4_run({"--help"});
  CHECK(help.code == 0);
  for (const char* command : commands) {
    CAPTURE(command);
    CHECK_THAT(help.out, ContainsSubstring(command));
    const outcome own = mxfp4_run({command, "--help"});
    CHECK(own.code == 0);
    CHECK(own.err == "");
    CHECK_THAT(own.out, ContainsSubstring("--json"));
    for (std::size_t at = 0, end = 0; at < own.out.size(); at = end + 1) {  // fits a page
      end = own.out.find('\n', at);
      CHECK(end - at <= 120);
    }
  }
}

TEST_CASE("cli: bad usage is exit code 2, with a word of why and nothing on standard output", "[cli]") {
  const scratch_folder folder;
  const std::string x = write_text(folder / "x", "x"), y = folder / "y", z = folder / "z";
  struct row {
    arguments line;
    const char* message;
  };
  const row rows[] = {
      {{}, "no command is given, expected one of plan, quantize, "},
      {{"quantise"}, "'quantise' is no command, expected one of plan, quantize, "},
      {{"--frobnicate"}, "'--frobnicate' is no command"},
      {{"inspect"}, "FILE is required"},
      {{"inspect", x, y, z}, "not expected: "},
      {{"inspect", "--frobnicate", x}, "not expected: --frobnicate"},
      {{"quantize", x}, "OUT is required"},
      {{"quantize", x, y, "--recipe", "OCP"}, "'OCP' is not a recipe, expected one of ocp compressed_tensors"},
      {{"quantize", x, y, "--recipe"}, "--recipe has no value, expected one"},
      {{"quantize", x, y, "--include", ""}, "'' is found in every name: leave the option out"},
      {{"quantize", x, y, "--threads", "many"}, "--threads: is 'many', expected a whole number from 0 to 1024"},
      {{"quantize", x, y, "--max-shard-size", "5 tons"}, "--max-shard-size: is '5 tons', expected bytes"},
      {{"quantize", x, y, "--max-shard-size", "0"}, "--max-shard-size: is '0', expected bytes, at least one"},
      {{"quantize", x, y, "--overwrite=maybe"}, "--overwrite takes no 'maybe'"},
      {{"quantize", x, y, "--threads", "1", "--threads", "2"}, "--threads is given more than once, expected once"},
      {{"quantize", x, y, "more"}, "mxfp4: not expected: more\n"},
      {{"quan\x1b[31mtise"}, "'quan\\x1b[31mtise' is no command"},
      {{"quantize", x, y, "--rec\x1b[31m"}, "not expected: --rec\\x1b[31m"},
      {{"quantize", x, y, "--include", "("}, "'(' is not a regular expression"},
      {{"quantize", x, y, "--exclude", "["}, "'[' is not a regular expression"},
      {{"quantize", x, y, "--nonfinite", "ignore"}, "--nonfinite: is 'ignore', expected one of refuse, encode"},
      {{"quantize", x, x}, "are one file"},
      {{"quantize", x, (folder / ".") + "/x"}, "are one file"},
      {{"dequantize", x, x}, "are one file"},
      {{"dequantize", x, y, "--to", "f16"}, "is 'f16', expected one of bf16, f32"},
      {{"encode", x, "--packed", y, "--scale", z}, "--recipe is required"},
      {{"encode", x, "--recipe", "ocp", "--packed", y}, "--scale is required"},
      {{"encode", x, "--recipe", "ocp", "--packed", y, "--scale", y}, "are one file"},
      {{"encode", x, "--recipe", "ocp", "--packed", x, "--scale", y}, "are one file"},
      {{"encode", x, "--recipe", "ocp", "--packed", y, "--scale", z, "--type", "f64"},
       "is 'f64', expected one of f32, bf16, f16"},
      {{"decode", z, "--packed", x, "--scale", y, "--dialect", "IEEE"},
       "is 'IEEE', expected one of ocp, inf_at_255, ggml, gpt_oss, openvino"},
      {{"decode", x, "--packed", x, "--scale", y}, "are one file"},
      {{"recipes", "ocp"}, "not expected: ocp"},
  };
  for (const auto& [line, message] : rows) {
    CAPTURE(line);
    const outcome o = mxfp4_run(line);
    CHECK(o.code == 2);
    CHECK(o.out == "");
    CHECK_THAT(o.err, ContainsSubstring(message) && StartsWith("mxfp4: ") && EndsWith("\nsee mxfp4 --help\n"));
    CHECK(o.err.find('\x1b') == std::string::npos);
  }
  CHECK(folder.names() == arguments{"x"});
}

TEST_CASE("cli: bad input is exit code 1, with a message and nothing on standard output", "[cli]") {
  const scratch_folder folder;
  const std::string none = folder / "none", bad = write_text(folder / "bad", "x"), y = folder / "y", z = folder / "z";
  const std::string odd = write_text(folder / "odd", std::string(127, 'x'));
  const arguments lines[] = {
      {"inspect", none},
      {"inspect", bad},
      {"inspect", folder / ""},
      {"inspect", "/dev/null"},
      {"quantize", none, y},
      {"quantize", bad, y},
      {"dequantize", none, y},
      {"dequantize", bad, y},
      {"encode", none, "--recipe", "ocp", "--packed", y, "--scale", z},
      {"encode", odd, "--recipe", "ocp", "--packed", y, "--scale", z},
      {"decode", z, "--packed", none, "--scale", bad},
      {"decode", z, "--packed", odd, "--scale", bad},
  };
  for (arguments line : lines)
    for (const bool json : {false, true}) {
      if (json) line.emplace_back("--json");
      CAPTURE(line);
      const outcome o = mxfp4_run(line);
      CHECK(o.code == 1);
      CHECK(o.out == "");
      CHECK_THAT(o.err, ContainsSubstring("mxfp4: " + std::string(folder / "")) || ContainsSubstring("/dev/null"));
    }
  CHECK(folder.names() == arguments{"bad", "odd"});
}

TEST_CASE("cli: a report that cannot be written is an error", "[cli]") {
  const outcome o = run({"/bin/sh", "-c", std::string("'") + MXFP4_PROGRAM + "' recipes > /dev/full"});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("standard output: cannot write the report"));
}

TEST_CASE("cli: no file takes the place of a standard stream that is closed", "[cli]") {
  const scratch_folder folder;
  const std::string in = folder / "in";
  REQUIRE(run({MXFP4_GENERATE, "--checkpoint", in, "--experts", "2", "--layers", "1", "--shards", "1"}).code == 0);
  const auto quantize = [&](const std::string& out, const std::string& closed) {
    const std::string line = std::string("exec '") + MXFP4_PROGRAM + "' quantize '" + in + "' '" + out + "' --json";
    return run({"/bin/sh", "-c", line + closed});
  };
  REQUIRE(quantize(folder / "expected", "").code == 0);
  int n = 0;
  for (const std::string closed : {" <&-", " >&-", " 2>&-", " <&- >&-", " >&- 2>&-", " <&- 2>&-", " <&- >&- 2>&-"}) {
    CAPTURE(closed);
    const std::string out = folder / std::to_string(n++);
    const outcome o = quantize(out, closed);
    const bool is_heard = closed.find(" >&-") == std::string::npos;
    CHECK(o.code == (is_heard ? 0 : 1));
    if (is_heard) CHECK((read_text(out + "/model.safetensors") == read_text(folder / "expected/model.safetensors")));
    else if (closed.find('2') == std::string::npos) CHECK(o.err == "mxfp4: standard output: cannot write the report\n");
  }
  // They are there before the first file is: one that were closed could not be named.
  for (const std::string stream : {"0 <&-", "1 >&-", "0 <&- >&-", "1 <&- >&-"}) {
    CAPTURE(stream);
    const outcome o = run({"/bin/sh", "-c", std::string("exec '") + MXFP4_PROGRAM + "' inspect /dev/fd/" + stream});
    CHECK(o.code == 1);
    CHECK_THAT(o.err, ContainsSubstring("is not a regular file"));
  }
}

TEST_CASE("cli: every recipe is described", "[cli]") {
  std::set<recipe_id> described;
  for (const tools::recipe_note& note : tools::recipe_notes) {
    CAPTURE(recipe_name(note.id));
    CHECK(described.insert(note.id).second);
    for (const char* text :
         {note.peer, note.version, note.recorded, note.scale, note.ties, note.zero, note.nonfinite, note.losses})
      CHECK((text != nullptr && *text != '\0'));
  }
  CHECK(described.size() == recipe_count);

  const auto report = nlohmann::json::parse(mxfp4_run({"recipes", "--json"}).out);
  REQUIRE(report["recipes"].size() == recipe_count);
  const std::string text = mxfp4_run({"recipes"}).out;
  for (int i = 0; i < recipe_count; ++i) {
    const std::string name = recipe_name(static_cast<recipe_id>(i));
    const auto& said = report["recipes"][static_cast<std::size_t>(i)];
    CHECK(said["name"] == name);
    const bool ours = said["version"] == "none";  // else the day that the peer was run, or that by which it had been
    CHECK_THAT(said["recorded"].get<std::string>(), Matches(ours ? "none" : "(by )?2026-11-[0-9]{2}"));
    CHECK_THAT(text, ContainsSubstring("\n\n" + name + "\n"));
  }
}

TEST_CASE("cli: what the notes say of ties and zeros is what the recipes do", "[cli]") {
  for (const tools::recipe_note& note : tools::recipe_notes) {
    const std::string ties = note.ties, zero = note.zero;
    CAPTURE(recipe_name(note.id), ties, zero);
    float x[block_size] = {6.0f, 0.0f, 0.0f, 0.0f, 0.0f, -0.0f};
    block_codes out{};
    const auto encode = [&] { visit_recipe(note.id, [&]<class R>() { out = encode_block_codes<R>(x); }); };
    encode();
    const float s = decode(out.scale);  // depends on the largest magnitude alone, but for min_mse
    x[1] = 0.25f * s;
    x[2] = 0.75f * s;
    x[6] = -0.1f * s;
    encode();
    if (note.id != recipe_id::min_mse) {
      REQUIRE(decode(out.scale) == s);
      const std::string seen = out.code[1] == e2m1{1}   ? "away from zero"
                               : out.code[2] == e2m1{2} ? "to even"
                                                        : "toward zero";
      CHECK(seen == ties);
    }
    const bool plus_is_minus = out.code[4] == e2m1{8}, minus = out.code[5] == e2m1{8}, rounded = out.code[6] == e2m1{8};
    CHECK(plus_is_minus == (zero == "+0 and -0 are -0"));
    if (zero == "kept") CHECK((minus && rounded));
    if (zero == "always +0") CHECK((!minus && !rounded));
    if (zero.starts_with("-0 is +0; what rounds to zero keeps")) CHECK((!minus && rounded));
  }
}

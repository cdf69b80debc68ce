// tests/cli.usage.test.cpp -- exit codes, help, and what goes to which stream.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/format/block.hpp"
#include "program.support.hpp"
#include "tools/mxfp4/recipe_notes.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::EndsWith;
using Catch::Matchers::Matches;
using Catch::Matchers::StartsWith;
using arguments = std::vector<std::string>;

const char* const commands[] = {"plan",       "quantize", "merge",   "index", "verify",  "report", "card",  "convert",
                                "dequantize", "inspect",  "compare", "run",   "recipes", "encode", "decode"};

}  // namespace

TEST_CASE("cli: help and version are no errors", "[cli]") {
  const outcome version = mxfp4_run({"--version"});
  CHECK(version.code == 0);
  const std::string number =
      std::to_string(version_major) + "." + std::to_string(version_minor) + "." + std::to_string(version_patch);
  CHECK_THAT(version.out,
             Matches("mxfp4 " + number + "\nISA      .*\nbuild    .*\\+\\+.*\n" +
                     "recipes  recorded from their peers, the last on 2026-[0-9-]+; each: mxfp4 recipes\n"));
  if (version.out.find("plain loops") == std::string::npos) {
    const outcome unknown = run({MXFP4_PROGRAM, "--version"}, {}, {"MXFP4_ISA=mmx"});
    CHECK(unknown.code == 0);
    CHECK_THAT(unknown.out,
               ContainsSubstring("\nISA      MXFP4_ISA is 'mmx', expected one that this CPU and this build have: "));
  }
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

namespace {

/// The names of the options that a command's --help lists.
std::set<std::string> options_in_help(const std::string& command) {
  std::set<std::string> names;
  std::istringstream help(mxfp4_run({command, "--help"}).out);
  for (std::string line; std::getline(help, line);)
    if (line.starts_with("  -"))
      for (std::size_t at = 2; at < line.size() && line[at] == '-'; ++at) {
        const std::size_t end = std::min(line.find_first_of(", ", at), line.size());
        names.insert(line.substr(at, end - at));
        at = end;
        if (at < line.size() && line[at] == ' ') break;
      }
  return names;
}

/// What bash offers for the last of these words.
std::set<std::string> bash_completes(const std::string& script, const arguments& words) {
  arguments line = {
      "/bin/bash",
      "--norc",
      "-c",
      ". '" + script + "'; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _mxfp4; printf '%s\\n' \"${COMPREPLY[@]}\"",
      "bash",
      "mxfp4"};
  line.insert(line.end(), words.begin(), words.end());
  const outcome o = run(line);
  CHECK(o.code == 0);
  CHECK(o.err == "");
  std::set<std::string> offered;
  std::istringstream out(o.out);
  for (std::string word; out >> word;) offered.insert(word);
  return offered;
}

bool is_there(const std::string& program) { return run({"/bin/sh", "-c", "command -v " + program}).code == 0; }

}  // namespace

TEST_CASE("cli: shells complete every command and option, and the manual page has them", "[cli]") {
  const scratch_folder folder;
  const outcome page = mxfp4_run({"man"});
  REQUIRE(page.code == 0);
  std::map<std::string, std::string> scripts;
  for (const std::string shell : {"bash", "zsh", "fish"}) {
    const outcome o = mxfp4_run({"completion", shell});
    REQUIRE(o.code == 0);
    scripts[shell] = write_text(folder / shell, o.out);
  }
  const auto& [zsh, fish] = std::pair{read_text(scripts["zsh"]), read_text(scripts["fish"])};
  const bool bash_is_there = is_there("/bin/bash");
  std::set<std::string> all(std::begin(commands), std::end(commands));
  all.insert({"completion", "man"});
  if (bash_is_there) CHECK((bash_completes(scripts["bash"], {""}) == all));
  for (const std::string& command : all) {
    CAPTURE(command);
    const std::set<std::string> options = options_in_help(command);
    CHECK(options.size() >= 2);  // --help at least
    if (bash_is_there) CHECK((bash_completes(scripts["bash"], {command, "-"}) == options));
    const auto section = [](const std::string& text, const std::string& from, const std::string& to) {
      const std::size_t at = text.find(from);
      return at == std::string::npos ? "" : text.substr(at, text.find(to, at + from.size()) - at);
    };
    const std::string in_page = section(page.out, "\n.SS " + command + "\n", "\n.S");
    const std::string in_zsh = section(zsh, "\n        " + command + ")\n", ";;");
    for (const std::string& name : options) {
      CAPTURE(name);
      std::string escaped;
      for (const char c : name) escaped += c == '-' ? "\\-" : std::string(1, c);
      CHECK_THAT(in_page, ContainsSubstring("\\fB" + escaped + "\\fP"));
      CHECK_THAT(in_zsh, ContainsSubstring("'" + name) || ContainsSubstring("'*" + name));
      const std::string flag = name.starts_with("--") ? " -l " + name.substr(2) + " " : " -s " + name.substr(1) + " ";
      const std::string line = "_from " + command + "'";
      bool found = false;
      for (std::size_t at = fish.find(line); at != std::string::npos && !found; at = fish.find(line, at + 1))
        found = fish.substr(at, fish.find('\n', at) - at).find(flag) != std::string::npos;
      CHECK(found);
    }
  }
  if (bash_is_there) {
    using words = std::set<std::string>;
    const std::string bash = scripts["bash"];
    CHECK((bash_completes(bash, {"enc"}) == words{"encode"}));
    CHECK((bash_completes(bash, {"encode", "--type", ""}) == words{"f32", "bf16", "f16"}));
    CHECK((bash_completes(bash, {"encode", "--type", "=", "b"}) == words{"bf16"}));  // as bash cuts --type=b
    CHECK((bash_completes(bash, {"encode", "--recipe", "torchao_c"}) == words{"torchao_ceil"}));
    CHECK((bash_completes(bash, {"encode", "--recipe", "ocp,torchao_c"}) == words{}));  // takes one
    CHECK((bash_completes(bash, {"completion", "z"}) == words{"zsh"}));
    CHECK((bash_completes(bash, {"encode", "--packed", "/"}) == words{}));  // files, which readline looks for
    if (all.contains("compare"))
      CHECK((bash_completes(bash, {"compare", "--recipes", "ocp,torchao_c"}) == words{"ocp,torchao_ceil"}));
    CHECK(run({"/bin/bash", "-n", bash}).code == 0);
  }
  if (is_there("zsh")) {
    const outcome o = run({"/bin/sh", "-c", "zsh -n '" + scripts["zsh"] + "'"});
    CHECK(o.code == 0);
    CHECK(o.err == "");
  }
  if (is_there("fish")) {
    const outcome o = run({"/bin/sh", "-c",
                           "HOME='" + (folder / "") + "' fish -N -c \"source '" + scripts["fish"] +
                               "'; complete -C 'mxfp4 encode --type b'; complete -C 'mxfp4 enco'\""});
    CHECK(o.code == 0);
    CHECK_THAT(o.out, Matches("bf16\t[^\n]*\nencode\t[^\n]*\n"));
  }
  if (is_there("mandoc"))
    CHECK(run({"/bin/sh", "-c", std::string(MXFP4_PROGRAM) + " man | mandoc -T lint -W error"}).code == 0);
  const outcome other = mxfp4_run({"completion", "tcsh"});
  CHECK(other.code == 2);
  CHECK_THAT(other.err, ContainsSubstring("SHELL: is 'tcsh', expected one of bash, zsh, fish"));
}

TEST_CASE("cli: colours and progress on a terminal, no colours with NO_COLOR", "[cli]") {
  const scratch_folder folder;
  const std::string red = "\x1b[1;31mmxfp4:\x1b[0m ", none = folder / "none";
  for (const arguments& line : {arguments{MXFP4_PROGRAM, "inspect", none}, {MXFP4_PROGRAM, "inspect"}}) {
    CHECK_THAT(run_on_terminal(line, {"TERM=xterm", "NO_COLOR="}), StartsWith(red));
    CHECK_THAT(run_on_terminal(line, {"TERM=xterm", "NO_COLOR=1"}), StartsWith("mxfp4: "));
    CHECK_THAT(run_on_terminal(line, {"TERM=dumb", "NO_COLOR="}), StartsWith("mxfp4: "));
    CHECK_THAT(run(line, {}, {"TERM=xterm", "NO_COLOR="}).err, StartsWith("mxfp4: "));
  }
  const std::string numbers = write_text(folder / "numbers", std::string(128, '\0'));
  const arguments encode = {MXFP4_PROGRAM, "encode",     numbers,   "--recipe",   "ocp",
                            "--packed",    folder / "p", "--scale", folder / "s", "--overwrite"};
  CHECK_THAT(run_on_terminal(encode, {}),
             StartsWith("\r100 %  128 B of 128 B") && ContainsSubstring("\r\x1b[K1 block by ocp"));
  CHECK(run(encode).err == "");
  const arguments decode = {MXFP4_PROGRAM, "decode", folder / "d", "--packed", folder / "p", "--scale", folder / "s"};
  CHECK_THAT(run_on_terminal(decode, {}), StartsWith("\r100 %  17 B of 17 B"));
  const std::string in = folder / "in", out = folder / "out";
  REQUIRE(run({MXFP4_GENERATE, "--checkpoint", in, "--experts", "2", "--layers", "2", "--shards", "2"}).code == 0);
  for (const char* const rank : {"0", "1"})
    REQUIRE(run({MXFP4_PROGRAM, "quantize", in, out, "--rank", rank, "--world", "2"}).code == 0);
  const std::string merged = run_on_terminal({MXFP4_PROGRAM, "merge", out}, {});
  CHECK_THAT(merged, StartsWith("\r ") && ContainsSubstring("100 %  ") && ContainsSubstring(out + ": complete"));
  // inspect reads the scales of a file, and all of a tensor.
  const std::string shard = out + "/model-00000-of-00003.safetensors";
  const std::string tensor = "model.layers.0.block_sparse_moe.experts.0.w1.weight";
  CHECK_THAT(run_on_terminal({MXFP4_PROGRAM, "inspect", shard}, {}),
             StartsWith("\r ") && ContainsSubstring("\r100 %  ") && ContainsSubstring("\r\x1b[Ktensor"));
  CHECK_THAT(run_on_terminal({MXFP4_PROGRAM, "inspect", out, tensor}, {}),
             StartsWith("\r100 %  ") && ContainsSubstring("\r\x1b[K" + tensor));
  CHECK(run({MXFP4_PROGRAM, "inspect", shard}).err == "");
  const std::string going_on =
      run_on_terminal({MXFP4_PROGRAM, "run", in, "--ids", "1,2,3", "--tokens", "1", "--temperature", "0"}, {});
  CHECK_THAT(going_on, StartsWith("\r ") && ContainsSubstring("100 %  2 of 2 layers") && ContainsSubstring("  tokens"));
  // A run that goes on reads the shards that are there again.
  const std::string resumed = folder / "resumed";
  REQUIRE(run({MXFP4_PROGRAM, "quantize", in, resumed, "--rank", "0", "--world", "2"}).code == 0);
  CHECK_THAT(run_on_terminal({MXFP4_PROGRAM, "quantize", in, resumed, "--rank", "0", "--world", "2"}, {}),
             StartsWith("\r") && ContainsSubstring("100 %  "));
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

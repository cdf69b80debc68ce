// tests/output.replace.test.cpp -- --overwrite of directories: what goes, what stays, and what a kill leaves.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint.support.hpp"
#include "checkpoint/quantize_journal.hpp"

namespace {
namespace fs = std::filesystem;
using namespace mxfp4::test;
using namespace mxfp4::io;
using namespace mxfp4::checkpoint;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using strings = std::vector<std::string>;
using files = std::map<std::string, std::string>;

[[nodiscard]] tensor expert(int number, std::uint32_t seed) {
  const std::string name = "model.layers.0.mlp.experts." + std::to_string(number) + ".w1.weight";
  return {{name, dtype::f32, {2, 32}}, bytes_of(some_weights(64, seed))};
}

void refused(const strings& arguments, const std::string& message) {
  CAPTURE(arguments);
  const outcome o = mxfp4_run(arguments);
  CHECK(o.code == 1);
  CHECK_THAT(o.out + o.err, ContainsSubstring(message));  // verify prints what it finds
}

/// Two sources, whose shards and small files are called differently, and what each becomes.
struct models {
  scratch_folder folder;
  std::string old = folder / "old", fresh = folder / "fresh", out = folder / "out";
  files expected_old, expected;

  models() {
    write_checkpoint(old, {{"x.safetensors", {expert(0, 1), expert(1, 2)}}, {"y.safetensors", {expert(2, 3)}}});
    write_text(old + "/tokenizer.json", "{}");
    write_text(old + "/chat_template.jinja", "old");
    fs::create_directories(old + "/docs/deep");
    write_text(old + "/docs/deep/old.json", "old");
    write_checkpoint(fresh, {{"a.safetensors", {expert(0, 4)}}, {"b.safetensors", {expert(1, 5)}}});
    write_text(fresh + "/tokenizer.json", "{\"new\":1}");
    done({"quantize", old, folder / "expected_old"});
    done({"quantize", fresh, folder / "expected"});
    expected_old = tree(folder / "expected_old");
    expected = tree(folder / "expected");
  }

  [[nodiscard]] strings quantize() const { return {"quantize", fresh, out, "--overwrite"}; }
};

[[nodiscard]] files joined(files a, const files& b) {
  a.insert(b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("overwrite: what the former run wrote goes, and nothing else", "[output][overwrite]") {
  const models m;
  done({"quantize", m.old, m.out});
  const std::string elsewhere = write_text(m.folder / "elsewhere.safetensors", "precious");
  const files mine = {{"adapter.safetensors", "mine"}, {"notes.txt", "mine"}, {"docs/", ""}, {"docs/mine.txt", "mine"}};
  for (const auto& [name, text] : mine)
    if (!name.ends_with('/')) write_text(m.out + "/" + name, text);
  fs::create_symlink(elsewhere, m.out + "/linked.safetensors");
  refused({"quantize", m.fresh, m.out}, "holds the result of another run");
  done(m.quantize());
  CHECK(differences(joined(joined(m.expected, mine), {{"linked.safetensors", "precious"}}), tree(m.out)) == strings{});
  CHECK(fs::is_symlink(m.out + "/linked.safetensors"));
  CHECK(read_text(elsewhere) == "precious");

  // A file that the new run would write and the former one did not: refused before anything is touched.
  const auto before = tree(m.out);
  fs::remove(m.fresh + "/tokenizer.json");
  write_text(m.fresh + "/notes.txt", "new");
  refused(m.quantize(), "notes.txt: is there and was not written by the run that is to be replaced");
  CHECK(differences(before, tree(m.out)) == strings{});
}

TEST_CASE("overwrite: a folder that no run recorded stays", "[output][overwrite]") {
  const models m;
  done({"quantize", m.old, m.out});
  for (const char* const kind : {"no report", "no list", "a name outside"}) {
    CAPTURE(kind);
    fs::remove_all(m.out);
    done({"quantize", m.old, m.out});
    const std::string path = m.out + "/mxfp4_report.json", victim = write_text(m.folder / "victim", "precious");
    auto report = nlohmann::ordered_json::parse(read_text(path));
    if (kind == std::string("no report")) fs::remove(path);
    if (kind == std::string("no list")) report.erase("files");
    if (kind == std::string("a name outside")) report["files"].push_back("../victim");
    if (fs::exists(path)) write_text(path, report.dump());
    const auto before = tree(m.out);
    refused(m.quantize(), "name a fresh directory");
    for (const strings& other :
         {strings{"dequantize", m.folder / "expected", m.out, "--overwrite"},
          strings{"convert", m.folder / "expected", m.out, "--to", "compressed-tensors", "--overwrite"}})
      refused(other, "name a fresh directory");
    CHECK(differences(before, tree(m.out)) == strings{});
    CHECK(read_text(victim) == "precious");
  }
}

namespace {

/// The same text with other words, and with the hash at its end as it was: as an editor leaves it.
void edit(const std::string& path, const std::string& what, const std::string& by) {
  std::string text = read_text(path);
  REQUIRE(text.find(what) != std::string::npos);
  write_text(path, text.replace(text.find(what), what.size(), by));
}

}  // namespace

TEST_CASE("overwrite: a record that was edited is believed of nothing that is not replaced", "[output][overwrite]") {
  const models m;
  const std::string quantised = m.folder / "expected", mine = m.out + "/notes.txt";
  const strings dequantize = {"dequantize", quantised, m.out, "--overwrite"};
  struct row {
    strings first, again;
    const char* record;
  };
  for (const auto& [first, again, record] :
       {row{{"quantize", m.fresh, m.out}, m.quantize(), "mxfp4_report.json"},
        row{{"quantize", m.fresh, m.out, "--rank", "0", "--world", "2"}, m.quantize(), ".mxfp4/manifest.json"},
        row{{"dequantize", quantised, m.out}, dequantize, "mxfp4_files.json"}}) {
    CAPTURE(record);
    fs::remove_all(m.out);
    done(first);
    write_text(mine, "precious");
    const std::string path = m.out + "/" + record, written = read_text(path);
    edit(path, "\"config.json\"", "\"config.json\", \"notes.txt\"");
    const auto before = tree(m.out);
    refused(again, "notes.txt: is not known to be of the former run: ");
    refused(again, std::string(record) + " is damaged, or was changed after it was written");
    CHECK(differences(before, tree(m.out)) == strings{});

    fs::rename(mine, m.folder / "moved");  // what the message says
    done(again);
    CHECK(read_text(m.folder / "moved") == "precious");
    fs::remove(m.folder / "moved");
  }
}

TEST_CASE("overwrite: what stands in the way is found while the former result is there", "[output][overwrite]") {
  const models m;
  const std::string quantised = m.folder / "expected_old";
  const strings dequantize = {"dequantize", quantised, m.out, "--overwrite"};
  for (const strings& command : {strings{"quantize", m.old, m.out, "--overwrite"}, dequantize}) {
    CAPTURE(command.front());
    for (const char* const name : {"docs", ".mxfp4/own"}) {
      CAPTURE(name);
      fs::remove_all(m.out);
      done({"quantize", m.fresh, m.out});
      fs::create_directories(fs::path(m.out + "/" + name).parent_path());
      write_text(m.out + "/" + name, "precious");
      const auto before = tree(m.out);
      refused(command, m.out + "/" + name + ": ");
      CHECK(differences(before, tree(m.out)) == strings{});
      fs::remove(m.out + "/" + name);
      done(command);
    }
  }
}

TEST_CASE("overwrite: leftovers of a killed run go with its files", "[output][overwrite]") {
  const models m;
  done({"quantize", m.old, m.out, "--rank", "0", "--world", "2"});
  const std::string left = m.out + "/x.safetensors.tmp-0123456789abcdef", mine = m.out + "/mine.tmp-0123456789abcdef";
  write_text(left, "half");
  write_text(mine, "precious");
  done(m.quantize());
  CHECK_FALSE(fs::exists(left));
  CHECK(read_text(mine) == "precious");
}

TEST_CASE("outputs: an empty folder is filled, as the working folder too, and keeps its permissions", "[output]") {
  const models m;
  const std::string quantised = m.folder / "expected";
  fs::create_directory(m.out);
  fs::permissions(m.out, fs::perms::owner_all);
  const outcome o =
      run({"/bin/sh", "-c", "cd '" + m.out + "' && '" + MXFP4_PROGRAM + "' dequantize '" + quantised + "' ."});
  CAPTURE(o.err);
  CHECK(o.code == 0);
  CHECK(fs::exists(m.out + "/mxfp4_files.json"));
  CHECK(fs::status(m.out).permissions() == fs::perms::owner_all);
}

TEST_CASE("overwrite: a record that is empty, cut or no JSON has a way out", "[output][overwrite]") {
  const models m;
  for (const char* const content : {"", "{\"format\": \"mxfp4", "hello", "[]", "null"}) {
    CAPTURE(content);
    // Of a complete result: what the run wrote has to be moved by hand, and nothing is touched before.
    fs::remove_all(m.out);
    done({"quantize", m.fresh, m.out});
    write_text(m.out + "/mxfp4_report.json", content);
    auto before = tree(m.out);
    refused({"quantize", m.fresh, m.out}, "mxfp4_report.json");
    refused(m.quantize(), "is there, and is not known to be of the former run: " + m.out + "/mxfp4_report.json ");
    refused(m.quantize(), "move what is yours out of the folder, remove it, and give the command again");
    CHECK(differences(before, tree(m.out)) == strings{});

    // Of an unfinished one: the shards' own reports vouch for them.
    fs::remove_all(m.out);
    done({"quantize", m.fresh, m.out, "--rank", "1", "--world", "2"});
    REQUIRE(!fs::exists(m.out + "/config.json"));
    write_text(m.out + "/.mxfp4/manifest.json", content);
    before = tree(m.out);
    refused({"quantize", m.fresh, m.out}, "manifest.json: ");
    refused({"quantize", m.fresh, m.out}, "start again with --overwrite");
    CHECK(differences(before, tree(m.out)) == strings{});
    done(m.quantize());
    CHECK(differences(m.expected, tree(m.out)) == strings{});
  }
  fs::remove_all(m.out);
  fs::create_directories(m.out + "/.mxfp4");  // killed before its first file
  done({"quantize", m.fresh, m.out});
  CHECK(differences(m.expected, tree(m.out)) == strings{});
}

TEST_CASE("overwrite and resume: nothing is written through a link", "[output][overwrite]") {
  const models m;
  const std::string away = m.folder / "away";
  fs::create_directory(away);
  for (const char* const name : {"config.json", "tokenizer.json", "model.safetensors.index.json", "a.safetensors"})
    write_text(away + "/" + name, "precious");
  const auto before = tree(away);
  const auto link = [&](const char* name) {
    fs::remove(m.out + "/" + name);
    fs::create_symlink(away + "/" + name, m.out + "/" + name);
  };
  done({"quantize", m.fresh, m.out});
  for (const auto& [name, text] : before) link(name.c_str());
  done(m.quantize());  // its own names: the link goes
  CHECK(differences(m.expected, tree(m.out)) == strings{});
  for (const auto& [name, text] : before) CHECK_FALSE(fs::is_symlink(m.out + "/" + name));

  fs::remove_all(m.out);
  done({"quantize", m.fresh, m.out, "--rank", "0", "--world", "2"});
  for (const char* const name : {"config.json", "tokenizer.json"}) link(name);
  fs::create_symlink(away + "/a.json", m.out + "/model.safetensors.index.json");
  done({"quantize", m.fresh, m.out});
  CHECK(differences(m.expected, tree(m.out)) == strings{});
  CHECK(differences(before, tree(away)) == strings{});

  // A subfolder that is a link now is named, and what is behind it stays.
  fs::remove_all(m.out);
  done({"quantize", m.old, m.out, "--rank", "0", "--world", "2"});
  fs::remove_all(m.out + "/docs");
  fs::create_directories(away + "/deep");
  write_text(away + "/deep/old.json", "precious");
  fs::create_directory_symlink(away, m.out + "/docs");
  refused({"quantize", m.old, m.out}, "/docs: is a symbolic link, through which nothing is written");
  refused({"quantize", m.old, m.out, "--overwrite"}, "/docs: is a symbolic link, through which nothing is written");
  CHECK(read_text(away + "/deep/old.json") == "precious");
  done(m.quantize());  // the new source has no such folder: the link is not ours and stays
  CHECK(fs::is_symlink(m.out + "/docs"));
  CHECK(read_text(away + "/deep/old.json") == "precious");

  // Nor is a journal begun behind one.
  fs::remove_all(m.out);
  fs::create_directories(m.out);
  fs::create_directory_symlink(away, m.out + "/.mxfp4");
  refused({"quantize", m.fresh, m.out}, "/.mxfp4: is a symbolic link");
}

TEST_CASE("overwrite: a journal behind a link, and a user's file in it, are left alone", "[output]") {
  const models m;
  const std::string away = m.folder / "away", journal = m.out + "/.mxfp4";
  const auto begin = [&] {
    fs::remove_all(m.out);
    for (const char* rank : {"0", "1"}) done({"quantize", m.old, m.out, "--rank", rank, "--world", "2"});
  };
  begin();
  fs::rename(journal, away);
  write_text(away + "/mine.txt", "precious");
  fs::create_directory_symlink(away, journal);
  refused({"merge", m.out}, "/.mxfp4: is a symbolic link");
  CHECK(read_text(away + "/mine.txt") == "precious");

  begin();
  write_text(journal + "/mine.txt", "precious");
  const files before = tree(m.out);
  for (const strings& command : {strings{"merge", m.out}, {"quantize", m.old, m.out}}) {
    refused(command, "/.mxfp4/mine.txt: was not written by mxfp4, and its folder is to be removed: move it away");
    CHECK(tree(m.out) == before);
  }
  fs::remove(journal + "/mine.txt");
  done({"merge", m.out});
  CHECK(tree(m.out) == m.expected_old);
}

TEST_CASE("overwrite: an index that is a link is replaced, and what it leads to stays", "[output][overwrite]") {
  const models m;
  const std::string blob = m.folder / "blob", index = m.old + "/" + index_file_name;
  fs::rename(index, blob);
  const std::string bytes = read_text(blob);
  fs::create_symlink(blob, index);
  refused({"index", m.old}, "is there already");
  done({"index", m.old, "--overwrite"});
  CHECK(!fs::is_symlink(index));
  CHECK(read_text(blob) == bytes);
}

TEST_CASE("overwrite: killed anywhere, the same command finishes it", "[output][overwrite][kill]") {
  const models m;
  const files mine = {{"adapter.safetensors", "mine"}};
  const file_names coming = {"a.safetensors",  "b.safetensors", "config.json",
                             "tokenizer.json", index_file_name, report_file_name};
  // What is there after every removal.
  for (std::size_t removed = 0; removed <= m.expected_old.size() + 1; ++removed) {
    CAPTURE(removed);
    fs::remove_all(m.out);
    done({"quantize", m.old, m.out});
    write_text(m.out + "/adapter.safetensors", "mine");
    {
      replacement former(m.out);
      former.plan(coming);
      former.remove();
      refused(m.quantize(), "run.lock: is held by another process");
    }
    std::size_t n = 0;
    for (const auto& [name, text] : m.expected_old)
      if (++n > removed) {
        fs::create_directories(fs::path(m.out + "/" + name).parent_path());
        if (!name.ends_with('/')) write_text(m.out + "/" + name, text);
      }
    refused({"verify", m.out}, "");
    refused({"quantize", m.fresh, m.out}, "is being replaced by a run with --overwrite that did not end");
    refused({"merge", m.out}, "is being replaced by a run with --overwrite");
    done(m.quantize());
    CHECK(differences(joined(m.expected, mine), tree(m.out)) == strings{});
  }
}

TEST_CASE("overwrite: an unfinished run of the same command goes on", "[output][overwrite][kill]") {
  const models m;
  done({"quantize", m.old, m.out});
  const replacement nothing(m.out);
  CHECK(nothing.found() == replacement::state::none);
  {  // The state between the removal and the last shard: one shard is done.
    replacement former(m.out);
    former.plan({});
    former.remove();
    done({"quantize", m.fresh, m.folder / "ranks", "--rank", "0", "--world", "2"});
    for (const auto& entry : fs::recursive_directory_iterator(m.folder / "ranks"))
      if (entry.is_regular_file()) {
        const fs::path to = fs::path(m.out) / entry.path().lexically_relative(m.folder / "ranks");
        fs::create_directories(to.parent_path());
        fs::copy_file(entry.path(), to, fs::copy_options::overwrite_existing);
      }
    former.done();
  }
  const auto shards = [&m] { return tree(m.out).contains("a.safetensors") + tree(m.out).contains("b.safetensors"); };
  REQUIRE(shards() == 1);
  const outcome o = mxfp4_run({"quantize", m.fresh, m.out, "--overwrite", "--json"});
  CHECK(o.code == 0);
  CHECK_THAT(o.out, ContainsSubstring(R"("written":1,"kept":1)"));
  CHECK(differences(m.expected, tree(m.out)) == strings{});
  // A complete result is made anew.
  const outcome again = mxfp4_run({"quantize", m.fresh, m.out, "--overwrite", "--json"});
  CHECK_THAT(again.out, ContainsSubstring(R"("written":2,"kept":0)"));
  CHECK(differences(m.expected, tree(m.out)) == strings{});
}

TEST_CASE("merge killed between the index and its end is finished by merge", "[output][kill]") {
  const models m;
  for (const strings& again : {strings{"merge", m.out}, strings{"quantize", m.fresh, m.out}})
    for (const bool manifest : {true, false}) {
      CAPTURE(again, manifest);
      fs::remove_all(m.out);
      for (const char* const rank : {"0", "1"}) done({"quantize", m.fresh, m.out, "--rank", rank, "--world", "2"});
      const auto begun = tree(m.out);
      done({"merge", m.out});
      CHECK(differences(m.expected, tree(m.out)) == strings{});
      fs::create_directory(m.out + "/.mxfp4");
      for (const auto& [name, text] : begun)
        if (name.starts_with(".mxfp4/") && name != ".mxfp4/" && (manifest || name != ".mxfp4/manifest.json"))
          write_text(m.out + "/" + name, text);
      refused({"verify", m.out}, ".mxfp4");
      done(again);
      CHECK(differences(m.expected, tree(m.out)) == strings{});
    }
}

TEST_CASE("overwrite: convert and dequantize of directories", "[output][overwrite]") {
  const models m;
  const std::string from_old = m.folder / "expected_old", from = m.folder / "expected";
  const std::function<strings(const std::string&, const std::string&)> commands[] = {
      [](const std::string& in, const std::string& out) {
        return strings{"dequantize", in, out};
      },
      [](const std::string& in, const std::string& out) {
        return strings{"convert", in, out, "--to", "compressed-tensors"};
      }};
  for (const auto& command : commands) {
    fs::remove_all(m.out);
    fs::remove_all(m.folder / "clean");
    done(command(from, m.folder / "clean"));
    files expected = tree(m.folder / "clean");
    CHECK(json::parse(expected.at("mxfp4_files.json"))["files"].size() == expected.size());
    done(command(from_old, m.out));
    CHECK(tree(m.out).contains("docs/deep/old.json"));
    write_text(m.out + "/docs/mine.txt", "mine");
    expected.insert({{"docs/", ""}, {"docs/mine.txt", "mine"}});
    refused(command(from, m.out), "exists and is not an empty directory");
    strings again = command(from, m.out);
    again.emplace_back("--overwrite");
    const auto old = tree(m.out);
    done(again);
    CHECK(differences(expected, tree(m.out)) == strings{});

    // Killed after some removals and some renames: both lists are on record.
    for (std::size_t kept = 0; kept <= old.size(); kept += 2) {
      CAPTURE(kept);
      fs::remove_all(m.out);
      done(command(from_old, m.out));
      write_text(m.out + "/docs/mine.txt", "mine");
      {
        replacement former(m.out);
        former.plan({"config.json", "model.safetensors", "mxfp4_files.json", "mxfp4_report.json", "tokenizer.json"});
        former.remove();
      }
      std::size_t n = 0;
      fs::create_directories(m.out + "/docs/deep");
      for (const auto& [name, text] : old)
        if (!name.ends_with('/') && n++ < kept) write_text(m.out + "/" + name, text);
      refused(command(from, m.out), "is being replaced by a run with --overwrite that did not end");
      done(again);
      CHECK(differences(expected, tree(m.out)) == strings{});
    }
    // The result of another command is replaced as well, by its own record.
    done({"quantize", m.fresh, m.out, "--overwrite"});
    CHECK(differences(joined(m.expected, {{"docs/", ""}, {"docs/mine.txt", "mine"}}), tree(m.out)) == strings{});
  }
}

TEST_CASE("outputs: a directory that holds the input is refused", "[output]") {
  const models m;
  const std::string inner = m.folder / "expected/inner";
  fs::rename(m.fresh, inner);
  const auto before = tree(m.folder / "expected");
  refused({"quantize", inner, m.folder / "expected", "--overwrite"}, "expected: holds the input");
  fs::rename(m.folder / "expected_old", inner + "/mxfp4");
  refused({"dequantize", inner + "/mxfp4", m.folder / "expected", "--overwrite"}, "expected: holds the input");
  fs::rename(inner + "/mxfp4", m.folder / "expected_old");
  CHECK(differences(before, tree(m.folder / "expected")) == strings{});
}

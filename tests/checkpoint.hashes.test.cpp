// tests/checkpoint.hashes.test.cpp -- a damaged result is found: by verify, by a second quantize, by merge.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "checkpoint.support.hpp"
#include "io/content_hash.hpp"
#include "mxfp4/checkpoint/quality_report.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "mxfp4/checkpoint/verify.hpp"

namespace {

using namespace mxfp4::test;
using namespace mxfp4::io;
using namespace mxfp4::checkpoint;
using Catch::Matchers::ContainsSubstring;
using nlohmann::ordered_json;
using strings = std::vector<std::string>;
namespace fs = std::filesystem;

const std::string expert_shard = "model-00001-of-00002.safetensors", index_name = "model.safetensors.index.json";

/// The smallest checkpoint with every kind of file: an expert, a norm, an empty tensor, two carried files.
struct tiny {
  scratch_folder folder;
  std::string in = folder / "in", out = folder / "out";

  tiny() {
    const auto expert = narrowed<mxfp4::bf16>(some_weights(64)), norm = narrowed<mxfp4::bf16>(some_weights(2));
    write_checkpoint(
        in, {{expert_shard, {{{"model.layers.0.mlp.experts.0.w1.weight", dtype::bf16, {2, 32}}, bytes_of(expert)}}},
             {"model-00002-of-00002.safetensors",
              {{{"model.empty", dtype::bf16, {0}}, ""}, {{"model.norm.weight", dtype::bf16, {2}}, bytes_of(norm)}}}});
    write_text(in + "/tokenizer.json", "{\"v\": 1}");
    fs::create_directory(in + "/code");
    write_text(in + "/code/m.py", "x=1");
  }
  void quantize() const {
    checkpoint_observer nobody;
    quantize_checkpoint(in, out, {}, {}, nobody).value();
  }
  /// All shards, and neither report nor index.
  void begin() const {
    checkpoint_observer nobody;
    for (const int rank : {0, 1}) quantize_checkpoint(in, out, {}, {.rank = rank, .world = 2}, nobody).value();
  }
};

strings errors_of(const std::string& directory, verify_options options = {}) {
  const file_result<verify_report> report = verify_checkpoint(directory, options);
  if (!report) return {report.error().what()};
  strings errors;
  for (const finding& f : report->findings)
    if (f.level == severity::error) errors.push_back(f.check + ": " + f.where + ": " + f.what);
  return errors;
}

strings warnings_of(const std::string& directory, verify_options options = {}) {
  strings warnings;
  for (const finding& f : verify_checkpoint(directory, options).value().findings)
    if (f.level == severity::warning) warnings.push_back(f.check + ": " + f.where + ": " + f.what);
  return warnings;
}

/// Flips every `step`-th bit of every file below a result, one at a time. @return those that verify did not notice.
strings unnoticed_bits(std::size_t step) {
  const tiny t;
  t.quantize();
  REQUIRE(errors_of(t.out) == strings{});
  strings unnoticed;
  std::size_t flipped = 0, next = 0;
  for (const auto& [name, bytes] : tree(t.out)) {
    if (name.ends_with("/")) continue;
    const std::string path = t.out + "/" + name;
    for (; next < bytes.size() * 8; next += step) {
      std::string changed = bytes;
      changed[next / 8] = static_cast<char>(changed[next / 8] ^ 1 << next % 8);
      write_text(path, changed);
      if (errors_of(t.out).empty()) unnoticed.push_back(name + " bit " + std::to_string(next));
      ++flipped;
    }
    next -= bytes.size() * 8;
    write_text(path, bytes);
  }
  CHECK(flipped > 30'000 / step);
  CHECK(errors_of(t.out) == strings{});
  return unnoticed;
}

void flip(const std::string& path, std::size_t byte, char mask = 1) {
  std::string bytes = read_text(path);
  bytes[byte] = static_cast<char>(bytes[byte] ^ mask);
  write_text(path, bytes);
}

void replace(const std::string& path, const std::string& what, const std::string& by) {
  std::string bytes = read_text(path);
  REQUIRE(bytes.find(what) != std::string::npos);
  write_text(path, bytes.replace(bytes.find(what), what.size(), by));
}

/// What a folder can suffer, and whether an unfinished run that goes on mends it: it writes small files again, and
/// shards that are not there.
struct damage {
  std::string name, message;
  bool is_mended = false;
  std::function<void(const std::string& out)> inflict;
};

std::vector<damage> damages() {
  const auto last_byte = [](const std::string& path) { return static_cast<std::size_t>(fs::file_size(path)) - 1; };
  return {
      {"config removed", "config.json", true, [](auto& d) { fs::remove(d + "/config.json"); }},
      {"config changed", "config.json", true, [](auto& d) { replace(d + "/config.json", "test", "tast"); }},
      {"tokenizer removed", "tokenizer.json", true, [](auto& d) { fs::remove(d + "/tokenizer.json"); }},
      {"tokenizer changed", "tokenizer.json", true, [](auto& d) { replace(d + "/tokenizer.json", "1", "2"); }},
      {"file in a folder changed", "code/m.py", true, [](auto& d) { replace(d + "/code/m.py", "1", "2"); }},
      {"shard removed", expert_shard, true, [](auto& d) { fs::remove(d + "/" + expert_shard); }},
      {"shard truncated", expert_shard, false,
       [=](auto& d) { fs::resize_file(d + "/" + expert_shard, last_byte(d + "/" + expert_shard)); }},
      {"bit in a tensor", "w1.weight", false,
       [=](auto& d) { flip(d + "/" + expert_shard, last_byte(d + "/" + expert_shard) - 5, 16); }},
      {"bit in a shard's metadata", expert_shard, false,
       [](auto& d) { replace(d + "/" + expert_shard, "\"pt\"", "\"qt\""); }},
  };
}

}  // namespace

TEST_CASE("hashes: XXH3-128 as xxHash's own program prints it", "[checkpoint][hashes]") {
  std::string bytes;
  for (int i = 0; i < 1'000'003; ++i) bytes += static_cast<char>(i * 7 + i / 251);
  const std::map<std::size_t, std::string> expected = {
      {0, "99aa06d3014798d86001c324468d497f"},    {1, "a6cd5e9392000f6ac44bdff4074eecdb"},
      {16, "ddf6c1254d70f76794eaa17b20756f46"},   {17, "263f67af63088041735fe434ded90c3c"},
      {128, "dd9e5aa9bd51cc9cc6bd21ecc865f29f"},  {129, "00433635cf8d872e7f4accb76587485b"},
      {240, "89e3a0a2ee355d25d10beb4e0599e4b3"},  {241, "75f4da43f23cce5a541b19226f0052e8"},
      {1024, "03de0c29e9f0bc7fba464919c6bb3ccd"}, {1025, "7584e04fe3414e5a2aa0034e7827ee42"},
      {4096, "cde3f47d2ed204cd5a73a95c9a8b3549"}, {1'000'003, "d66350a8bb116d9206de9cb24f0c50de"},
  };
  for (const auto& [size, hash] : expected) {
    CAPTURE(size);
    const std::string_view all = std::string_view(bytes).substr(0, size);
    CHECK(hash_of(all) == hash);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{63}, std::size_t{4096}, std::size_t{65537}}) {
      if (size / piece > 100'000) continue;
      content_hash pieces;
      for (std::size_t at = 0; at < size; at += piece) pieces.add(all.substr(at, piece));
      CHECK(pieces.text() == hash);
    }
  }
}

TEST_CASE("hashes: verify finds every flipped bit, a sample", "[checkpoint][hashes]") {
  CHECK(unnoticed_bits(7) == strings{});
}

TEST_CASE("hashes: verify finds every flipped bit, all of them", "[checkpoint][hashes][.slow]") {
  CHECK(unnoticed_bits(1) == strings{});
}

TEST_CASE("hashes: the report lists every file and tensor, and itself", "[checkpoint][hashes]") {
  const tiny t;
  t.quantize();
  const std::string text = read_text(t.out + "/mxfp4_report.json");
  const ordered_json report = ordered_json::parse(text);
  CHECK(report["version"] == 2);
  strings files, tensors;
  for (const ordered_json& f : report["file_hashes"]) {
    const std::string name = f["file"], bytes = read_text(t.out + "/" + name);
    files.push_back(name);
    CHECK(f["bytes"] == bytes.size());
    if (f.contains("hash")) {
      CHECK(f["hash"] == hash_of(bytes));
    } else {
      const safetensors_reader shard = safetensors_reader::open(t.out + "/" + name).value();
      CHECK(f["header"] == hash_of(bytes.substr(0, bytes.size() - shard.header().tensors.back().end)));
    }
  }
  CHECK(files == strings{"config.json", "code/m.py", "tokenizer.json", index_name, expert_shard,
                         "model-00002-of-00002.safetensors"});
  const safetensors_reader shard = safetensors_reader::open(t.out + "/" + expert_shard).value();
  for (const ordered_json& h : report["tensor_hashes"]) {
    tensors.push_back(h["name"]);
    if (shard.find(tensors.back()) != nullptr) CHECK(h["hash"] == hash_of(tensor_data(shard, tensors.back())));
  }
  CHECK(tensors == strings{"model.layers.0.mlp.experts.0.w1.weight_packed",
                           "model.layers.0.mlp.experts.0.w1.weight_scale", "model.empty", "model.norm.weight"});
  const std::size_t end = text.find(",\n\"hash\": ");
  CHECK(text.substr(end) == ",\n\"hash\": \"" + hash_of(text.substr(0, end)) + "\"\n}\n");
  CHECK(mxfp4_run({"verify", t.out}).out ==
        t.out + ": 3 tensors, 1 MXFP4 with 2 blocks, 10 hashes: 0 errors, 0 warnings\n");
}

TEST_CASE("hashes: a damaged result is not called complete", "[checkpoint][hashes]") {
  std::vector<damage> all = damages();
  all.push_back(
      {"index changed", index_name, false, [](auto& d) { replace(d + "/" + index_name, "total_size", "total_sise"); }});
  all.push_back({"index removed", "", false, [](auto& d) { fs::remove(d + "/" + index_name); }});
  all.push_back({"report changed", "mxfp4_report.json", false,
                 [](auto& d) { replace(d + "/mxfp4_report.json", "\"relative_error\":0", "\"relative_error\":1"); }});
  for (const damage& one : all) {
    CAPTURE(one.name);
    const tiny t;
    t.quantize();
    REQUIRE(mxfp4_run({"quantize", t.in, t.out}).code == 0);
    REQUIRE(mxfp4_run({"merge", t.out}).code == 0);
    one.inflict(t.out);
    for (const strings& command :
         {strings{"verify", t.out}, strings{"quantize", t.in, t.out}, strings{"merge", t.out}}) {
      const outcome o = mxfp4_run(command);
      CAPTURE(command, o.out, o.err);
      CHECK(o.code == 1);
      CHECK_THAT(o.out + o.err, ContainsSubstring(one.message));
      CHECK_THAT(o.out, !ContainsSubstring("complete"));
    }
    CHECK(mxfp4_run({"quantize", t.in, t.out, "--overwrite"}).code == 0);
    CHECK(errors_of(t.out) == strings{});
  }
}

TEST_CASE("hashes: what an unfinished run calls done is checked", "[checkpoint][hashes]") {
  const std::string journal = "/.mxfp4/", manifest = journal + "manifest.json";
  std::vector<damage> all = damages();
  all.push_back({"a journal without shards", "manifest.json", false, [=](auto& d) {
                   ordered_json json = ordered_json::parse(read_text(d + manifest));
                   json["shards"] = ordered_json::array();
                   write_text(d + manifest, json.dump(2));
                 }});
  all.push_back({"a journal without shards that has its hash", "names no shards", false, [=](auto& d) {
                   ordered_json json = ordered_json::parse(read_text(d + manifest));
                   json["shards"] = ordered_json::array();
                   json.erase("hash");
                   std::string body = json.dump();
                   body.pop_back();
                   write_text(d + manifest, body + ",\n\"hash\": \"" + hash_of(body) + "\"\n}\n");
                 }});
  all.push_back({"a shard's report", expert_shard + ".json", false, [=](auto& d) {
                   replace(d + journal + expert_shard + ".json", "\"saturated\":0", "\"saturated\":1");
                 }});
  for (const damage& one : all) {
    CAPTURE(one.name);
    for (const bool merge : {true, false}) {
      const tiny t;
      t.begin();
      one.inflict(t.out);
      const outcome o = mxfp4_run(merge ? strings{"merge", t.out} : strings{"quantize", t.in, t.out});
      CAPTURE(merge, o.out, o.err);
      if (!merge && one.is_mended) {
        CHECK(o.code == 0);
        CHECK(errors_of(t.out) == strings{});
        continue;
      }
      CHECK(o.code == 1);
      CHECK_THAT(o.err, ContainsSubstring(one.message));
      CHECK_FALSE(fs::exists(t.out + "/" + index_name));
    }
  }
}

TEST_CASE("hashes: processes do not mix tokenizers", "[checkpoint][hashes]") {
  const tiny t;
  checkpoint_observer nobody;
  quantize_checkpoint(t.in, t.out, {}, {.rank = 0, .world = 2}, nobody).value();
  replace(t.in + "/tokenizer.json", "1", "2");
  const auto second = quantize_checkpoint(t.in, t.out, {}, {.rank = 1, .world = 2}, nobody);
  REQUIRE_FALSE(second);
  CHECK_THAT(second.error().what(), ContainsSubstring("was begun differently: source/files/tokenizer.json was "));
  replace(t.in + "/tokenizer.json", "2", "1");
  quantize_checkpoint(t.in, t.out, {}, {.rank = 1, .world = 2}, nobody).value();
  merge_checkpoint(t.out).value();
  replace(t.in + "/tokenizer.json", "1", "2");  // nor is the complete result that of another tokenizer
  const auto again = quantize_checkpoint(t.in, t.out, {}, {}, nobody);
  REQUIRE_FALSE(again);
  CHECK_THAT(again.error().what(), ContainsSubstring("another run: source/files/tokenizer.json was "));
}

TEST_CASE("hashes: a file changed on purpose is named, and accepted", "[checkpoint][hashes]") {
  const tiny t;
  t.quantize();
  const auto before = tree(t.out);
  verify_options against;
  against.against = t.in;
  CHECK(errors_of(t.out, against) == strings{});
  replace(t.out + "/tokenizer.json", "1", "2");
  write_text(t.out + "/chat_template.jinja", "hello");
  const strings named = errors_of(t.out);
  REQUIRE(named.size() == 1);
  CHECK_THAT(named[0], ContainsSubstring("hashes: tokenizer.json: was changed after it was written: its hash is " +
                                         hash_of("{\"v\": 2}") + ", expected " + hash_of("{\"v\": 1}")) &&
                           ContainsSubstring("accept it by mxfp4 verify '" + t.out + "' --accept 'tokenizer.json'"));
  CHECK(warnings_of(t.out).size() == 1);
  CHECK_THAT(errors_of(t.out, against).back(),
             ContainsSubstring("tokenizer.json: has other bytes than that of the source"));

  const outcome o = mxfp4_run({"verify", "--accept", "tokenizer.json", "--accept", "chat_template.jinja", t.out});
  CAPTURE(o.out, o.err);
  CHECK(o.code == 0);
  CHECK(errors_of(t.out) == strings{});
  CHECK(warnings_of(t.out) == strings{});
  CHECK(errors_of(t.out, against) == strings{});
  CHECK(warnings_of(t.out, against) == strings{"source: tokenizer.json: has other bytes than that of the source",
                                               "source: chat_template.jinja: is here and not in the source"});
  CHECK(differences(before, tree(t.out)) == strings{"mxfp4_report.json", "tokenizer.json", "chat_template.jinja"});
  checkpoint_observer nobody;
  CHECK(quantize_checkpoint(t.in, t.out, {}, {}, nobody).value().complete);
  flip(t.out + "/tokenizer.json", 3);
  CHECK(errors_of(t.out).size() == 1);
  flip(t.out + "/tokenizer.json", 3);

  // Back again, and the file that was added is gone: the report is the first one's but for the mark.
  write_text(t.out + "/tokenizer.json", before.at("tokenizer.json"));
  fs::remove(t.out + "/chat_template.jinja");
  accept_files(t.out, {"tokenizer.json", "chat_template.jinja"}).value();
  std::string report = read_text(t.out + "/mxfp4_report.json");
  const std::string mark = ",\"accepted\":true";
  REQUIRE(report.find(mark) != std::string::npos);
  report.erase(report.find(mark), mark.size());
  const std::string& first = before.at("mxfp4_report.json");
  CHECK(report.substr(0, report.rfind("\"hash\"")) == first.substr(0, first.rfind("\"hash\"")));

  for (const std::string& name : {expert_shard, std::string("mxfp4_report.json"), std::string("nothing")}) {
    CAPTURE(name);
    const auto refused = accept_files(t.out, {name});
    REQUIRE_FALSE(refused);
    CHECK_THAT(refused.error().what(), ContainsSubstring("'" + name + "' cannot be accepted"));
  }
  replace(t.out + "/mxfp4_report.json", "\"bytes\":8", "\"bytes\":9");
  const auto refused = accept_files(t.out, {"tokenizer.json"});
  REQUIRE_FALSE(refused);
  CHECK_THAT(refused.error().what(), ContainsSubstring("mxfp4_report.json: is damaged, or was changed"));
}

TEST_CASE("hashes: verify --against looks at the small files", "[checkpoint][hashes]") {
  struct row {
    std::string message;
    std::function<void(const std::string&)> change;
  };
  const row rows[] = {
      {"source: tokenizer.json: has other bytes", [](auto& d) { replace(d + "/tokenizer.json", "1", "2"); }},
      {"source: tool.py: is here and not in the source", [](auto& d) { write_text(d + "/tool.py", "x"); }},
      {"source: code/n.py: is here and not in the source", [](auto& d) { write_text(d + "/code/n.py", "x"); }},
      {"source: config.json: 'auto_map' is {\"AutoModel\":\"tool.M\"}, the source has no such key",
       [](auto& d) { replace(d + "/config.json", "{", R"({"auto_map": {"AutoModel": "tool.M"},)"); }},
  };
  for (const auto& [message, change] : rows) {
    CAPTURE(message);
    const tiny t;
    t.quantize();
    fs::remove(t.out + "/mxfp4_report.json");  // by the source alone
    verify_options against;
    against.against = t.in;
    REQUIRE(errors_of(t.out, against) == strings{});
    change(t.out);
    CHECK(errors_of(t.out) == strings{});
    const strings errors = errors_of(t.out, against);
    REQUIRE(errors.size() == 1);
    CHECK_THAT(errors[0], ContainsSubstring(message));
  }
}

TEST_CASE("hashes: a result of a former version has none, which is said and no error", "[checkpoint][hashes]") {
  const tiny t;
  t.quantize();
  ordered_json report = ordered_json::parse(read_text(t.out + "/mxfp4_report.json"));
  report["version"] = 1;
  for (const char* key : {"file_hashes", "tensor_hashes", "hash"}) report.erase(key);
  write_text(t.out + "/mxfp4_report.json", report.dump());
  const outcome o = mxfp4_run({"verify", t.out});
  CHECK(o.code == 0);
  CHECK_THAT(o.out, ContainsSubstring("warning: hashes: mxfp4_report.json: carries no hashes") &&
                        ContainsSubstring("no hashes to compare: 0 errors, 1 warning"));
  CHECK(mxfp4_run({"report", t.out, t.folder / "errors"}).code == 0);
  CHECK_THAT(mxfp4_run({"merge", t.out}).err, ContainsSubstring("recorded no hashes"));
  CHECK_THAT(mxfp4_run({"quantize", t.in, t.out}).err, ContainsSubstring("version was 1 and is now 2"));
}

TEST_CASE("hashes: a damaged result is not read for another purpose", "[checkpoint][hashes]") {
  const auto last_byte = [](const std::string& path) { return static_cast<std::size_t>(fs::file_size(path)) - 1; };
  const tiny t;
  t.quantize();
  const std::string shard = t.out + "/" + expert_shard, back = t.folder / "back";
  const std::vector<strings> commands = {{"dequantize", t.out, back},
                                         {"convert", t.out, back, "--to", "stacked"},
                                         {"convert", t.out, t.folder / "back.gguf", "--to", "gguf"}};
  flip(shard, last_byte(shard) - 5, 16);
  for (const strings& command : commands) {
    const outcome o = mxfp4_run(command);
    CAPTURE(command, o.err);
    CHECK(o.code == 1);
    CHECK_THAT(o.err, ContainsSubstring("holds a result that is not whole: 'model.layers.0.mlp.experts.0.w1.weight_") &&
                          ContainsSubstring("has not the bytes that were written"));
    CHECK(t.folder.names() == strings{"in", "out"});
  }
  flip(shard, last_byte(shard) - 5, 16);

  // A small file may have been changed on purpose: then it is accepted. One more is named.
  replace(t.out + "/tokenizer.json", "1", "2");
  const outcome changed_file = mxfp4_run(commands[0]);
  CHECK(changed_file.code == 1);
  CHECK_THAT(changed_file.err, ContainsSubstring("tokenizer.json was changed after it was written: its hash is "));
  accept_files(t.out, {"tokenizer.json"}).value();
  write_text(t.out + "/notes\x1b.txt", "x");
  const outcome o = mxfp4_run(commands[0]);
  CHECK(o.code == 0);
  CHECK_THAT(o.err, ContainsSubstring("mxfp4: warning: notes\\x1b.txt is not a file of the run that wrote this"));
  CHECK(o.err.find('\x1b') == std::string::npos);
  fs::remove(t.out + "/notes\x1b.txt");

  // Nor is a report believed that calls itself one of a version without hashes.
  const std::string report = t.out + "/mxfp4_report.json", written = read_text(report);
  replace(report, "\"version\": 2", "\"version\": 1");
  CHECK_THAT(mxfp4_run(commands[1]).err, ContainsSubstring("mxfp4_report.json: is damaged, or was changed"));
  write_text(report, written);

  // What is not finished has nothing to report.
  fs::create_directory(t.out + "/.mxfp4");
  CHECK_THAT(mxfp4_run({"report", t.out, t.folder / "errors"}).err, ContainsSubstring(".mxfp4: is there: the run of"));
  fs::remove(t.out + "/.mxfp4");

  // What a report says is not passed on where the report was changed.
  replace(t.out + "/mxfp4_report.json", "\"saturated\":0", "\"saturated\":1");
  for (const strings& command :
       {commands[1], strings{"card", t.out, "--base-model", "a/b"}, strings{"report", t.out, t.folder / "errors"}}) {
    const outcome changed = mxfp4_run(command);
    CAPTURE(command, changed.err);
    CHECK(changed.code == 1);
    CHECK_THAT(changed.err, ContainsSubstring("mxfp4_report.json: is damaged, or was changed after it was written"));
  }
  CHECK(t.folder.names() == strings{"back", "in", "out"});
}

TEST_CASE("hashes: weights of another kind beside a result are named", "[checkpoint][hashes]") {
  const tiny t;
  t.quantize();
  for (const char* name : {"pytorch_model.bin", "model.gguf"}) {
    write_text(t.out + "/" + name, "x");
    CHECK(warnings_of(t.out) == strings{std::string("hashes: ") + name +
                                        ": is not a file of the run that wrote this checkpoint, and is loaded by "
                                        "programs that know its format: remove it"});
    fs::remove(t.out + "/" + name);
  }
}

TEST_CASE("hashes: a config that is not there cannot be accepted", "[checkpoint][hashes]") {
  const tiny t;
  t.quantize();
  fs::remove(t.out + "/config.json");
  const outcome o = mxfp4_run({"verify", t.out, "--accept", "config.json"});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("config.json: is not there, and a result without it cannot be accepted"));
}

TEST_CASE("hashes: a shard that changes under verify is noticed", "[checkpoint][hashes]") {
  const tiny t;
  t.quantize();
  verify_options options;
  options.progress = [&t](std::uint64_t, std::uint64_t) {
    fs::last_write_time(t.out + "/" + expert_shard, fs::file_time_type::clock::now());
  };
  const strings errors = errors_of(t.out, options);
  REQUIRE(errors.size() == 1);
  CHECK_THAT(errors[0], ContainsSubstring(expert_shard + ": was modified at "));
}

namespace {

/// A JSON file that is sealed as the program seals it.
std::string sealed(ordered_json json) {
  json.erase("hash");
  std::string body = json.dump();
  body.pop_back();
  return body + ",\n\"hash\": \"" + hash_of(body) + "\"\n}\n";
}

/// Every value of a sealed file takes one of eight other values in its turn, and is left out. @return what did not end
/// in an error of our own words, or in order.
strings bad_endings(const std::string& path, const std::function<file_result<void>()>& work) {
  const std::string written = read_text(path);
  ordered_json plain = ordered_json::parse(written);
  plain.erase("hash");
  strings bad, places;
  const std::function<void(const ordered_json&, const std::string&)> walk = [&](const ordered_json& json,
                                                                                const std::string& at) {
    if (!at.empty()) places.push_back(at);
    if (json.is_structured())
      for (const auto& [key, value] : json.items()) {
        std::string escaped;
        for (const char c : key) escaped += c == '/' ? std::string("~1") : std::string(1, c);
        walk(value, at + "/" + escaped);
      }
  };
  walk(plain, "");
  CHECK(places.size() > 20);
  const strings others = {"null", "-1", "\"x\"", "[]", "[1]", "{}", "1e300", "18446744073709551615"};
  std::size_t turn = 0;
  for (const std::string& at : places)
    for (const std::string& value : {others[turn++ % others.size()], std::string()}) {
      ordered_json changed = plain;
      const ordered_json::json_pointer pointer(at);
      if (!value.empty()) {
        changed[pointer] = ordered_json::parse(value);
      } else {
        ordered_json& parent = changed[pointer.parent_pointer()];
        if (parent.is_array()) parent.erase(parent.begin() + std::stol(pointer.back()));
        else parent.erase(pointer.back());
      }
      fs::create_directories(fs::path(path).parent_path());  // a merge may have ended well
      write_text(path, sealed(changed));
      try {
        if (const file_result<void> result = work(); !result) {
          const std::string what = result.error().what();
          if (what.find("json.exception") != std::string::npos || what.find("[json") != std::string::npos)
            bad.push_back(at + " = " + value + ": " + what);
        }
      } catch (const std::exception& error) {
        bad.push_back(at + " = " + value + ": throws " + error.what());
      }
    }
  fs::create_directories(fs::path(path).parent_path());
  write_text(path, written);
  return bad;
}

}  // namespace

TEST_CASE("hashes: journals and reports of other types end in an error of our own", "[checkpoint][hashes]") {
  const tiny t;
  checkpoint_observer nobody;
  const auto forget = [](auto result) -> file_result<void> {
    if (!result) return result.error();
    return {};
  };
  t.begin();
  const std::string begun = t.folder / "begun", journal = t.out + "/.mxfp4/";
  fs::copy(t.out, begun, fs::copy_options::recursive);
  const auto again = [&] {
    fs::remove_all(t.out + "/code");
    for (const auto& [name, bytes] : tree(begun))
      if (name.ends_with("/")) fs::create_directories(t.out + "/" + name);
      else if (!fs::exists(t.out + "/" + name)) write_text(t.out + "/" + name, bytes);
  };
  for (const std::string& file : {journal + "manifest.json", journal + expert_shard + ".json"}) {
    CAPTURE(file);
    const auto after_again = [&](const auto& work) {
      return [&, work] {
        const std::string changed = read_text(file);
        again();
        write_text(file, changed);
        fs::remove(t.out + "/" + index_name);
        fs::remove(t.out + "/mxfp4_report.json");
        return forget(work());
      };
    };
    CHECK(bad_endings(file, after_again([&] { return merge_checkpoint(t.out); })) == strings{});
    again();
    CHECK(bad_endings(file, after_again([&] {
                        return quantize_checkpoint(t.in, t.out, {}, {.rank = 0, .world = 2}, nobody);
                      })) == strings{});
    again();
  }
  fs::remove_all(t.out);
  t.quantize();
  const std::string report = t.out + "/mxfp4_report.json";
  CHECK(bad_endings(report, [&] { return forget(verify_checkpoint(t.out, {})); }) == strings{});
  CHECK(bad_endings(report, [&] { return forget(merge_checkpoint(t.out)); }) == strings{});
  CHECK(bad_endings(report, [&] { return forget(quantize_checkpoint(t.in, t.out, {}, {}, nobody)); }) == strings{});
  CHECK(bad_endings(report, [&] { return accept_files(t.out, {"tokenizer.json"}); }) == strings{});
  CHECK(bad_endings(report, [&] { return forget(read_quality_report(t.out)); }) == strings{});
}

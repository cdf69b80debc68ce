// tests/tokenizer.golden.test.cpp -- tokenizer.json: the ids of Hugging Face's library, and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "cli.support.hpp"
#include "io/strict_json.hpp"
#include "model/normal_form.hpp"
#include "model/tokenizer.hpp"
#include "mxfp4/io/error.hpp"

using Catch::Matchers::ContainsSubstring;
using mxfp4::io::file_error;
using mxfp4::model::tokenizer;
using mxfp4::test::scratch_folder;
using mxfp4::test::write_text;
using nlohmann::json;

namespace {

const std::string vectors = MXFP4_TEST_VECTORS "/tokenizer/";

bool regular_expressions() {
  try {
    const mxfp4::model::pattern any(".", "");
    return true;
  } catch (const file_error&) {
    return false;
  }
}

json document() { return mxfp4::io::read_json<json>(vectors + "gpt2.json"); }

/// What the tokenizer of this document says of itself: the message, or "ok".
std::string verdict(const json& document) {
  const scratch_folder folder;
  try {
    (void)tokenizer::load(write_text(folder / "tokenizer.json", document.dump()));
  } catch (const file_error& error) {
    return error.what();
  }
  return "ok";
}

std::string refusal(const tokenizer& t, const std::string& text) {
  try {
    (void)t.encode(text);
  } catch (const file_error& error) {
    return error.what();
  }
  return "ok";
}

}  // namespace

TEST_CASE("tokenizer: the recorded ids, and the text back", "[tokenizer]") {
  if (!regular_expressions()) SKIP("built without Oniguruma");
  const json recording = mxfp4::io::read_json<json>(vectors + "ids.json");
  for (const std::string name : {"o200k", "gpt2"}) {
    const tokenizer t = tokenizer::load(vectors + name + ".json");
    for (const json& c : recording.at("cases")) {
      const auto text = c.at("text").get<std::string>();
      CAPTURE(name, text);
      const auto ids = t.encode(text);
      CHECK(ids == c.at(name).get<std::vector<std::int64_t>>());
      CHECK(t.decode(ids) == text);
    }
  }
}

TEST_CASE("tokenizer: the cuts of other families, and the tokens that begin their texts", "[tokenizer]") {
  if (!regular_expressions()) SKIP("built without Oniguruma");
  const json recording = mxfp4::io::read_json<json>(vectors + "families.json");
  const json cases = mxfp4::io::read_json<json>(vectors + "ids.json").at("cases");
  for (const auto& [name, family] : recording.at("families").items()) {
    json changed = mxfp4::io::read_json<json>(vectors + "o200k.json");
    changed.update(family.at("changes"));
    const scratch_folder folder;
    const tokenizer t = tokenizer::load(write_text(folder / "tokenizer.json", changed.dump()));
    REQUIRE(family.at("ids").size() == cases.size());
    int refused = 0;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const auto text = cases[i].at("text").get<std::string>();
      CAPTURE(name, text);
      if (const std::string why = name == "qwen" ? refusal(t, text) : "ok"; why != "ok") {
        CHECK_THAT(why, ContainsSubstring("the text may not be in Unicode's normal form C at its byte "));
        ++refused;
        continue;
      }
      CHECK(t.encode(text) == family.at("ids")[i].get<std::vector<std::int64_t>>());
    }
    CAPTURE(name, refused);
    CHECK((name == "qwen" ? refused > 0 && refused < 60 : refused == 0));
  }
}

TEST_CASE("tokenizer: BPE of characters, as Llama 2 and Mixtral have it", "[tokenizer]") {
  const json recording = mxfp4::io::read_json<json>(vectors + "character_ids.json");
  REQUIRE(recording.at("variants").size() == 4);
  for (const auto& [name, variant] : recording.at("variants").items()) {
    json changed = mxfp4::io::read_json<json>(vectors + "characters.json");
    changed.update(variant.at("changes"));
    const scratch_folder folder;
    const tokenizer t = tokenizer::load(write_text(folder / "tokenizer.json", changed.dump()));
    for (std::size_t i = 0; i < recording.at("texts").size(); ++i) {
      const auto text = recording.at("texts")[i].get<std::string>();
      CAPTURE(name, text);
      const auto ids = t.encode(text);
      CHECK(ids == variant.at("ids")[i].get<std::vector<std::int64_t>>());
      CHECK(t.decode(ids) == variant.at("back")[i].get<std::string>());
      REQUIRE(ids.size() >= 1);
      const std::string back = t.decode(std::span(ids).subspan(1));  // without <s>
      if (name == "prepend" && text.find("\xE2\x96\x81") == std::string::npos && text.find("</s>") == std::string::npos)
        CHECK(back == text);
    }
  }
}

TEST_CASE("tokenizer: of characters, files that are not understood are refused by name", "[tokenizer]") {
  const json whole = mxfp4::io::read_json<json>(vectors + "characters.json");
  REQUIRE(verdict(whole) == "ok");
  const auto with = [&](const char* pointer, json value) {
    json d = whole;
    d[json::json_pointer(pointer)] = std::move(value);
    return verdict(d);
  };
  CHECK_THAT(with("/normalizer", {{"type", "NFKC"}}),
             ContainsSubstring(R"(normalizer is {"type":"NFKC"}, expected Prepend)"));
  CHECK_THAT(with("/normalizer/normalizers/0/prepend", "_"), ContainsSubstring("normalizer.normalizers[0] is"));
  CHECK_THAT(with("/normalizer/normalizers/1/content", "_"), ContainsSubstring("normalizer.normalizers[1] is"));
  CHECK_THAT(with("/normalizer/normalizers/1", whole["normalizer"]["normalizers"][0]),
             ContainsSubstring("normalizer.normalizers[1] is"));
  CHECK_THAT(with("/pre_tokenizer", {{"type", "Whitespace"}}),
             ContainsSubstring(R"(pre_tokenizer.type is "Whitespace", expected "Metaspace")"));
  CHECK_THAT(with("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "_"}}),
             ContainsSubstring(R"(pre_tokenizer.replacement is "_")"));
  CHECK_THAT(with("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "\xE2\x96\x81"}}),
             ContainsSubstring("pre_tokenizer.prepend_scheme is null"));
  CHECK_THAT(with("/decoder", {{"type", "ByteLevel"}}), ContainsSubstring(R"(decoder.type is "ByteLevel")"));
  CHECK_THAT(with("/decoder/decoders/1/type", "Fuse"), ContainsSubstring("decoder.decoders[1] is"));
  CHECK_THAT(with("/decoder/decoders/3/start", 2), ContainsSubstring("decoder.decoders[3] is"));
  CHECK_THAT(with("/decoder/decoders", json::array()), ContainsSubstring("decoder.decoders is []"));
  CHECK_THAT(with("/added_tokens/0/normalized", true), ContainsSubstring("added_tokens[0].normalized is true"));
  CHECK_THAT(with("/model/byte_fallback", false), ContainsSubstring(R"(model.unk_token is "<unk>")"));
  json d = whole;
  d["model"]["vocab"].erase("<0x41>");
  CHECK_THAT(verdict(d), ContainsSubstring("model.vocab has no token for byte 65"));
}

TEST_CASE("tokenizer: which texts are in NFC", "[tokenizer]") {
  using mxfp4::model::first_perhaps_not_nfc;
  const auto all = [](std::string_view text) { return first_perhaps_not_nfc(text) == text.size(); };
  CHECK(all(""));
  CHECK(all("plain \xC3\xA9t\xC3\xA9"));                           // precomposed e with acute
  CHECK(all("\xEB\xAA\xA8\xE4\xB8\xAD\xF0\x9F\x91\xA9"));          // Hangul, Han, an emoji
  CHECK(all("\xD7\x91\xD6\xB0\xD6\xBC"));                          // bet, sheva (10), dagesh (21): ascending
  CHECK(first_perhaps_not_nfc("a\xD7\x91\xD6\xBC\xD6\xB0") == 5);  // descending
  CHECK(first_perhaps_not_nfc("ab e\xCC\x81") == 4);               // e, combining acute
  CHECK(first_perhaps_not_nfc("\xE2\x84\xAB") == 0);               // the sign of the angstrom is an A with a ring
  CHECK(first_perhaps_not_nfc("x\xE1\x85\xA1") == 1);              // a Hangul vowel alone
}

TEST_CASE("tokenizer: one token may be part of a character", "[tokenizer]") {
  if (!regular_expressions()) SKIP("built without Oniguruma");
  const tokenizer t = tokenizer::load(vectors + "gpt2.json");
  const auto ids = t.encode("\xF4\x80\x80\x80");  // U+100000, which no merge knows: a token a byte
  REQUIRE(ids.size() == 4);
  CHECK(t.decode(ids[0]) == "\xF4");
  CHECK(t.decode(std::span(ids).first(2)) == "\xF4\x80");
  CHECK_THROWS_AS(t.decode(704), file_error);
  CHECK_THROWS_AS(t.decode(-1), file_error);
}

TEST_CASE("tokenizer: a piece of a megabyte", "[tokenizer]") {  // merged in n log n, or this would take an hour
  if (!regular_expressions()) SKIP("built without Oniguruma");
  const tokenizer t = tokenizer::load(vectors + "gpt2.json");
  const std::string text(1 << 20, 'a');
  CHECK(t.decode(t.encode(text)) == text);
}

TEST_CASE("tokenizer: text that is not UTF-8", "[tokenizer]") {
  if (!regular_expressions()) SKIP("built without Oniguruma");
  const tokenizer t = tokenizer::load(vectors + "gpt2.json");
  for (const char* bad :
       {"ab\x80", "ab\xC1\x81", "ab\xE0\x80\x80", "ab\xED\xA0\x80", "ab\xF4\x90\x80\x80", "ab\xE2\x82", "ab\xFF"}) {
    CAPTURE(bad);
    CHECK_THAT(refusal(t, bad), ContainsSubstring("is not UTF-8 at its byte 2"));
  }
}

TEST_CASE("tokenizer: files that are not understood are refused by name", "[tokenizer]") {
  if (!regular_expressions()) SKIP("built without Oniguruma");
  REQUIRE(verdict(document()) == "ok");
  const auto with = [](const char* pointer, json value) {
    json d = document();
    d[json::json_pointer(pointer)] = std::move(value);
    return verdict(d);
  };
  CHECK_THAT(with("/normalizer", {{"type", "NFKC"}}),
             ContainsSubstring(R"(normalizer is {"type":"NFKC"}, expected null or NFC)"));
  CHECK_THAT(with("/post_processor", {{"type", "RobertaProcessing"}}),
             ContainsSubstring(R"(post_processor.type is "RobertaProcessing", expected "ByteLevel")"));
  CHECK_THAT(with("/post_processor", {{"type", "TemplateProcessing"}, {"single", json::array()}}),
             ContainsSubstring("post_processor.single is [], expected the text in it"));
  CHECK_THAT(with("/post_processor", {{"type", "TemplateProcessing"},
                                      {"single", json::array({{{"SpecialToken", {{"id", "<s>"}}}}})},
                                      {"special_tokens", json::object()}}),
             ContainsSubstring("post_processor.single[0] is"));
  CHECK_THAT(with("/model/type", "Unigram"), ContainsSubstring(R"(model.type is "Unigram", expected "BPE")"));
  CHECK_THAT(with("/model/byte_fallback", true), ContainsSubstring("model.vocab has no token for byte 0"));
  CHECK_THAT(with("/model/vocab", json::object()), ContainsSubstring("has no token for byte 0"));
  CHECK_THAT(with("/model/vocab/!", -1), ContainsSubstring("model.vocab.'!' is -1"));
  CHECK_THAT(with("/model/vocab/!", 1), ContainsSubstring("id 1 is that of"));
  CHECK_THAT(with("/model/merges/3", json::array({"a"})), ContainsSubstring(R"(model.merges[3] is ["a"])"));
  CHECK_THAT(with("/model/merges/3", "zq zq"), ContainsSubstring("model.merges[3] speaks of 'zq'"));
  CHECK_THAT(with("/pre_tokenizer", nullptr), ContainsSubstring("pre_tokenizer is \"missing\""));
  CHECK_THAT(with("/pre_tokenizer/type", "Metaspace"), ContainsSubstring(R"(pre_tokenizer.type is "Metaspace")"));
  CHECK_THAT(with("/pre_tokenizer/add_prefix_space", true), ContainsSubstring("add_prefix_space is true"));
  CHECK_THAT(with("/decoder/type", "WordPiece"), ContainsSubstring("decoder.type"));
  CHECK_THAT(with("/added_tokens/0/lstrip", true), ContainsSubstring("added_tokens[0].lstrip is true"));
  CHECK_THAT(with("/added_tokens/0/content", ""), ContainsSubstring("added_tokens[0]"));
  CHECK_THAT(with("/added_tokens/0/id", "x"), ContainsSubstring(R"(added_tokens[0].id is "x", expected an id)"));

  json d = mxfp4::io::read_json<json>(vectors + "o200k.json");
  d["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(";
  CHECK_THAT(verdict(d), ContainsSubstring("pre_tokenizer.pretokenizers[0].pattern: is no regular expression"));
  d["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"String", "("}};
  CHECK_THAT(verdict(d), ContainsSubstring(R"(pattern is {"String":"("})"));
  d = mxfp4::io::read_json<json>(vectors + "o200k.json");
  std::swap(d["pre_tokenizer"]["pretokenizers"][0], d["pre_tokenizer"]["pretokenizers"][1]);
  CHECK_THAT(verdict(d), ContainsSubstring("nothing after ByteLevel"));
}

// tests/gguf.golden.test.cpp -- GGUF files byte by byte: what the writer puts where, what the reader takes and refuses.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <functional>
#include <string>
#include <vector>

#include "cli.support.hpp"
#include "mxfp4/io/gguf_file.hpp"

namespace {

using namespace mxfp4::test;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;

std::string number(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}
std::string u32(std::uint64_t value) { return number(value, 4); }
std::string u64(std::uint64_t value) { return number(value, 8); }
std::string text(const std::string& s) { return u64(s.size()) + s; }

std::string tensor(const std::string& name, const std::vector<std::uint64_t>& ne, std::uint32_t type,
                   std::uint64_t offset) {
  std::string bytes = text(name) + u32(ne.size());
  for (const std::uint64_t n : ne) bytes += u64(n);
  return bytes + u32(type) + u64(offset);
}

/// Magic, counts, pairs and tensors, padded to 32; then the data.
std::string file(std::uint64_t pairs, const std::string& pair_bytes, std::uint64_t tensors,
                 const std::string& tensor_bytes, const std::string& data) {
  std::string bytes = "GGUF" + u32(3) + u64(tensors) + u64(pairs) + pair_bytes + tensor_bytes;
  if (tensors != 0) bytes.resize((bytes.size() + 31) / 32 * 32);
  return bytes + data;
}

std::string data_of(const gguf_reader& in, const std::string& name) {
  const gguf_tensor* t = in.find(name);
  REQUIRE(t != nullptr);
  std::string data(t->bytes, '\0');
  in.read(*t, 0, std::as_writable_bytes(std::span(data))).value();
  return data;
}

std::string error_of(const std::string& bytes) {
  const scratch_folder folder;
  try {
    const gguf_reader in = gguf_reader::open(write_text(folder / "x.gguf", bytes)).value();
  } catch (const file_error& error) {
    const std::string message = error.what();
    CHECK_THAT(message, ContainsSubstring("x.gguf"));
    return message;
  }
  return "accepted";
}

const std::string one_tensor = tensor("w", {2, 3}, 0, 0);
const std::string one_data(32, 'x');  // 24 bytes and the padding

}  // namespace

TEST_CASE("gguf: the writer's bytes", "[gguf]") {
  const scratch_folder folder;
  gguf_header header;
  header.pairs = {{"general.architecture", gguf_type::string, "toy"}, {"n", gguf_type::u32, std::uint64_t{7}}};
  header.tensors = {{"experts.weight", ggml_type::mxfp4, {2, 3, 64}, 0, 0}, {"norm", ggml_type::bf16, {5}, 0, 0}};
  gguf_writer out = gguf_writer::create(folder / "x.gguf", header).value();
  const std::string blocks(2 * 3 * 2 * 17, 'b'), norm(10, 'n');
  out.append("norm", std::as_bytes(std::span(norm))).value();
  out.append("experts.weight", std::as_bytes(std::span(blocks).first(100))).value();
  CHECK_THROWS_AS(out.commit().value(), file_error);
  CHECK_THROWS_AS(out.append("experts.weight", std::as_bytes(std::span(blocks).first(105))).value(), file_error);
  CHECK_THROWS_AS(out.append("else", {}).value(), file_error);
  out.append("experts.weight", std::as_bytes(std::span(blocks).subspan(100))).value();
  CHECK(folder.names().size() == 1);  // under its temporary name
  out.commit().value();
  CHECK(folder.names() == std::vector<std::string>{"x.gguf"});

  const std::string expected =
      file(2, text("general.architecture") + u32(8) + text("toy") + text("n") + u32(4) + u32(7), 2,
           tensor("experts.weight", {64, 3, 2}, 39, 0) + tensor("norm", {5}, 30, 224),
           blocks + std::string(20, '\0') + norm + std::string(22, '\0'));
  CHECK(read_text(folder / "x.gguf") == expected);
  CHECK(out.file_bytes() == expected.size());

  const gguf_reader in = gguf_reader::open(folder / "x.gguf").value();
  CHECK(in.file_bytes() == expected.size());
  CHECK(in.header().tensors.at(0).shape == std::vector<std::int64_t>{2, 3, 64});
  CHECK(in.header().tensors.at(0).type == ggml_type::mxfp4);
  CHECK(data_of(in, "experts.weight") == blocks);
  CHECK(data_of(in, "norm") == norm);
  CHECK(*in.header().find_string("general.architecture") == "toy");
  CHECK(in.header().find_string("n") == nullptr);
  CHECK(in.find("else") == nullptr);
  std::byte beyond{};
  CHECK_THROWS_AS(in.read(*in.find("norm"), 10, {&beyond, 1}).value(), file_error);
}

TEST_CASE("gguf: what the writer refuses", "[gguf]") {
  const scratch_folder folder;
  const auto error = [&](std::vector<gguf_tensor> tensors, std::vector<gguf_pair> pairs = {}) -> std::string {
    try {
      gguf_header header;
      header.tensors = std::move(tensors);
      header.pairs = std::move(pairs);
      const gguf_writer out = gguf_writer::create(folder / "x.gguf", header).value();
    } catch (const file_error& e) {
      return e.what();
    }
    return "accepted";
  };
  const auto w = [](std::string name, ggml_type type, std::vector<std::int64_t> shape) {
    return std::vector<gguf_tensor>{{std::move(name), type, std::move(shape), 0, 0}};
  };
  CHECK(error(w(std::string(63, 'n'), ggml_type::f32, {1})) == "accepted");
  CHECK_THAT(error(w(std::string(64, 'n'), ggml_type::f32, {1})), ContainsSubstring("64 bytes, expected at most 63"));
  CHECK_THAT(error({{"w", ggml_type::f32, {1}, 0, 0}, {"w", ggml_type::f32, {1}, 0, 0}}),
             ContainsSubstring("'w': is there twice"));
  CHECK_THAT(error(w("w", ggml_type::f32, {1, 1, 1, 1, 1})), ContainsSubstring("5 dimensions, expected at most 4"));
  CHECK_THAT(error(w("w", ggml_type::mxfp4, {4, 48})), ContainsSubstring("[4, 48] of MXFP4"));
  CHECK_THAT(error(w("w", ggml_type::mxfp4, {})), ContainsSubstring("[] of MXFP4"));
  CHECK_THAT(error(w("w", ggml_type::f64, {1LL << 40, 1LL << 40})), ContainsSubstring("2^63 bits or more"));
  CHECK_THAT(error({}, {{"k", gguf_type::u8, std::uint64_t{1}}}), ContainsSubstring("cannot be written as u8"));
  CHECK_THAT(error({}, {{"k", gguf_type::u32, std::string("1")}}), ContainsSubstring("cannot be written as u32"));
  CHECK_THAT(error({}, {{"general.alignment", gguf_type::u32, std::uint64_t{48}}}),
             ContainsSubstring("is 48, expected"));
  CHECK(folder.names().empty());
}

TEST_CASE("gguf: values of every type", "[gguf]") {
  const scratch_folder folder;
  std::string pairs;
  const auto add = [&pairs](const std::string& key, int type, const std::string& value) {
    pairs += text(key) + u32(static_cast<std::uint64_t>(type)) + value;
  };
  add("u8", 0, "\xFF");
  add("i8", 1, "\xFE");
  add("u16", 2, "\xFF\xFF");
  add("i16", 3, number(0x8000, 2));
  add("u32", 4, u32(0xFFFFFFFF));
  add("i32", 5, u32(0xFFFFFFFD));
  add("f32", 6, u32(0xBFC00000));
  add("bool", 7, number(1, 1));
  add("string", 8, text("some words"));
  add("numbers", 9, u32(3) + u64(3) + "aabbcc");
  add("flags", 9, u32(7) + u64(2) + number(1, 1) + number(0, 1));
  add("words", 9, u32(8) + u64(2) + text("one") + text(""));
  add("u64", 10, u64(~std::uint64_t{0}));
  add("i64", 11, u64(~std::uint64_t{0}));
  add("f64", 12, u64(0x4009000000000000));
  add("general.alignment", 4, u32(8));
  const std::string head =
      "GGUF" + u32(3) + u64(2) + u64(16) + pairs + tensor("a", {3}, 24, 0) + tensor("b", {}, 26, 8);
  const std::string padding((8 - head.size() % 8) % 8, '\0');
  write_text(folder / "x.gguf", head + padding + "abc-----1234");
  const gguf_reader in = gguf_reader::open(folder / "x.gguf").value();
  const auto value = [&](const char* key) { return in.header().find(key)->value; };
  CHECK(std::get<std::uint64_t>(value("u8")) == 255);
  CHECK(std::get<std::int64_t>(value("i8")) == -2);
  CHECK(std::get<std::uint64_t>(value("u16")) == 65535);
  CHECK(std::get<std::int64_t>(value("i16")) == -32768);
  CHECK(std::get<std::uint64_t>(value("u32")) == 0xFFFFFFFF);
  CHECK(std::get<std::int64_t>(value("i32")) == -3);
  CHECK(std::get<double>(value("f32")) == -1.5);
  CHECK(std::get<bool>(value("bool")));
  CHECK(std::get<std::string>(value("string")) == "some words");
  CHECK(std::get<gguf_array>(value("numbers")) == gguf_array{gguf_type::i16, 3});
  CHECK(std::get<gguf_array>(value("flags")) == gguf_array{gguf_type::boolean, 2});
  CHECK(std::get<gguf_array>(value("words")) == gguf_array{gguf_type::string, 2});
  CHECK(std::get<std::uint64_t>(value("u64")) == ~std::uint64_t{0});
  CHECK(std::get<std::int64_t>(value("i64")) == -1);
  CHECK(std::get<double>(value("f64")) == 3.125);
  CHECK(in.header().alignment == 8);
  CHECK(data_of(in, "a") == "abc");
  CHECK(data_of(in, "b") == "1234");
  CHECK(in.find("b")->shape.empty());
}

TEST_CASE("gguf: what the reader refuses", "[gguf]") {
  REQUIRE(error_of(file(0, "", 1, one_tensor, one_data)) == "accepted");
  CHECK(error_of(file(0, "", 1, one_tensor, one_data.substr(0, 24))) == "accepted");  // the last padding may be absent
  CHECK(error_of(file(0, "", 0, "", "")) == "accepted");

  SECTION("the fixed part") {
    CHECK_THAT(error_of(""), ContainsSubstring("ends in the magic"));
    CHECK_THAT(error_of("GGML" + u32(3) + u64(0) + u64(0)), ContainsSubstring("'GGML', expected 'GGUF'"));
    CHECK_THAT(error_of("GGUF" + u32(2) + u64(0) + u64(0)), ContainsSubstring("version 2, expected 3"));
    CHECK_THAT(error_of("GGUF" + u32(0x03000000) + u64(0) + u64(0)), ContainsSubstring("big-endian"));
    CHECK_THAT(error_of("GGUF" + u32(3) + u64(0)), ContainsSubstring("ends in the number of pairs"));
    CHECK_THAT(error_of(file(1, "", 0, "", "")), ContainsSubstring("announces 1 pairs"));
    CHECK_THAT(error_of(file(std::uint64_t{1} << 62, "", 0, "", "")), ContainsSubstring("pairs, the 0 bytes behind"));
    CHECK_THAT(error_of(file(0, "", std::uint64_t{1} << 62, one_tensor, one_data)),
               ContainsSubstring("announces 4611686018427387904 tensors"));
  }
  SECTION("pairs") {
    const auto pair = [](const std::string& bytes) {
      return error_of(file(1, bytes + std::string(bytes.size() < 14 ? 14 - bytes.size() : 0, '\0'), 0, "", ""));
    };
    CHECK_THAT(pair(text("") + u32(4) + u32(1)), ContainsSubstring("a key is empty"));
    CHECK_THAT(pair(u64(std::uint64_t{1} << 40) + "k"), ContainsSubstring("1099511627776 bytes, expected at most"));
    CHECK_THAT(pair(u64(1000) + "k"), ContainsSubstring("ends in a key: 1000 bytes"));
    CHECK_THAT(pair(text("k") + u32(13) + u32(1)), ContainsSubstring("type 13, expected 0 to 12"));
    CHECK_THAT(pair(text("k") + u32(7) + number(2, 1)), ContainsSubstring("the boolean 2"));
    CHECK_THAT(pair(text("k") + u32(10) + u32(1)), ContainsSubstring("key 'k'"));
    CHECK_THAT(pair(text("k") + u32(8) + u64(2) + "x"), ContainsSubstring("ends in key 'k'"));
    CHECK_THAT(pair(text("k") + u32(9) + u32(9) + u64(1)), ContainsSubstring("array of arrays"));
    CHECK_THAT(pair(text("k") + u32(9) + u32(13) + u64(1)), ContainsSubstring("type 13"));
    CHECK_THAT(pair(text("k") + u32(9) + u32(4) + u64(std::uint64_t{1} << 61) + "xxxx"),
               ContainsSubstring("'k' elements, the 4 bytes behind that hold 1 at most"));
    CHECK_THAT(pair(text("k") + u32(9) + u32(7) + u64(2) + number(1, 1) + number(9, 1)),
               ContainsSubstring("boolean 9"));
    CHECK_THAT(pair(text("k") + u32(9) + u32(8) + u64(2) + text("a") + u64(7)), ContainsSubstring("ends in key 'k'"));
    CHECK_THAT(pair(text("general.alignment") + u32(10) + u64(32)), ContainsSubstring("type u64, expected u32"));
    CHECK_THAT(pair(text("general.alignment") + u32(4) + u32(0)), ContainsSubstring("is 0, expected a power of two"));
    CHECK_THAT(pair(text("general.alignment") + u32(4) + u32(24)), ContainsSubstring("is 24, expected a power of two"));
    const std::string twice = text("k") + u32(4) + u32(1);
    CHECK_THAT(error_of(file(2, twice + twice, 0, "", "")), ContainsSubstring("'k' is there twice"));
  }
  SECTION("tensors") {
    const auto one = [](const std::string& bytes) { return error_of(file(0, "", 1, bytes, one_data)); };
    CHECK_THAT(one(tensor(std::string(64, 'n'), {2, 3}, 0, 0)), ContainsSubstring("64 bytes, expected at most 63"));
    CHECK_THAT(one(tensor("w", {1, 1, 1, 1, 1}, 0, 0)), ContainsSubstring("5 dimensions"));
    CHECK_THAT(one(text("w") + u32(0x7FFFFFFF) + u64(0) + u64(0)), ContainsSubstring("2147483647 dimensions"));
    CHECK_THAT(one(tensor("w", {~std::uint64_t{0}}, 0, 0)), ContainsSubstring("expected less than 2^63"));
    CHECK_THAT(one(tensor("w", {1u << 31, 1u << 31, 4}, 0, 0)), ContainsSubstring("2^63 bits or more"));
    CHECK_THAT(one(tensor("w", {32}, 2, 0)), ContainsSubstring("ggml type 2, expected F32"));
    CHECK_THAT(one(tensor("w", {32}, 99, 0)), ContainsSubstring("ggml type 99"));
    CHECK_THAT(one(tensor("w", {16, 2}, 39, 0)), ContainsSubstring("[2, 16] of MXFP4"));
    CHECK_THAT(one(tensor("w", {2, 3}, 0, 32)), ContainsSubstring("begins at byte 32, expected 0"));
    CHECK_THAT(error_of(file(0, "", 2, tensor("w", {1}, 0, 0) + tensor("w", {1}, 0, 32), one_data + one_data)),
               ContainsSubstring("'w': is there twice"));
    CHECK_THAT(error_of(file(0, "", 2, tensor("v", {1}, 0, 0) + tensor("w", {1}, 0, 4), one_data + one_data)),
               ContainsSubstring("begins at byte 4, expected 32"));
    std::string many;  // 2^59 bytes each
    for (std::uint64_t i = 0; i < 16; ++i)
      many += tensor("w" + std::to_string(i), {std::uint64_t{1} << 59}, 24, i << 59);
    CHECK_THAT(error_of(file(0, "", 16, many, one_data)), ContainsSubstring("'w15': the data ends at byte 2^63"));
    CHECK_THAT(error_of(file(0, "", 15, many.substr(0, many.size() - tensor("w15", {1}, 24, 0).size()), one_data)),
               ContainsSubstring("the file was truncated"));
  }
  SECTION("the data") {
    CHECK_THAT(error_of(file(0, "", 1, one_tensor, one_data.substr(0, 23))),
               ContainsSubstring("the file was truncated"));
    CHECK_THAT(error_of(file(0, "", 1, one_tensor, "")), ContainsSubstring("the file was truncated"));
    CHECK_THAT(error_of(file(0, "", 1, one_tensor, one_data + "x")), ContainsSubstring("behind the last tensor"));
    CHECK_THAT(error_of(file(0, "", 0, "", std::string(32, '\0'))), ContainsSubstring("behind the last tensor"));
  }
}

TEST_CASE("gguf: cut anywhere, a file is refused", "[gguf]") {
  const std::string whole = file(1, text("k") + u32(9) + u32(8) + u64(1) + text("word"), 1, tensor("w", {32, 2}, 39, 0),
                                 std::string(34, 'x'));
  REQUIRE(error_of(whole) == "accepted");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    CHECK(error_of(whole.substr(0, n)) != "accepted");
  }
}

// tests/safetensors.reader.test.cpp -- what the reader takes, and what it refuses with which words.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/safetensors_reader.hpp"

#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "cli.support.hpp"

namespace {

using namespace mxfp4::io;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;

/// The message with which a file is refused, or "" for one that is taken.
std::string refusal(const std::string& path) {
  try {
    const safetensors_reader reader = safetensors_reader::open(path).value();
    return "";
  } catch (const file_error& error) {
    return error.what();
  }
}

std::string refusal_of_text(const std::string& text) {
  const scratch_folder folder;
  return refusal(write_text(folder / "x.safetensors", text));
}

/// Header of one tensor `t` with these fields.
std::string one(const std::string& fields) { return "{\"t\":{" + fields + "}}"; }

const std::string good_header =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
    R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";

struct bad_header {
  const char* why;
  std::string header;
  std::size_t data_bytes;
  const char* message;  ///< part of it
};

const bad_header bad_headers[] = {
    {"no header", "", 0, "begins with nothing"},
    {"an array", "[]", 0, "begins with '['"},
    {"a blank first", " {}", 0, "begins with ' '"},
    {"a byte order mark first", "\xEF\xBB\xBF{}", 0, "begins with"},
    {"not JSON", "{\"t\":}", 0, "not JSON at its byte 6"},
    {"open end", "{\"t\":{", 0, "not JSON"},
    {"something behind", "{} {}", 0, "not JSON"},
    {"a comment", "{/* */}", 0, "not JSON"},
    {"a trailing comma", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],)"), 1, "not JSON"},
    {"zero byte, after which nobody reads", std::string("{}\0garbage", 10), 0, "zero byte at its byte 2"},
    {"invalid UTF-8", "{\"\xC3(\":{}}", 0, "not JSON"},
    {"a tensor that is a number", "{\"t\":1}", 0, "tensor 't': is 1, expected an object"},
    {"a tensor that is null", "{\"t\":null}", 0, "tensor 't': is null"},
    {"a tensor that is a list", "{\"t\":[]}", 0, "tensor 't': is an array, expected an object"},
    {"two tensors of one name",
     "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
     2, "names 't' twice"},
    {"two names, one escaped",
     R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0074":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     2, "names 't' twice"},
    {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", 0, "names '__metadata__' twice"},
    {"metadata key twice", R"({"__metadata__":{"a":"1","a":"2"}})", 0, "__metadata__: 'a' is there twice"},
    {"metadata number", R"({"__metadata__":{"a":1}})", 0, "__metadata__: 'a' is 1, expected a string"},
    {"metadata object", R"({"__metadata__":{"a":{}}})", 0, "__metadata__: 'a' is an object, expected a string"},
    {"metadata string", R"({"__metadata__":"pt"})", 0, "__metadata__: is the string 'pt', expected an object"},
    {"no dtype", one(R"("shape":[1],"data_offsets":[0,1])"), 1, "tensor 't': has no dtype"},
    {"no shape", one(R"("dtype":"U8","data_offsets":[0,1])"), 1, "tensor 't': has no shape"},
    {"no offsets", one(R"("dtype":"U8","shape":[1])"), 1, "tensor 't': has no data_offsets"},
    {"unknown field", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"order":"C")"), 1, "a field 'order'"},
    {"dtype twice", one(R"("dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1])"), 1, "dtype is there twice"},
    {"shape twice", one(R"("dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1])"), 1, "shape is there twice"},
    {"offsets twice", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1])"), 1,
     "data_offsets is there twice"},
    {"unknown dtype", one(R"("dtype":"F5","shape":[1],"data_offsets":[0,1])"), 1, "dtype is 'F5', expected one of"},
    {"dtype in small letters", one(R"("dtype":"u8","shape":[1],"data_offsets":[0,1])"), 1, "dtype is 'u8'"},
    {"dtype a number", one(R"("dtype":8,"shape":[1],"data_offsets":[0,1])"), 1, "dtype is 8, expected a string"},
    {"dtype a list", one(R"("dtype":["U8"],"shape":[1],"data_offsets":[0,1])"), 1,
     "dtype is an array, expected a string"},
    {"shape a number", one(R"("dtype":"U8","shape":1,"data_offsets":[0,1])"), 1, "shape is 1, expected an array"},
    {"shape an object", one(R"("dtype":"U8","shape":{},"data_offsets":[0,1])"), 1, "shape is an object"},
    {"shape nested", one(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])"), 1, "shape holds an array"},
    {"shape negative", one(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), 1,
     "shape holds -1, expected unsigned"},
    {"shape a float", one(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"), 1,
     "shape holds 1.0, expected unsigned"},
    {"shape a string", one(R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])"), 1, "shape holds the string '1'"},
    {"shape true", one(R"("dtype":"U8","shape":[true],"data_offsets":[0,1])"), 1, "shape holds true"},
    {"shape 2^63", one(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1])"), 1,
     "expected less than 2^63"},
    {"shape that overflows", one(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0,
     "2^63 bits or more"},
    {"shape that wraps to 1", one(R"("dtype":"U8","shape":[3,6148914691236517205,5],"data_offsets":[0,1])"), 1,
     "2^63 bits or more"},
    {"empty shape that overflows", one(R"("dtype":"U8","shape":[4294967296,0,4294967296],"data_offsets":[0,0])"), 0,
     "2^63 bits or more"},
    {"offsets a string", one(R"("dtype":"U8","shape":[1],"data_offsets":"0,1")"), 1, "data_offsets is the string"},
    {"one offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[1])"), 1, "holds 1 numbers, expected 2"},
    {"three offsets", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,1])"), 1, "holds 3 numbers, expected 2"},
    {"negative offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[-1,0])"), 1,
     "data_offsets holds -1, expected unsigned"},
    {"negative zero", one(R"("dtype":"U8","shape":[1],"data_offsets":[-0,1])"), 1,
     "data_offsets holds 0, expected unsigned"},
    {"float offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1.0])"), 1,
     "data_offsets holds 1.0, expected unsigned"},
    {"exponent offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1e0])"), 1,
     "data_offsets holds 1e0, expected unsigned"},
    {"offset 2^64", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551616])"), 1,
     "data_offsets holds 18446744073709551616"},
    {"huge float offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1e999])"), 1, "not JSON"},
    {"offset 2^64 - 1", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615])"), 1,
     "hold 18446744073709551615 bytes, expected 1"},
    {"end before begin", one(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), 1, "[1, 0], expected begin <= end"},
    {"too few bytes", one(R"("dtype":"F32","shape":[2,2],"data_offsets":[0,12])"), 12,
     "[0, 12] hold 12 bytes, expected 16 for F32 [2, 2]"},
    {"too many bytes", one(R"("dtype":"F32","shape":[2,2],"data_offsets":[0,20])"), 20, "expected 16"},
    {"half a byte", one(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), 2,
     "12 bits, expected a whole number of bytes"},
    {"six bits", one(R"("dtype":"F6_E2M3","shape":[2],"data_offsets":[0,2])"), 2, "12 bits"},
    {"a hole at the beginning", one(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), 2,
     "begins at byte 1, expected 0"},
    {"a hole",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})", 3,
     "there is a hole"},
    {"an overlap",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3,
     "they overlap"},
    {"the same place twice",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2,
     "they overlap"},
    {"an empty one inside another",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})", 2,
     "they overlap"},
    {"data that is not there", one(R"("dtype":"U8","shape":[9],"data_offsets":[0,9])"), 8,
     "end at byte 9 of the data, the file holds 8 bytes of it: the file was truncated"},
    {"data behind the last", one(R"("dtype":"U8","shape":[9],"data_offsets":[0,9])"), 10,
     "something behind the last tensor"},
    {"data without a tensor", "{}", 1, "something behind the last tensor"},
};

}  // namespace

TEST_CASE("safetensors reader: a good file", "[safetensors]") {
  const scratch_folder folder;
  const std::string data = "abcdefghXYZ";
  const safetensors_reader reader =
      safetensors_reader::open(write_text(folder / "good", safetensors_text(good_header + "   ", data))).value();
  REQUIRE(reader.header().tensors.size() == 2);
  CHECK(reader.header().extra == metadata{{"format", "pt"}});
  const tensor_info* b = reader.find("b");
  REQUIRE(b != nullptr);
  CHECK(b->type == dtype::u8);
  CHECK(b->shape == std::vector<std::int64_t>{3});
  std::string bytes(2, '?');
  reader.read(*b, 1, std::as_writable_bytes(std::span(bytes))).value();
  CHECK(bytes == "YZ");
  CHECK_THROWS_WITH(reader.read(*b, 2, std::as_writable_bytes(std::span(bytes))).value(),
                    ContainsSubstring("stay within 3"));
  CHECK_THROWS_AS(reader.read(*b, ~std::uint64_t{0}, std::as_writable_bytes(std::span(bytes))).value(), file_error);
  CHECK(reader.find("c") == nullptr);
}

TEST_CASE("safetensors reader: legal but unusual", "[safetensors]") {
  struct row {
    const char* why;
    std::string header;
    std::size_t data_bytes;
    std::size_t tensors;
  };
  const row rows[] = {
      {"no tensors", "{}", 0, 0},
      {"padding", "{}      ", 0, 0},
      {"0-dim", one(R"("dtype":"F32","shape":[],"data_offsets":[0,4])"), 4, 1},
      {"empty", one(R"("dtype":"F32","shape":[0],"data_offsets":[0,0])"), 0, 1},
      {"empty with a large rest", one(R"("dtype":"U8","shape":[0,1152921504606846975],"data_offsets":[0,0])"), 0, 1},
      {"empty between others",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"e":{"dtype":"F32","shape":[3,0],"data_offsets":[1,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, 3},
      {"data in another order than the header",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       2, 2},
      {"four bits", one(R"("dtype":"F4","shape":[3,2],"data_offsets":[0,3])"), 3, 1},
      {"six bits", one(R"("dtype":"F6_E3M2","shape":[4],"data_offsets":[0,3])"), 3, 1},
      {"the empty name", R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, 1},
      {"escapes", R"({"\u00e4\"\\\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, 1},
      {"empty metadata", R"({"__metadata__":{}})", 0, 0},
  };
  for (const row& r : rows) {
    CAPTURE(r.why, r.header);
    const scratch_folder folder;
    const std::string path = write_text(folder / "x", safetensors_text(r.header, std::string(r.data_bytes, 'x')));
    CHECK(refusal(path) == "");
    if (refusal(path).empty()) CHECK(safetensors_reader::open(path).value().header().tensors.size() == r.tensors);
  }
}

TEST_CASE("safetensors reader: every dtype has its size", "[safetensors]") {
  struct row {
    const char* name;
    int bits;
  };
  const row rows[] = {{"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
                      {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
                      {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
                      {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
                      {"I64", 64},        {"U64", 64}};
  REQUIRE(std::size(rows) == static_cast<std::size_t>(dtype_count));
  for (const auto& [name, bits] : rows) {
    CAPTURE(name);
    const int bytes = 8 * bits / 8;  // of 8 elements
    const std::string fields = std::string("\"dtype\":\"") + name + "\",\"shape\":[8],\"data_offsets\":[0,";
    CHECK(refusal_of_text(safetensors_text(one(fields + std::to_string(bytes) + "]"),
                                           std::string(static_cast<std::size_t>(bytes), 'x'))) == "");
    CHECK(refusal_of_text(safetensors_text(one(fields + std::to_string(bytes + 1) + "]"),
                                           std::string(static_cast<std::size_t>(bytes) + 1, 'x'))) != "");
  }
}

TEST_CASE("safetensors reader: bad headers", "[safetensors]") {
  for (const auto& [why, header, data_bytes, message] : bad_headers) {
    CAPTURE(why, header);
    const std::string said = refusal_of_text(safetensors_text(header, std::string(data_bytes, 'x')));
    CHECK_THAT(said, ContainsSubstring(message));
    CHECK_THAT(said, ContainsSubstring("x.safetensors: "));
  }
}

TEST_CASE("safetensors reader: a file cut after any byte, or longer than it says", "[safetensors]") {
  const std::string whole = safetensors_text(good_header, "abcdefghXYZ");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK(refusal_of_text(whole.substr(0, length)) != "");
  }
  CHECK(refusal_of_text(whole) == "");
  CHECK(refusal_of_text(whole + "x") != "");
}

TEST_CASE("safetensors reader: every byte of the header changed to every other", "[safetensors]") {
  // Taken or refused, never a crash; and what is taken covers the data.
  const std::string whole = safetensors_text(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "xy");
  for (std::size_t at = 0; at + 2 < whole.size(); ++at)
    for (int value = 0; value < 256; ++value) {
      std::string text = whole;
      text[at] = static_cast<char>(value);
      if (at < 8) {
        if (text == whole) continue;
        const scratch_folder folder;
        CHECK(refusal(write_text(folder / "x", text)) != "");
      } else {
        try {
          const safetensors_header header =
              parse_header(std::string_view(text).substr(8, text.size() - 10), 2, "x").value();
          std::uint64_t bytes = 0;
          for (const tensor_info& t : header.tensors) bytes += t.bytes();
          if (bytes != 2) FAIL("taken: " << text.substr(8));
        } catch (const file_error&) {
        }
      }
    }
}

TEST_CASE("safetensors reader: lying lengths", "[safetensors]") {
  const auto with_length = [](std::uint64_t length) {
    std::string text = safetensors_text("{}", "");
    for (unsigned i = 0; i < 8; ++i) text[i] = static_cast<char>(length >> (8 * i) & 0xFF);
    return refusal_of_text(text);
  };
  CHECK_THAT(with_length(3), ContainsSubstring("length is 3, the file holds 2 bytes behind it"));
  CHECK_THAT(with_length(100'000'000), ContainsSubstring("truncated"));
  CHECK_THAT(with_length(100'000'001), ContainsSubstring("expected at most 100000000"));
  CHECK_THAT(with_length(~std::uint64_t{0}), ContainsSubstring("18446744073709551615, expected at most"));
  CHECK_THAT(with_length(~std::uint64_t{0} - 7), ContainsSubstring("expected at most"));
}

TEST_CASE("safetensors reader: what is no file", "[safetensors]") {
  const scratch_folder folder;
  CHECK_THAT(refusal(folder / "nothing"), ContainsSubstring("cannot open for reading: No such file"));
  CHECK_THAT(refusal(folder / ""), ContainsSubstring("not a regular file"));
  CHECK_THAT(refusal("/dev/null"), ContainsSubstring("not a regular file"));
  REQUIRE(mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK_THAT(refusal(folder / "fifo"), ContainsSubstring("not a regular file"));
}

TEST_CASE("safetensors reader: a file that shrinks while it is read", "[safetensors]") {
  const scratch_folder folder;
  const std::string path = write_text(folder / "x", safetensors_text(good_header, "abcdefghXYZ"));
  const safetensors_reader reader = safetensors_reader::open(path).value();
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 2);
  std::string bytes(3, '?');
  CHECK_THROWS_WITH(reader.read(*reader.find("b"), 0, std::as_writable_bytes(std::span(bytes))).value(),
                    ContainsSubstring("shortened while it was read"));
  std::filesystem::remove(path);  // a file without a name is still a file
  bytes.resize(1);
  reader.read(*reader.find("b"), 0, std::as_writable_bytes(std::span(bytes))).value();
  CHECK(bytes == "X");
}

TEST_CASE("names in messages cannot drive a terminal", "[safetensors]") {
  CHECK(quote_name("a.weight") == "'a.weight'");
  CHECK(quote_name("\x1b[2J\n\x7f") == "'\\x1b[2J\\x0a\\x7f'");
  CHECK(quote_name(std::string(300, 'x')) == "'" + std::string(200, 'x') + "...'");
}

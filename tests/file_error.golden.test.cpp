// tests/file_error.golden.test.cpp -- what errors of file code say, part by part; file_result<T>.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint.support.hpp"
#include "mxfp4/checkpoint/plan.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/checkpoint/stored_tensor.hpp"
#include "mxfp4/checkpoint/tensor_summary.hpp"
#include "mxfp4/io/error.hpp"
#include "mxfp4/io/file.hpp"
#include "mxfp4/io/gguf_file.hpp"
#include "support/last_words.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using namespace mxfp4::test;

/// All parts and the sentence; a test shows the one that differs.
void check_error(const file_error& error, const fault& expected, const std::string& sentence) {
  CHECK(error.file() == expected.file);
  CHECK(error.tensor() == expected.tensor);
  CHECK(error.value() == expected.value);
  CHECK(error.expected() == expected.expected);
  CHECK(error.advice() == expected.advice);
  CHECK(error.interrupted() == expected.interrupted);
  CHECK(error.what() == sentence);
}

/// The error of a result, which must be one, and that value() throws the same.
template <class T>
file_error error_of(const file_result<T>& result) {
  REQUIRE(!result);
  try {
    static_cast<void>(result.value());
  } catch (const file_error& thrown) {
    const file_error& error = result.error();
    check_error(thrown, error.parts(), error.what());
    return error;
  }
  FAIL("value() of a result without one threw nothing");
  return file_error({});
}

/// A safetensors file of one tensor `t`.
std::string write_one(const std::string& path, const std::string& type, const std::string& shape, std::size_t bytes) {
  const std::string header =
      R"({"t":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":[0,)" + std::to_string(bytes) + "]}}";
  return write_text(path, safetensors_text(header, std::string(bytes, '\0')));
}

const std::string expert = "model.layers.0.mlp.experts.0.w1.weight";

}  // namespace

TEST_CASE("file_error: a sentence of the parts that are there", "[file_error]") {
  CHECK(file_error({.value = "is empty"}).what() == std::string("is empty"));
  CHECK(file_error({.file = "a", .value = "is empty"}).what() == std::string("a: is empty"));
  CHECK(file_error({.tensor = "t", .value = "is F16"}).what() == std::string("tensor 't': is F16"));
  CHECK(file_error({.value = "is F16", .expected = "F32"}).what() == std::string("is F16, expected F32"));
  CHECK(file_error({.value = "is F16", .advice = "widen it"}).what() == std::string("is F16: widen it"));
  check_error(
      file_error({.file = "m.safetensors", .tensor = "t", .value = "is F16", .expected = "F32", .advice = "widen it"}),
      {.file = "m.safetensors", .tensor = "t", .value = "is F16", .expected = "F32", .advice = "widen it"},
      "m.safetensors: tensor 't': is F16, expected F32: widen it");
}

TEST_CASE("file_error: a sentence cannot drive a terminal, its parts are as they were", "[file_error]") {
  struct row {
    const char* why;
    std::string raw, shown;
  };
  const row rows[] = {
      {"plain", "weights of 1.5 \"GB\"", "weights of 1.5 \"GB\""},
      {"other scripts", "\xC3\xA9 \xE6\xA8\xA1 \xF0\x9F\x98\x80", "\xC3\xA9 \xE6\xA8\xA1 \xF0\x9F\x98\x80"},
      {"C0", std::string("\0\x1b[2J\n\x1f", 7), R"(\x00\x1b[2J\x0a\x1f)"},
      {"DEL", "\x7f", R"(\x7f)"},
      {"C1: U+0080, U+009B, U+009F", "\xC2\x80\xC2\x9B\xC2\x9F", R"(\xc2\x80\xc2\x9b\xc2\x9f)"},
      {"the first after C1", "\xC2\xA0", "\xC2\xA0"},
      {"U+061C, U+200E, U+200F", "\xD8\x9C\xE2\x80\x8E\xE2\x80\x8F", R"(\xd8\x9c\xe2\x80\x8e\xe2\x80\x8f)"},
      {"U+2028 and U+2029, lines and paragraphs", "\xE2\x80\xA8\xE2\x80\xA9", R"(\xe2\x80\xa8\xe2\x80\xa9)"},
      {"U+202A, U+202E", "\xE2\x80\xAA\xE2\x80\xAE", R"(\xe2\x80\xaa\xe2\x80\xae)"},
      {"U+2066, U+2069", "\xE2\x81\xA6\xE2\x81\xA9", R"(\xe2\x81\xa6\xe2\x81\xa9)"},
      {"beside them: U+200D, U+202F, U+2065, U+206A", "\xE2\x80\x8D\xE2\x80\xAF\xE2\x81\xA5\xE2\x81\xAA",
       "\xE2\x80\x8D\xE2\x80\xAF\xE2\x81\xA5\xE2\x81\xAA"},
      {"a byte that begins no character", "a\xFF\x80z", R"(a\xff\x80z)"},
      {"a character that ends too soon", "\xE2\x80z\xC3", R"(\xe2\x80z\xc3)"},
      {"overlong: / in two bytes, U+07FF in three", "\xC0\xAF\xE0\x9F\xBF", R"(\xc0\xaf\xe0\x9f\xbf)"},
      {"half of a surrogate pair", "\xED\xA0\x80", R"(\xed\xa0\x80)"},
      {"above U+10FFFF", "\xF4\x90\x80\x80\xF5", R"(\xf4\x90\x80\x80\xf5)"},
  };
  for (const auto& [why, raw, shown] : rows) {
    CAPTURE(why);
    const file_error error({.file = raw, .tensor = raw, .value = raw, .expected = raw, .advice = raw});
    CHECK(error.what() == shown + ": tensor '" + shown + "': " + shown + ", expected " + shown + ": " + shown);
    CHECK((error.file() == raw && error.tensor() == raw && error.value() == raw && error.expected() == raw &&
           error.advice() == raw));
    CHECK(quote_name(raw) == "'" + shown + "'");
  }
}

TEST_CASE("file_error: a part is cut between characters", "[file_error]") {
  const std::string whole(1000, 'x');
  CHECK(file_error({.value = whole}).what() == whole);
  CHECK(file_error({.value = whole + "y"}).what() == whole + "...");
  CHECK(file_error({.value = whole + "y"}).value() == whole + "y");
  const std::string smile = "\xF0\x9F\x98\x80";
  CHECK(file_error({.value = std::string(996, 'x') + smile}).what() == std::string(996, 'x') + smile);
  for (std::size_t n : {997u, 998u, 999u})
    CHECK(file_error({.value = std::string(n, 'x') + smile}).what() == std::string(n, 'x') + "...");
  CHECK(file_error({.file = whole + "y", .value = "v", .advice = whole + "y"}).what() ==
        whole + "...: v: " + whole + "...");
  CHECK(file_error({.tensor = whole, .value = "v"}).what() == "tensor '" + std::string(200, 'x') + "...': v");
}

TEST_CASE("file_result: a value, or why there is none", "[file_error]") {
  file_result<std::unique_ptr<int>> good = std::make_unique<int>(7);  // moved only
  REQUIRE(good);
  CHECK(**good == 7);
  CHECK(*good->get() == 7);
  CHECK(*good.value() == 7);
  CHECK(*std::as_const(good).value() == 7);
  const std::unique_ptr<int> taken = std::move(good).value();
  CHECK(*taken == 7);
  CHECK_NOTHROW(file_result<void>().value());
  CHECK(file_result<void>());

  const fault why{.file = "f", .tensor = "t", .value = "v", .expected = "e", .advice = "a", .interrupted = true};
  check_error(error_of(file_result<int>(file_error(why))), why, "f: tensor 't': v, expected e: a");
  check_error(error_of(file_result<void>(file_error(why))), why, "f: tensor 't': v, expected e: a");
  CHECK_THROWS_AS(file_result<std::string>(file_error(why)).value(), file_error);
}

#if !defined(NDEBUG)
TEST_CASE("file_result: a value that is not there ends the program with the true cause", "[file_error]") {
  file_result<std::string> bad = file_error({.file = "f", .value = "is empty"});
  const std::string words = "mxfp4: a result was used that holds no value: f: is empty\n";
  CHECK(last_words([&] { static_cast<void>(*bad); }) == words);
  CHECK(last_words([&] { static_cast<void>(*std::as_const(bad)); }) == words);
  CHECK(last_words([&] { static_cast<void>(*std::move(bad)); }) == words);
  CHECK(last_words([&] { static_cast<void>(bad->size()); }) == words);
  CHECK(last_words([&] { static_cast<void>(std::as_const(bad)->size()); }) == words);
}
#endif

TEST_CASE("errors of files name file, tensor, value and what was expected", "[file_error]") {
  const scratch_folder folder;

  SECTION("no file") {
    const std::string path = folder / "x.safetensors";
    check_error(error_of(safetensors_reader::open(path)),
                {.file = path, .value = "cannot open for reading: No such file or directory"},
                path + ": cannot open for reading: No such file or directory");
  }
  SECTION("a type that there is not") {
    const std::string path = write_one(folder / "x.safetensors", "F5", "[4]", 4);
    check_error(error_of(safetensors_reader::open(path)),
                {.file = path,
                 .tensor = "t",
                 .value = "dtype is 'F5'",
                 .expected = "one of BOOL, F4, U8, F8_E4M3, BF16, F16, F32 and so on"},
                path + ": tensor 't': dtype is 'F5', expected one of BOOL, F4, U8, F8_E4M3, BF16, F16, F32 and so on");
  }
  SECTION("a type that a tensor of that size cannot have") {
    const std::string path = write_one(folder / "x.safetensors", "F32", "[4]", 8);
    check_error(
        error_of(safetensors_reader::open(path)),
        {.file = path, .tensor = "t", .value = "data_offsets [0, 8] hold 8 bytes", .expected = "16 for F32 [4]"},
        path + ": tensor 't': data_offsets [0, 8] hold 8 bytes, expected 16 for F32 [4]");
  }
  SECTION("a file that was truncated") {
    const std::string path = write_one(folder / "x.safetensors", "U8", "[8]", 8);
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 3);
    check_error(error_of(safetensors_reader::open(path)),
                {.file = path,
                 .value = "the tensors end at byte 8 of the data, the file holds 5 bytes of it",
                 .advice = "the file was truncated"},
                path + ": the tensors end at byte 8 of the data, the file holds 5 bytes of it: the file was truncated");
  }
  SECTION("more of a tensor than there is") {
    const std::string path = write_one(folder / "x.safetensors", "U8", "[8]", 8);
    const safetensors_reader file = safetensors_reader::open(path).value();
    std::vector<std::byte> bytes(4);
    check_error(error_of(file.read(*file.find("t"), 5, bytes)),
                {.file = path, .tensor = "t", .value = "read of 4 bytes at 5", .expected = "to stay within 8"},
                path + ": tensor 't': read of 4 bytes at 5, expected to stay within 8");
  }
  SECTION("GGUF that is none") {
    const std::string path = write_text(folder / "x.gguf", "GGML and more than twenty-four bytes");
    check_error(
        error_of(gguf_reader::open(path)),
        {.file = path, .value = "begins with 'GGML'", .expected = "'GGUF'", .advice = "this is not a GGUF file"},
        path + ": begins with 'GGML', expected 'GGUF': this is not a GGUF file");
  }
  SECTION("sizes have no file") {
    check_error(error_of(tensor_bytes(dtype::f4, {3})),
                {.value = "shape [3] of F4 has 12 bits", .expected = "a whole number of bytes"},
                "shape [3] of F4 has 12 bits, expected a whole number of bytes");
  }
}

TEST_CASE("errors of checkpoints name file, tensor, value and what was expected", "[file_error]") {
  const scratch_folder folder;
  const std::string in = write_checkpoint(
      folder / "in", {{"model-00001-of-00001.safetensors", {{{"t", dtype::u8, {2}, 0, 2}, std::string(2, '\0')}}}});
  const std::string index = in + "/model.safetensors.index.json";

  SECTION("an index that leads out of the directory") {
    write_text(index, R"({"weight_map":{"t":"../x.safetensors"}})");
    check_error(error_of(checkpoint_reader::open(in)),
                {.file = index,
                 .tensor = "t",
                 .value = "is in '../x.safetensors'",
                 .expected = "the name of a .safetensors file in the same directory",
                 .advice = "correct the index"},
                index +
                    ": tensor 't': is in '../x.safetensors', expected the name of a .safetensors file in the same "
                    "directory: correct the index");
  }
  SECTION("an index that names a tensor which is not there") {
    write_text(index,
               R"({"weight_map":{"t":"model-00001-of-00001.safetensors","u":"model-00001-of-00001.safetensors"}})");
    const std::string shard = in + "/model-00001-of-00001.safetensors";
    check_error(error_of(checkpoint_reader::open(in)),
                {.file = shard,
                 .tensor = "u",
                 .value = "is missing",
                 .expected = "it, as the index says",
                 .advice = "download both again"},
                shard + ": tensor 'u': is missing, expected it, as the index says: download both again");
  }
  SECTION("a type that cannot be summed up") {
    const checkpoint_reader reader = checkpoint_reader::open(in).value();
    check_error(
        error_of(summarize(reader, stored_tensors(reader).at(0))),
        {.file = in, .tensor = "t", .value = "is U8", .expected = "MXFP4, F32, F16, BF16 or F8_E4M3 for statistics"},
        in + ": tensor 't': is U8, expected MXFP4, F32, F16, BF16 or F8_E4M3 for statistics");
  }
  SECTION("config.json: none, an empty one") {
    CHECK(checkpoint_reader::open(in).value().config_text().value() == R"({"model_type":"test"})");
    write_text(in + "/config.json", "");
    CHECK(checkpoint_reader::open(in).value().config_text().value() == "");
    std::filesystem::remove(in + "/config.json");
    CHECK_FALSE(checkpoint_reader::open(in).value().config_text().value());
  }
}

TEST_CASE("errors of quantising name the weights", "[file_error]") {
  const scratch_folder folder;
  const std::string in = folder / "in.safetensors", out = folder / "out.safetensors";
  std::vector<tensor> tensors(1);
  tensors[0].info = {expert, dtype::f32, {2, 32}, 0, 256};
  checkpoint::quantize_file_options options;

  SECTION("FP8 whose scales are of another type") {
    tensors[0].info = {expert, dtype::f8_e4m3, {2, 32}, 0, 64};
    tensors[0].data = std::string(64, '\0');
    tensors.push_back({{expert + "_scale_inv", dtype::i16, {1, 1}, 0, 2}, std::string(2, '\0')});
    write_shard(in, tensors);
    check_error(
        error_of(quantize_file(in, out, options)),
        {.file = in,
         .tensor = expert,
         .value = "is the weight of an expert and cannot be quantised: its scales '" + expert +
                  "_scale_inv' are I16 [1, 1], not F32 [1, 1] for blocks of 128 x 128, nor one for each row or for all",
         .advice = "leave it out with --exclude"},
        in + ": tensor '" + expert + "': is the weight of an expert and cannot be quantised: its scales '" + expert +
            "_scale_inv' are I16 [1, 1], not F32 [1, 1] for blocks of 128 x 128, nor one for each row or for all: "
            "leave "
            "it out with --exclude");
  }
  SECTION("NaN") {
    std::vector<float> w(64, 1.0f);
    w[37] = std::nanf("");
    tensors[0].data = bytes_of(w);
    write_shard(in, tensors);
    check_error(error_of(quantize_file(in, out, options)),
                {.file = in,
                 .tensor = expert,
                 .value = "weight [1, 5] is NaN or infinite",
                 .expected = "finite weights",
                 .advice = "repair it, or allow it with --nonfinite encode"},
                in + ": tensor '" + expert +
                    "': weight [1, 5] is NaN or infinite, expected finite weights: repair it, or allow it with "
                    "--nonfinite encode");
  }
  SECTION("a run that is told to stop") {
    tensors[0].data = bytes_of(std::vector<float>(64, 1.0f));
    write_shard(in, tensors);
    options.stop = [] { return true; };
    const file_error error = error_of(quantize_file(in, out, options));
    check_error(error, {.file = out, .value = "interrupted, nothing was written", .interrupted = true},
                out + ": interrupted, nothing was written");
  }
  CHECK(folder.names() == std::vector<std::string>{"in.safetensors"});
}

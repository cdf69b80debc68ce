// tests/safetensors.writer.test.cpp -- the bytes of a written file, and that a failure leaves nothing behind.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/safetensors_writer.hpp"

#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <string>
#include <vector>

#include "cli.support.hpp"
#include "mxfp4/io/byte_order.hpp"
#include "mxfp4/io/safetensors_reader.hpp"

namespace {

using namespace mxfp4::io;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
using names = std::vector<std::string>;

/// RLIMIT_FSIZE and its signal, as they were afterwards: a full disk without a disk.
class file_size_limit {
 public:
  explicit file_size_limit(rlim_t size) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{size, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~file_size_limit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

}  // namespace

TEST_CASE("safetensors writer: the file, byte for byte", "[safetensors]") {
  const scratch_folder folder;
  const std::string path = folder / "x.safetensors";
  {
    safetensors_writer out =
        safetensors_writer::create(
            path, {{"b", dtype::u8, {3}}, {"a", dtype::u8, {1, 2}}, {"w", dtype::f32, {}}, {"e", dtype::bf16, {0, 7}}},
            metadata{{"format", "pt"}})
            .value();
    out.append("a", bytes("A")).value();  // tensors take turns
    out.append("w", bytes("wxyz")).value();
    out.append("b", bytes("123")).value();
    out.append("a", bytes("B")).value();
    CHECK(folder.names().size() == 1);
    CHECK_FALSE(std::filesystem::exists(path));
    out.commit().value();
  }
  // F32 before BF16 before U8, then by name; blanks up to a multiple of 8.
  std::string header = R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                       R"("e":{"dtype":"BF16","shape":[0,7],"data_offsets":[4,4]},)"
                       R"("a":{"dtype":"U8","shape":[1,2],"data_offsets":[4,6]},)"
                       R"("b":{"dtype":"U8","shape":[3],"data_offsets":[6,9]}})";
  while (header.size() % 8 != 0) header += ' ';
  CHECK(read_text(path) == safetensors_text(header, "wxyzAB123"));
  CHECK(folder.names() == names{"x.safetensors"});
}

TEST_CASE("safetensors writer: the order of every dtype keeps data aligned", "[safetensors]") {
  std::vector<tensor_info> tensors;
  for (int i = 0; i < dtype_count; ++i) {
    const auto type = static_cast<dtype>(i);
    tensors.push_back({dtype_name(type), type, {8}});
  }
  const scratch_folder folder;
  const safetensors_writer out = safetensors_writer::create(folder / "x", tensors, std::nullopt).value();
  REQUIRE(out.header().tensors.size() == static_cast<std::size_t>(dtype_count));
  CHECK(out.header().tensors.front().name == "U64");
  CHECK(out.header().tensors.back().name == "BOOL");
  for (const tensor_info& t : out.header().tensors) {
    CAPTURE(t.name);
    if (dtype_bits(t.type) >= 8) CHECK(t.begin % (static_cast<std::uint64_t>(dtype_bits(t.type)) / 8) == 0);
  }
  CHECK(format_header(out.header()).size() % 8 == 0);
}

TEST_CASE("safetensors writer: what it writes, the reader reads", "[safetensors]") {
  const scratch_folder folder;
  const std::string odd_name = "\xC3\xA4 \"quoted\" \\ \n \x01 end";
  for (std::size_t padding = 0; padding < 9; ++padding) {
    const std::string path = folder / "x";
    const metadata extra = {{odd_name, odd_name}, {"pad", std::string(padding, 'p')}};
    {
      safetensors_writer out =
          safetensors_writer::create(path, {{odd_name, dtype::f4, {4, 2}}, {"f", dtype::f64, {1}}}, extra).value();
      out.append(odd_name, bytes("abcd")).value();
      out.append("f", bytes("12345678")).value();
      CHECK(out.file_bytes() % 8 == 4);
      out.commit().value();
    }
    const safetensors_reader in = safetensors_reader::open(path).value();
    CHECK(in.header().extra == extra);
    REQUIRE(in.find(odd_name) != nullptr);
    CHECK(in.find(odd_name)->shape == std::vector<std::int64_t>{4, 2});
    std::string data(4, '?');
    in.read(*in.find(odd_name), 0, std::as_writable_bytes(std::span(data))).value();
    CHECK(data == "abcd");
  }
}

TEST_CASE("safetensors writer: what it refuses", "[safetensors]") {
  const scratch_folder folder;
  const std::string path = folder / "x";
  const auto plan = [&](std::vector<tensor_info> tensors) {
    safetensors_writer::create(path, std::move(tensors), std::nullopt).value();
  };
  CHECK_THROWS_WITH(plan({{"a", dtype::u8, {1}}, {"a", dtype::f32, {1}}}),
                    ContainsSubstring("tensor 'a': is there twice"));
  CHECK_THROWS_WITH(plan({{"__metadata__", dtype::u8, {1}}}), ContainsSubstring("the format's own"));
  CHECK_THROWS_WITH(plan({{"a", dtype::f4, {1}}}), ContainsSubstring("whole number of bytes"));
  CHECK_THROWS_WITH(plan({{"a", dtype::f32, {std::int64_t{1} << 40, std::int64_t{1} << 40}}}),
                    ContainsSubstring("2^63 bits"));
  {
    safetensors_writer out = safetensors_writer::create(path, {{"a", dtype::u8, {2}}}, std::nullopt).value();
    CHECK_THROWS_WITH(out.append("b", bytes("x")).value(), ContainsSubstring("'b': is not in the header"));
    CHECK_THROWS_WITH(out.append("a", bytes("xyz")).value(), ContainsSubstring("3 bytes were written, expected 2"));
    out.append("a", bytes("x")).value();
    CHECK_THROWS_WITH(out.commit().value(), ContainsSubstring("tensor 'a': 1 bytes were written, expected 2"));
  }
  CHECK(folder.names().empty());
}

TEST_CASE("safetensors writer: an output that cannot be", "[safetensors]") {
  const scratch_folder folder;
  const auto write = [](const std::string& path) {
    safetensors_writer out = safetensors_writer::create(path, {{"a", dtype::u8, {1}}}, std::nullopt).value();
    out.append("a", bytes("x")).value();
    out.commit().value();
  };
  CHECK_THROWS_WITH(write(folder / "no/such/folder/x"), ContainsSubstring("cannot create the file: No such file"));
  CHECK_THROWS_WITH(write(folder / ""), ContainsSubstring("not a regular file"));
  CHECK_THROWS_WITH(write(""), ContainsSubstring("has no name"));
  CHECK(folder.names().empty());
  if (geteuid() != 0) {
    REQUIRE(chmod((folder / "").c_str(), 0500) == 0);
    CHECK_THROWS_WITH(write(folder / "x"), ContainsSubstring("Permission denied"));
    REQUIRE(chmod((folder / "").c_str(), 0700) == 0);
  }
}

TEST_CASE("safetensors writer: a full disk leaves the old file and no other", "[safetensors]") {
  const scratch_folder folder;
  const std::string path = write_text(folder / "x", "old");
  const std::string kilobyte(1000, 'k');
  for (const rlim_t room : {rlim_t{0}, rlim_t{100}, rlim_t{1500}}) {
    CAPTURE(room);
    const auto fill = [&] {
      const file_size_limit limit(room);
      safetensors_writer out = safetensors_writer::create(path, {{"a", dtype::u8, {2000}}}, std::nullopt).value();
      out.append("a", bytes(kilobyte)).value();
      out.append("a", bytes(kilobyte)).value();
      out.commit().value();
    };
    CHECK_THROWS_WITH(fill(), ContainsSubstring("cannot write") && ContainsSubstring("File too large"));
    CHECK(folder.names() == names{"x"});
    CHECK(read_text(path) == "old");
  }
}

TEST_CASE("safetensors writer: a symbolic link stays one", "[safetensors]") {
  const scratch_folder folder;
  std::filesystem::create_symlink("target", folder / "link");
  {
    safetensors_writer out = safetensors_writer::create(folder / "link", {}, std::nullopt).value();
    out.commit().value();
  }
  std::filesystem::create_symlink("circle", folder / "circle");
  CHECK_THROWS_WITH(safetensors_writer::create(folder / "circle", {}, std::nullopt).value(),
                    ContainsSubstring("leads to itself"));
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_text(folder / "target") == safetensors_text("{}      ", ""));
}

TEST_CASE("output files that belong together appear together", "[safetensors]") {
  const scratch_folder folder;
  {
    output_file a = output_file::create(folder / "a").value(), b = output_file::create(folder / "b").value();
    a.write(0, bytes("A")).value();
    b.write(0, bytes("B")).value();
    std::filesystem::create_directory(folder / "b");  // after the check: the second rename fails
    CHECK_THROWS_WITH(output_file::commit_all({&a, &b}).value(), ContainsSubstring("cannot rename"));
  }
  CHECK(folder.names() == names{"b"});
  std::filesystem::remove(folder / "b");
  {
    output_file a = output_file::create(folder / "a").value(), b = output_file::create(folder / "b").value();
    b.write(1, bytes("B")).value();
    output_file::commit_all({&a, &b}).value();
  }
  CHECK(folder.names() == names{"a", "b"});
  CHECK(read_text(folder / "b") == std::string("\0B", 2));
}

TEST_CASE("a request to stop ends the writing", "[safetensors]") {
  const scratch_folder folder;
  {
    bool stop = false;
    output_file out = output_file::create(folder / "x", [&stop] { return stop; }).value();
    out.write(0, bytes("1")).value();
    stop = true;
    for (const file_result<void>& result : {out.write(1, bytes("2")), out.commit()}) {
      REQUIRE(!result);
      CHECK(result.error().interrupted());
      CHECK(result.error().file() == folder / "x");
    }
  }
  CHECK(folder.names().empty());
}

TEST_CASE("byte order of the file", "[safetensors]") {
  std::string text = "abcdefgh";
  reverse_elements(std::as_writable_bytes(std::span(text)), 4);
  CHECK(text == "dcbahgfe");
  reverse_elements(std::as_writable_bytes(std::span(text)), 2);
  CHECK(text == "cdabghef");
  std::string length(8, '\0');
  store_u64(0x0102030405060708u, std::as_writable_bytes(std::span(length)).first<8>());
  CHECK(length == "\x08\x07\x06\x05\x04\x03\x02\x01");
  CHECK(load_u64(std::as_bytes(std::span(length)).first<8>()) == 0x0102030405060708u);
}

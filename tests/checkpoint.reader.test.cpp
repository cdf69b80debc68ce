// tests/checkpoint.reader.test.cpp -- which tensors and files a checkpoint's directory has, and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/reader_json.hpp"
#include "mxfp4/checkpoint/reader.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint.support.hpp"

namespace {

namespace fs = std::filesystem;
using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using strings = std::vector<std::string>;

tensor bytes_tensor(const std::string& name, char fill, std::int64_t size = 4) {
  return {{name, dtype::u8, {size}}, std::string(static_cast<std::size_t>(size), fill)};
}

strings names(const std::vector<checkpoint_tensor>& tensors) {
  strings list;
  for (const checkpoint_tensor& t : tensors) list.push_back(std::to_string(t.shard) + ":" + t.info->name);
  return list;
}

std::string content(const checkpoint_reader& in, const std::string& name) {
  const checkpoint_tensor* t = in.find(name);
  REQUIRE(t != nullptr);
  return tensor_data(in.shard(t->shard), name);
}

std::string refusal(const std::string& path) {
  try {
    const checkpoint_reader in = checkpoint_reader::open(path).value();
    static_cast<void>(read_config(in));
    return "";
  } catch (const file_error& error) {
    return error.what();
  }
}

constexpr const char* index_name = "/model.safetensors.index.json";

}  // namespace

TEST_CASE("checkpoint: the weight_map decides", "[checkpoint]") {
  const scratch_folder folder;
  const std::string dir = folder / "m";
  write_checkpoint(dir, {{"model-00000-of-00004.safetensors", {bytes_tensor("b", '0'), bytes_tensor("a", '1')}},
                         {"model-00003-of-00004.safetensors", {bytes_tensor("c", '2')}},
                         {"odd name.safetensors", {bytes_tensor("d", '3')}}});
  // A repeated name, a name that the index does not have, a stray shard: none of them counts.
  write_shard(dir + "/model-00003-of-00004.safetensors",
              {bytes_tensor("c", '2'), bytes_tensor("a", 'x'), bytes_tensor("unknown", 'x')});
  write_shard(dir + "/model-00001-of-00004.safetensors", {bytes_tensor("c", 'x')});
  fs::create_directories(dir + "/docs/deep");
  fs::create_directories(dir + "/.git/objects");
  fs::create_directories(dir + "/.cache");
  fs::create_directory_symlink(dir + "/docs", dir + "/linked");
  for (const char* name : {"tokenizer.json", "README.md", "docs/deep/picture.png", ".gitattributes", ".git/objects/x",
                           ".cache/y", "pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.gguf",
                           "pytorch_model.bin.index.json", "docs/other.safetensors", "config.json.tmp-12-0"})
    write_text(dir + "/" + name, "x");
  fs::create_symlink("nowhere", dir + "/rust_model.ot.gguf");  // weights that are not taken may be absent

  for (const std::string& path : {dir, dir + "/"}) {
    const checkpoint_reader in = checkpoint_reader::open(path).value();
    CHECK(in.is_directory());
    CHECK(in.has_index());
    CHECK(in.shards() ==
          strings{"model-00000-of-00004.safetensors", "model-00003-of-00004.safetensors", "odd name.safetensors"});
    CHECK(names(in.tensors()) == strings{"0:a", "0:b", "1:c", "2:d"});
    CHECK(names(in.unlisted_tensors()) == strings{"1:a", "1:unknown"});
    CHECK(in.tensor_bytes() == 16);
    CHECK(content(in, "a") == "1111");
    CHECK(content(in, "c") == "2222");
    CHECK(in.find("unknown") == nullptr);
    CHECK(in.other_files() ==
          strings{".gitattributes", "README.md", "config.json", "docs/deep/picture.png", "tokenizer.json"});
    CHECK(in.ignored_files() == strings{".cache/", ".git/", "config.json.tmp-12-0", "docs/other.safetensors", "linked/",
                                        "model-00001-of-00004.safetensors", "model.gguf",
                                        "pytorch_model-00001-of-00002.bin", "pytorch_model.bin",
                                        "pytorch_model.bin.index.json", "rust_model.ot.gguf"});
    CHECK(read_index_metadata(in).is_null());
    CHECK(read_config(in) == nlohmann::ordered_json::parse(R"({"model_type":"test"})"));
  }
}

TEST_CASE("checkpoint: a shard may be a link, as in a download cache", "[checkpoint]") {
  const scratch_folder folder;
  write_checkpoint(folder / "m", {{"a.safetensors", {bytes_tensor("a", '1')}}});
  fs::rename(folder / "m/a.safetensors", folder / "blob");
  fs::create_symlink("../blob", folder / "m/a.safetensors");
  CHECK(content(checkpoint_reader::open(folder / "m").value(), "a") == "1111");
}

TEST_CASE("checkpoint: without an index", "[checkpoint]") {
  const scratch_folder folder;
  fs::create_directory(folder / "m");
  CHECK_THAT(refusal(folder / "m"), ContainsSubstring("but 0 other .safetensors files, expected one"));
  write_shard(folder / "m/any.safetensors", {bytes_tensor("a", '1')});
  {
    const checkpoint_reader in = checkpoint_reader::open(folder / "m").value();
    CHECK(in.shards() == strings{"any.safetensors"});
    CHECK_FALSE(in.has_index());
    CHECK(read_config(in).is_null());
  }
  write_shard(folder / "m/more.safetensors", {bytes_tensor("b", '1')});
  CHECK_THAT(refusal(folder / "m"), ContainsSubstring("but 2 other .safetensors files, expected one: make the index"));
  write_shard(folder / "m/model.safetensors", {bytes_tensor("c", '3')});
  const checkpoint_reader in = checkpoint_reader::open(folder / "m").value();
  CHECK(in.shards() == strings{"model.safetensors"});
  CHECK(names(in.tensors()) == strings{"0:c"});
  CHECK(in.ignored_files() == strings{"any.safetensors", "more.safetensors"});

  const checkpoint_reader file = checkpoint_reader::open(folder / "m/more.safetensors").value();
  CHECK_FALSE(file.is_directory());
  CHECK(file.directory() == folder / "m");
  CHECK(file.shards() == strings{"more.safetensors"});
  CHECK(content(file, "b") == "1111");
  CHECK(file.other_files().empty());
  CHECK_THAT(refusal(folder / "none"), ContainsSubstring("none: cannot open for reading"));
}

TEST_CASE("checkpoint: every bad directory is refused with its reason", "[checkpoint]") {
  const scratch_folder folder;
  const std::string dir = folder / "m", index = dir + index_name;
  const auto index_of = [](const std::string& file) { return R"({"weight_map":{"a":")" + file + "\"}}"; };
  struct row {
    const char* why;
    std::function<void()> spoil;
    const char* message;
  };
  const auto write_index = [&](const std::string& text) { return [=] { write_text(index, text); }; };
  const row rows[] = {
      {"a shard is missing", [&] { fs::remove(dir + "/1.safetensors"); },
       "/1.safetensors: is missing, the index has tensor 'a' in it: download it again"},
      {"a tensor is in no shard", write_index(R"({"weight_map":{"a":"1.safetensors","z":"2.safetensors"}})"),
       "/2.safetensors: tensor 'z': is missing, expected it, as the index says: download both again"},
      {"a tensor is in another shard", write_index(R"({"weight_map":{"a":"2.safetensors"}})"),
       "tensor 'a': is missing, expected it, as the index says"},
      {"a key twice", write_index(R"({"weight_map":{"a":"1.safetensors","a":"2.safetensors"}})"),
       "the key 'a' is there twice in one object"},
      {"weight_map twice", write_index(R"({"weight_map":{"a":"1.safetensors"},"weight_map":{}})"),
       "the key 'weight_map' is there twice"},
      {"up", write_index(index_of("../1.safetensors")), "tensor 'a': is in '../1.safetensors', expected the name"},
      {"a subfolder", write_index(index_of("s/1.safetensors")), "is in 's/1.safetensors', expected the name"},
      {"absolute", write_index(index_of("/1.safetensors")), "is in '/1.safetensors', expected the name"},
      {"hidden", write_index(index_of(".safetensors")), "is in '.safetensors', expected the name"},
      {"another format", write_index(index_of("1.bin")), "is in '1.bin', expected the name of a .safetensors file"},
      {"a zero byte", write_index(index_of("1\\u0000.safetensors")), "expected the name of a .safetensors file"},
      {"an empty name", write_index(index_of("")), "is in '', expected the name"},
      {"no string", write_index(R"({"weight_map":{"a":1}})"), "tensor 'a': is number, expected a file name"},
      {"no map", write_index("{}"), "weight_map is not there, expected an object"},
      {"map is an array", write_index(R"({"weight_map":[]})"), "weight_map is array, expected an object"},
      {"an empty map", write_index(R"({"weight_map":{}})"), "weight_map is empty"},
      {"metadata is none", write_index(R"({"metadata":1,"weight_map":{"a":"1.safetensors"}})"),
       "metadata is number, expected an object"},
      {"an array", write_index("[]"), "is array, expected an object"},
      {"not JSON", write_index("{"), "index.json: is not JSON"},
      {"text behind", write_index(index_of("1.safetensors") + " x"), "is not JSON"},
      {"a zero in the text", write_index(index_of("1.safetensors") + std::string(1, '\0')), "has a zero byte at"},
      {"an index that cannot be read", [&] { fs::remove(index), fs::create_directory(index); },
       "is not a regular file"},
      {"a truncated shard", [&] { fs::resize_file(dir + "/1.safetensors", 70); }, "1.safetensors: "},
      {"config is an array", [&] { write_text(dir + "/config.json", "[]"); }, "config.json: is array"},
      {"config has a key twice", [&] { write_text(dir + "/config.json", R"({"x":{"y":1,"y":2}})"); },
       "config.json: the key 'y' is there twice"},
  };
  for (const auto& [why, spoil, message] : rows) {
    CAPTURE(why);
    fs::remove_all(dir);
    write_checkpoint(dir, {{"1.safetensors", {bytes_tensor("a", '1')}}, {"2.safetensors", {bytes_tensor("b", '2')}}});
    REQUIRE(refusal(dir) == "");
    spoil();
    CHECK_THAT(refusal(dir), ContainsSubstring(message) && ContainsSubstring(folder / ""));
  }
}

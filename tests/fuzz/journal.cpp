// tests/fuzz/journal.cpp -- any bytes as the manifest of an unfinished result, to mxfp4 merge.
// SPDX-License-Identifier: Apache-2.0
//
// An input that is JSON changes the manifest that mxfp4 quantize has written, as a merge patch (RFC 7396) does, and the
// hash with it: {} is that manifest itself. Any other input takes its place.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/sealed_json.hpp"
#include "io/content_hash.hpp"
#include "memory_folder.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using mxfp4::test::memory_folder, mxfp4::test::require;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

/// A source of one expert and a norm in two shards, and what rank 0 of one process and more has made of all of it.
class unfinished {
 public:
  unfinished() : folder_("in/config.json") {
    static_cast<void>(folder_.hold(reinterpret_cast<const std::uint8_t*>("{}"), 2));
    write_shard("in/model.safetensors", "a.experts.0.w1.weight", {2, 32});
    make();
  }

  /// The result with this manifest. @return its path.
  std::string with(const std::uint8_t* data, std::size_t size) {
    if (!fs::exists(manifest_path())) make();
    std::string text(reinterpret_cast<const char*>(data), size);
    if (const auto patch = ordered_json::parse(text, nullptr, false); !patch.is_discarded()) {
      ordered_json manifest = manifest_;
      manifest.merge_patch(patch);
      if (manifest.is_object()) manifest.erase("hash");
      text = manifest.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
      text.pop_back();
      text += seal(hash_of(text));
    }
    std::ofstream(manifest_path(), std::ios::binary) << text;
    return out();
  }

  [[nodiscard]] std::string out() const { return (folder_ / "out").string(); }
  [[nodiscard]] bool exists(const std::string& file) const { return fs::exists(fs::path(out()) / file); }

 private:
  [[nodiscard]] fs::path manifest_path() const { return folder_ / "out/.mxfp4/manifest.json"; }

  void write_shard(const std::string& file, const std::string& tensor, std::vector<std::int64_t> shape) const {
    const tensor_info t{tensor, dtype::bf16, std::move(shape)};
    auto out = safetensors_writer::create((folder_ / file).string(), {t}, std::nullopt).value();
    out.append(t.name, std::vector<std::byte>(tensor_bytes(t.type, t.shape).value())).value();
    out.commit().value();
  }

  void make() {
    fs::remove_all(out());
    checkpoint_observer silent;
    static_cast<void>(quantize_checkpoint((folder_ / "in").string(), out(), {}, {0, 2, 1, false, {}}, silent).value());
    std::ifstream file(manifest_path(), std::ios::binary);
    manifest_ = ordered_json::parse(file);
  }

  memory_folder folder_;
  ordered_json manifest_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static unfinished result;
  const std::string out = result.with(data, size);
  try {
    static_cast<void>(merge_checkpoint(out).value());
    const checkpoint_reader merged = checkpoint_reader::open(out).value();  // complete, and everything is in it
    require(merged.has_index() && merged.find("a.experts.0.w1.weight_packed") != nullptr);
    require(result.exists(report_file_name) && !result.exists(journal_folder_name));
  } catch (const file_error& e) {
    require(std::string_view(e.what()).size() > 10 && !result.exists(index_file_name));
  }
  return 0;
}

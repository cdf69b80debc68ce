// tests/fuzz/index.cpp -- any bytes as model.safetensors.index.json, beside two shards.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>

#include "memory_folder.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace {

using namespace mxfp4::io;
using mxfp4::test::memory_folder, mxfp4::test::require;

/// Tensors a and b in one shard, b and c in the other: an index decides whose b counts.
const memory_folder& folder() {
  static const memory_folder made("model.safetensors.index.json");
  static const bool filled = [] {
    const std::byte zeros[4] = {};
    for (const char* names : {"ab", "bc"}) {
      auto out =
          safetensors_writer::create((made / (std::string(names) + ".safetensors")).string(),
                                     {{{names[0]}, dtype::f32, {1}}, {{names[1]}, dtype::f32, {1}}}, std::nullopt)
              .value();
      for (const char name : std::string(names)) out.append({&name, 1}, zeros).value();
      out.commit().value();
    }
    return true;
  }();
  require(filled);
  return made;
}

void check_accepted(const mxfp4::checkpoint::checkpoint_reader& reader) {
  require(reader.has_index() && !reader.tensors().empty() && !reader.shards().empty());
  std::set<std::string> names;
  for (const auto& tensor : reader.tensors()) {
    require(names.insert(tensor.info->name).second);
    const std::string& shard = reader.shards()[tensor.shard];
    require((shard == "ab.safetensors" || shard == "bc.safetensors") &&
            shard.find(tensor.info->name) != std::string::npos);
    require(reader.find(tensor.info->name)->info == tensor.info);
  }
  require(reader.tensor_bytes() == 4 * names.size());
  require(reader.tensors().size() + reader.unlisted_tensors().size() == 2 * reader.shards().size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    check_accepted(mxfp4::checkpoint::checkpoint_reader::open(folder().hold(data, size)).value());
  } catch (const file_error& e) {
    require(std::string_view(e.what()).size() > 10);
  }
  return 0;
}

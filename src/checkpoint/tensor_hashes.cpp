// src/checkpoint/tensor_hashes.cpp -- see tensor_hashes.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/tensor_hashes.hpp"

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <vector>

#include "io/guarded.hpp"
#include "io/slabs.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

tensor_hashes::tensor_hashes(const safetensors_header& header) : header_(header) {
  for (const tensor_info& t : header.tensors) {
    entry& e = entries_[t.name];
    e.missing = t.bytes();
    if (e.missing == 0) e.hash = content_hash().text();
  }
}

void tensor_hashes::add(std::string_view tensor, std::span<const std::byte> bytes) {
  entry& e = entries_.at(tensor);
  if (bytes.empty()) return;
  if (e.state == nullptr) e.state = std::make_unique<content_hash>();
  e.state->add(bytes);
  e.missing -= bytes.size();
  if (e.missing > 0) return;
  e.hash = e.state->text();
  e.state.reset();
}

ordered_json tensor_hashes::to_json() const {
  ordered_json list = ordered_json::array();
  for (const tensor_info& t : header_.tensors) list.push_back({{"name", t.name}, {"hash", entries_.at(t.name).hash}});
  return list;
}

ordered_json recorded_content(const std::string& file, const safetensors_writer& written, const tensor_hashes& hashes) {
  return {{"file", file},
          {"bytes", written.file_bytes()},
          {"tensors", written.header().tensors.size()},
          {"header", written.header_hash()},
          {"tensor_hashes", hashes.to_json()}};
}

std::string hash_tensor(const safetensors_reader& file, const tensor_info& tensor,
                        const std::function<void(std::uint64_t)>& on_bytes) {
  constexpr std::int64_t slab_bytes = 1 << 19;  // stays in a near cache between the copy and the hash
  content_hash hash;
  std::vector<std::byte> buffer;
  for_each_slab(static_cast<std::int64_t>(tensor.bytes()), slab_bytes, [&](std::int64_t first, std::int64_t count) {
    on_bytes(static_cast<std::uint64_t>(count));
    buffer.resize(static_cast<std::size_t>(count));
    file.read(tensor, static_cast<std::uint64_t>(first), buffer).value();
    hash.add(buffer);
  });
  return hash.text();
}

void check_shard_hashes(const safetensors_reader& shard, const ordered_json& report, int threads,
                        shared_progress& progress) {
  constexpr const char* advice = "remove it and run again";
  const ordered_json& expected = report.at("tensor_hashes");
  if (shard.header_hash() != report.at("header"))
    throw file_error({.file = shard.path(), .value = "has not the header that was written", .advice = advice});
  if (expected.size() != shard.header().tensors.size())
    throw file_error({.file = shard.path(),
                      .value = "has " + std::to_string(shard.header().tensors.size()) + " tensors",
                      .expected = std::to_string(expected.size()) + " as the journal lists them",
                      .advice = advice});
  tbb::task_arena arena(threads > 0 ? threads : tbb::task_arena::automatic);
  arena.execute([&] {
    tbb::parallel_for(std::size_t{0}, expected.size(), [&](std::size_t i) {
      const std::string& name = expected[i].at("name").get_ref<const std::string&>();
      const tensor_info* const t = shard.find(name);
      if (t == nullptr)
        throw file_error({.file = shard.path(), .tensor = name, .value = "is not there", .advice = advice});
      if (hash_tensor(shard, *t, [&](std::uint64_t bytes) {
            progress.require_running(shard.path());
            progress.add(bytes);
          }) != expected[i].at("hash"))
        throw file_error(
            {.file = shard.path(), .tensor = name, .value = "has not the bytes that were written", .advice = advice});
    });
  });
}

}  // namespace mxfp4::checkpoint

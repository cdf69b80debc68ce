// tests/cli.verify.support.hpp -- checkpoints made once, spoiled in one place, and what verify says of them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli.support.hpp"
#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace mxfp4::test {

using namespace mxfp4::io;
using nlohmann::ordered_json;
using strings = std::vector<std::string>;
namespace fs = std::filesystem;

inline constexpr const char* index_name = "model.safetensors.index.json";
inline const std::string expert = "model.layers.1.block_sparse_moe.experts.1.";

struct tensor {
  tensor_info info;
  std::string data;
};
using tensors = std::vector<tensor>;

/// A source, and what quantize makes of it; made once.
class model {
 public:
  static const model& get() {
    static const model only;
    return only;
  }
  std::string source() const { return folder_ / "source"; }

  /// A copy of the result in `folder`, quantised with these options.
  std::string copy(const scratch_folder& folder, const strings& options = {}) const {
    const std::string out = folder / "m";
    if (options.empty()) {
      fs::copy(folder_ / "result", out, fs::copy_options::recursive);
    } else {
      strings line = {MXFP4_PROGRAM, "quantize", source(), out};
      line.insert(line.end(), options.begin(), options.end());
      const outcome o = run(line);
      CAPTURE(o.err);
      REQUIRE(o.code == 0);
    }
    return out;
  }

 private:
  model() {
    REQUIRE(run({MXFP4_GENERATE, "--checkpoint", source()}).code == 0);
    REQUIRE(run({MXFP4_PROGRAM, "quantize", source(), folder_ / "result"}).code == 0);
  }
  scratch_folder folder_;
};

inline void edit_json(const std::string& path, const std::function<void(ordered_json&)>& change) {
  ordered_json json = ordered_json::parse(read_text(path));
  change(json);
  write_text(path, json.dump(2));
}

inline ordered_json& group(ordered_json& config, const char* name = "group_0") {
  return config["quantization_config"]["config_groups"][name];
}

inline std::string shard_of(const std::string& dir, const std::string& name) {
  return ordered_json::parse(read_text(dir + "/" + index_name))["weight_map"].value(name, "");
}

/// Rewrites the shard that holds `name`, and the index with it.
inline void edit_shard(const std::string& dir, const std::string& name, const std::function<void(tensors&)>& change,
                       bool drop_metadata = false) {
  const std::string file = shard_of(dir, name), path = dir + "/" + file;
  REQUIRE(!file.empty());
  tensors all;
  std::optional<metadata> extra;
  {
    const safetensors_reader in = safetensors_reader::open(path).value();
    extra = in.header().extra;
    for (const tensor_info& t : in.header().tensors) {
      all.push_back({t, std::string(t.bytes(), '\0')});
      in.read(t, 0, std::as_writable_bytes(std::span(all.back().data))).value();
    }
  }
  const auto bytes = [&] {
    std::int64_t sum = 0;
    for (const tensor& t : all) sum += std::ssize(t.data);
    return sum;
  };
  const std::int64_t before = bytes();
  const tensors old = all;
  change(all);
  std::vector<tensor_info> infos;
  for (const tensor& t : all) infos.push_back(t.info);
  if (drop_metadata) extra.reset();
  safetensors_writer out = safetensors_writer::create(path, infos, extra).value();
  for (const tensor& t : all) out.append(t.info.name, std::as_bytes(std::span(t.data))).value();
  out.commit().value();
  edit_json(dir + "/" + index_name, [&](ordered_json& index) {
    for (const tensor& t : old) index["weight_map"].erase(t.info.name);
    for (const tensor& t : all) index["weight_map"][t.info.name] = file;
    index["metadata"]["total_size"] = index["metadata"]["total_size"].get<std::int64_t>() + bytes() - before;
  });
}

inline tensor& find(tensors& all, const std::string& name) {
  for (tensor& t : all)
    if (t.info.name == name) return t;
  throw std::runtime_error("no tensor " + name);
}

inline void edit_tensor(const std::string& dir, const std::string& name, const std::function<void(tensor&)>& change) {
  edit_shard(dir, name, [&](tensors& all) { change(find(all, name)); });
}

inline void edit_bytes(const std::string& dir, const std::string& name,
                       const std::function<void(std::string&)>& change) {
  edit_tensor(dir, name, [&](tensor& t) { change(t.data); });
}

inline void rename_tensor(const std::string& dir, const std::string& name, const std::string& to) {
  edit_tensor(dir, name, [&](tensor& t) { t.info.name = to; });
}

inline void drop(const std::string& dir, const std::string& name) {
  edit_shard(dir, name,
             [&](tensors& all) { std::erase_if(all, [&](const tensor& t) { return t.info.name == name; }); });
}

inline void add(const std::string& dir, const std::string& beside, const std::string& name, dtype type,
                std::vector<std::int64_t> shape) {
  edit_shard(dir, beside, [&](tensors& all) {
    const std::uint64_t bytes = tensor_bytes(type, shape).value();
    all.push_back({{name, type, shape}, std::string(bytes, '\0')});
  });
}

struct verdict {
  int code;
  ordered_json report;
  std::string err;
};

inline verdict verify(const std::string& dir, strings options = {}) {
  options.insert(options.begin(), {MXFP4_PROGRAM, "verify", "--json", dir});
  const outcome o = run(options);
  CAPTURE(o.err, o.out);
  REQUIRE((o.code == 0 || o.code == 1));
  return {o.code, ordered_json::parse(o.out), o.err};
}

/// A finding that is expected, and whether it has to be the only one; that the hashes are no longer those recorded is
/// true of whatever was spoiled, and has tests of its own (checkpoint.hashes).
struct expectation {
  const char* level;
  const char* check;
  std::string where, what;
  bool alone = true;
};

inline void expect(const std::string& dir, const strings& options, const expectation& e) {
  const verdict v = verify(dir, options);
  CAPTURE(e.check, e.where, e.what, v.report["findings"].dump(1));
  bool found = false;
  int others = 0;
  for (const ordered_json& f : v.report["findings"]) {
    others += f["check"] == "hashes" ? 0 : 1;
    found = found || (f["level"] == e.level && f["check"] == e.check &&
                      f["where"].get<std::string>().find(e.where) != std::string::npos &&
                      f["what"].get<std::string>().find(e.what) != std::string::npos);
  }
  CHECK(found);
  if (e.alone) CHECK(others == 1);
  CHECK(v.code == (v.report["errors"] == 0 ? 0 : 1));
  if (std::string(e.level) == "error") CHECK(v.code == 1);
  CHECK((v.code == 0) == v.err.empty());
}

}  // namespace mxfp4::test

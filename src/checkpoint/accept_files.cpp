// src/checkpoint/accept_files.cpp -- small files of a result that were changed on purpose: the report follows them.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/quantize_journal.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "io/content_hash.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

[[nodiscard]] ordered_json accepted_entry(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  return {{"file", name},
          {"bytes", input_file::open(path).value().size()},
          {"hash", hash_of_file(path)},
          {"accepted", true}};
}

}  // namespace

file_result<void> accept_files(const std::string& directory, const std::vector<std::string>& names) {
  return guarded([&] {
    const std::string path = directory + "/" + report_file_name, text = read_json_text(path);
    auto report = parse_json<ordered_json>(text, path);
    const std::optional<recorded_hashes> recorded = read_recorded_hashes(report, text, path);
    if (!recorded) throw file_error({.file = path, .value = "is of a former version, which recorded no hashes"});
    const checkpoint_reader in = checkpoint_reader::open(directory).value();
    ordered_json& files = report.at("file_hashes");
    for (const std::string& name : names) {
      const recorded_file* const known = recorded->find(name);
      const bool is_there =
          name == index_file_name || std::binary_search(in.other_files().begin(), in.other_files().end(), name);
      if (name == config_file_name && !is_there)
        throw file_error({.file = directory + "/" + name,
                          .value = "is not there, and a result without it cannot be accepted",
                          .advice = "put it back, or quantise again with --overwrite"});
      if (name == report_file_name || (known == nullptr ? !is_there : known->is_shard))
        throw file_error({.file = directory,
                          .value = quote_name(name) + " cannot be accepted",
                          .expected = "a file beside the shards and the report, by its name in the directory"});
      const auto at =
          std::find_if(files.begin(), files.end(), [&](const ordered_json& f) { return f.at("file") == name; });
      if (!is_there) files.erase(at);
      else if (at == files.end()) files.push_back(accepted_entry(directory, name));
      else *at = accepted_entry(directory, name);
    }
    report.erase("hash");
    rewrite_report(path, report);
  });
}

}  // namespace mxfp4::checkpoint

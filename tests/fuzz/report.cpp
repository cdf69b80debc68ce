// tests/fuzz/report.cpp -- any bytes as mxfp4_report.json and as the report of a shard in the journal.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <string>

#include "checkpoint/model_card.hpp"
#include "checkpoint/quantize_journal.hpp"
#include "io/strict_json.hpp"
#include "memory_folder.hpp"
#include "mxfp4/checkpoint/quality_report.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using mxfp4::test::accepted_or_refused, mxfp4::test::memory_folder, mxfp4::test::require;

/// One line for the title and one for each row: what stands in a cell cannot break out of it.
void require_lines(const std::string& csv, std::size_t rows) {
  std::size_t lines = 0;
  bool quoted = false;
  for (const char c : csv) {
    quoted = quoted != (c == '"');
    lines += c == '\n' && !quoted ? 1 : 0;
  }
  require(!quoted && lines == rows + 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const memory_folder folder(report_file_name);
  const std::string path = folder.hold(data, size);
  accepted_or_refused([&] {
    const quality_report report = read_quality_report(path).value();
    require_lines(matrices_csv(report), report.matrices.size());
    require_lines(experts_csv(report), report.experts.size());
    require(!scales_csv(report).empty());
    require(!model_card({"name", "base", "other", "", "", {}, false, std::nullopt}, report, nullptr).empty());
  });
  accepted_or_refused([&] {
    const ordered_json head = read_report_head(path);
    require(head.is_object() && manifest_difference(head, head).empty());
  });
  accepted_or_refused([&] {
    const std::string file = path + "/" + report_file_name;
    checkpoint_result result;
    add_shard_report(result, read_json<ordered_json>(file), file);
  });
  return 0;
}

// examples/cli/dequantize.cpp -- mxfp4 dequantize: the MXFP4 tensors of a safetensors file back to numbers.
// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"
#include "cli/report.hpp"

namespace mxfp4::tools {

namespace {

struct dequantize_command {
  std::string input, output, to = "bf16";
  bool json = false;

  void describe(CLI::App& command) {
    command.add_option("IN", input, "A .safetensors file")->required()->type_name("FILE");
    command.add_option("OUT", output, "Output: a .safetensors file with X for each pair X_packed, X_scale")
        ->required()
        ->type_name("FILE");
    takes_one_of(command.add_option("--to", to, "Type of the weights; both are exact"), {"bf16", "f32"});
    command.footer("A scale byte 255 makes 32 weights NaN. Everything that is not MXFP4 is copied byte for byte.");
  }
};

void run(const dequantize_command& command) {
  require_different_files({command.input, command.output});
  dequantize_report r;
  {
    progress_line line;
    r = dequantize_file(command.input, command.output, command.to == "f32" ? dtype::f32 : dtype::bf16,
                        [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total); });
  }
  if (command.json) {
    ordered_json list = ordered_json::array();
    for (const dequantized_tensor& d : r.dequantized)
      list.push_back({{"name", d.name}, {"shape", d.shape}, {"nan_blocks", d.nan_blocks}});
    print(ordered_json{{"command", "dequantize"},
                       {"input", command.input},
                       {"output", command.output},
                       {"to", command.to},
                       {"dequantized", list},
                       {"copied", to_json(r.copied)},
                       {"file_bytes_before", r.file_bytes_before},
                       {"file_bytes_after", r.file_bytes_after}});
    return;
  }
  table t({{"dequantized"}, {"shape"}, {"NaN blocks", align::right}});
  for (const dequantized_tensor& d : r.dequantized)
    t.add({printable(d.name), shape_text(d.shape), std::to_string(d.nan_blocks)});
  print((t.empty() ? "" : t.text() + '\n') + copied_table(r.copied) +
        count_text(static_cast<std::int64_t>(r.dequantized.size()), "tensor") + " dequantised to " + command.to + ", " +
        std::to_string(r.copied.size()) + " copied\n" + command.output + ": " + size_text(r.file_bytes_before) +
        " -> " + size_text(r.file_bytes_after) + "\n");
}

}  // namespace

void add_dequantize(CLI::App& app) {
  add_command<dequantize_command>(app, "dequantize", "Turn the MXFP4 tensors of a safetensors file back into numbers",
                                  run);
}

}  // namespace mxfp4::tools

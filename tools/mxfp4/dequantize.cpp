// tools/mxfp4/dequantize.cpp -- mxfp4 dequantize: the MXFP4 tensors of a file or a checkpoint back to numbers.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>

#include "command.hpp"
#include "mxfp4/checkpoint/dequantize.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct dequantize_command {
  std::string input, output, to = "bf16";
  std::uint64_t max_shard_bytes = default_max_shard_bytes;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("IN", input, "A .safetensors file, the directory of a checkpoint, or a .gguf file")
        .required()
        .type_name("FILE|DIR");
    command.add_option("OUT", output, "Output: the same, with X for each pair X_packed, X_scale; a new directory")
        .required()
        .type_name("FILE|DIR");
    command.add_option("--to", to, "Type of the weights; both are exact; f32: of a file only").one_of({"bf16", "f32"});
    takes_max_shard_size(command, max_shard_bytes);
    takes_overwrite(command, overwrite);
    command.footer(
        "A scale byte 255 makes 32 weights NaN. Everything that is not MXFP4 is copied byte for byte; in a directory\n"
        "FP8 with scales, symmetric INT4 and INT8 of compressed-tensors, NVFP4, and in a .gguf Q8_0, become BF16\n"
        "too, rounded once, and config.json loses its quantization_config. MXFP4 is known by the names of\n"
        "compressed-tensors, AutoRound, gpt-oss, Quark, ModelOpt, DeepSeek-V4 and GGUF. A .gguf makes a directory;\n"
        "its names stay.");
  }
};

void run_directory(const dequantize_command& command) {
  if (command.to != "bf16") throw usage_error("--to", "a directory becomes bf16; " + command.to + " is for files");
  dequantize_directory_report r;
  {
    progress_line line;
    dequantize_options options;
    options.max_shard_bytes = command.max_shard_bytes;
    options.stop = stop_requested;
    options.existing = existing_output(command.overwrite);
    options.progress = [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total); };
    r = dequantize_directory(command.input, command.output, options).value();
  }
  warn(r.warnings);
  const std::vector<std::string> left = left_out(command.input, command.output);
  if (command.json) {
    print(ordered_json{{"command", "dequantize"},
                       {"input", command.input},
                       {"output", command.output},
                       {"to", command.to},
                       {"left_out", left},
                       {"dequantized", r.dequantized},
                       {"widened_fp8", r.widened},
                       {"widened_integer", r.integer},
                       {"widened_nvfp4", r.nvfp4},
                       {"copied", r.copied},
                       {"nan_blocks", r.nan_blocks},
                       {"warnings", r.warnings},
                       {"shards", r.after.shards},
                       {"file_bytes_before", r.bytes_before},
                       {"file_bytes_after", r.after.bytes}});
    return;
  }
  print(count_text(r.dequantized, "MXFP4 tensor") + " dequantised to bf16" +
        (r.widened == 0 ? "" : ", " + count_text(r.widened, "FP8 tensor") + " widened") +
        (r.integer == 0 ? "" : ", " + count_text(r.integer, "integer tensor") + " widened") +
        (r.nvfp4 == 0 ? "" : ", " + count_text(r.nvfp4, "NVFP4 tensor") + " widened") + ", " +
        std::to_string(r.copied) + " copied" +
        (r.nan_blocks == 0 ? "" : "; " + count_text(r.nan_blocks, "block") + " of 32 NaN") + "\n" +
        left_out_text(left) + command.output + ": " + size_text(r.bytes_before) + " -> " + size_text(r.after.bytes) +
        " in " + count_text(static_cast<std::int64_t>(r.after.shards), "shard") + "\n");
}

void run(const dequantize_command& command) {
  std::error_code error;
  if (std::filesystem::is_directory(command.input, error) || command.input.ends_with(".gguf"))
    return run_directory(command);
  require_different_files({command.input, command.output});
  keep_standard_output_for(command.output);
  dequantize_report r;
  {
    progress_line line;
    r = dequantize_file(
            command.input, command.output, command.to == "f32" ? dtype::f32 : dtype::bf16,
            [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total); }, stop_requested,
            existing_output(command.overwrite))
            .value();
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

void add_dequantize(program& app) {
  add_command<dequantize_command>(app, "dequantize",
                                  "Turn the MXFP4 tensors of a file or a checkpoint back into numbers", run);
}

}  // namespace mxfp4::tools

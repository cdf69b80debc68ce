// tools/mxfp4/convert.cpp -- mxfp4 convert: an MXFP4 checkpoint in another form, without loss.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>

#include "command.hpp"
#include "mxfp4/checkpoint/convert.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct convert_command {
  std::string input, output, to;
  std::uint64_t max_shard_bytes = default_max_shard_bytes;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("IN", input, "The directory of a checkpoint, a .safetensors file, or a .gguf file")
        .required()
        .type_name("DIR|FILE");
    command.add_option("OUT", output, "Output: a new directory, a file called *.safetensors, or for gguf a file")
        .required()
        .type_name("DIR|FILE");
    command.add_option("--to", to, "Form of the output").required().one_of(names()).type_name("FORM");
    takes_max_shard_size(command, max_shard_bytes);
    takes_overwrite(command, overwrite);
    command.footer(
        "Forms, P ending in .experts:\n"
        "  compressed-tensors  a pair per expert: P.0.w1.weight_packed, P.0.w1.weight_scale, ...\n"
        "  stacked             the same, experts stacked: P.gate_up_proj_packed, gate rows before up rows; "
        "P.down_proj_...\n"
        "  gpt-oss             P.gate_up_proj_blocks, _scales, _bias: gate and up rows take turns; P.down_proj_...\n"
        "  gguf                one file, P.w1.weight as MXFP4 [experts, rows, cols]; names are kept, not llama.cpp's\n"
        "  llama-cpp           the same with llama.cpp's names, settings and tokenizer, of qwen3_moe and minimax_m2\n"
        "  block-fp8           P.0.w1.weight F8_E4M3, _scale_inv per 128 x 128: the same numbers, or an error\n"
        "Codes and scale bytes pass through all but the last unchanged, and back. Readers differ in two of them: ggml "
        "takes\n"
        "-0 (code 8) for +0, and a scale byte 255, NaN by the standard, for 2^128.");
  }

  [[nodiscard]] static std::vector<std::string> names() {
    return {std::begin(checkpoint_form_names), std::end(checkpoint_form_names)};
  }
};

void run(const convert_command& command) {
  convert_options options;
  const auto* const name = std::find(std::begin(checkpoint_form_names), std::end(checkpoint_form_names), command.to);
  options.to = static_cast<checkpoint_form>(name - std::begin(checkpoint_form_names));
  options.max_shard_bytes = command.max_shard_bytes;
  options.stop = stop_requested;
  options.existing = existing_output(command.overwrite);
  keep_standard_output_for(command.output);
  convert_report r;
  {
    progress_line line;
    options.progress = [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total); };
    r = convert_checkpoint(command.input, command.output, options).value();
  }
  std::vector<std::string> left = left_out(command.input, command.output);
  const bool takes_tokenizer = options.to == checkpoint_form::llama_cpp;
  const bool takes_config = r.config && (takes_tokenizer || options.to == checkpoint_form::gguf);
  std::erase_if(left, [&](const std::string& file) {  // a GGUF file holds what these say
    return (takes_config && file == config_file_name) ||
           (takes_tokenizer && (file == "tokenizer.json" || file == "tokenizer_config.json"));
  });
  warn(r.warnings);
  if (command.json) {
    print(ordered_json{{"command", "convert"},
                       {"input", command.input},
                       {"output", command.output},
                       {"to", command.to},
                       {"layers", r.layers},
                       {"experts", r.experts},
                       {"matrices", r.matrices},
                       {"copied", r.copied},
                       {"widened", r.widened},
                       {"cleaned", r.cleaned},
                       {"config", r.config},
                       {"left_out", left},
                       {"warnings", r.warnings},
                       {"shards", r.after.shards},
                       {"file_bytes_before", r.bytes_before},
                       {"file_bytes_after", r.after.bytes}});
    return;
  }
  print(std::to_string(r.matrices) + (r.matrices == 1 ? " MXFP4 matrix" : " MXFP4 matrices") + " (" +
        count_text(r.experts, "expert") + " in " + count_text(r.layers, "layer") + ") to " + command.to + ", " +
        count_text(r.copied, "other tensor") + " copied" +
        (r.widened == 0 ? "" : ", " + std::to_string(r.widened) + " of them from few bits to BF16") +
        (r.config ? "" : ", without a config.json") +
        (r.cleaned == 0 ? "" : "; " + count_text(r.cleaned, "block") + " of zeros under scale byte 255 made clean") +
        "\n" + left_out_text(left) + command.output + ": " + size_text(r.bytes_before) + " -> " +
        size_text(r.after.bytes) + " in " + count_text(static_cast<std::int64_t>(r.after.shards), "file") + "\n");
}

}  // namespace

void add_convert(program& app) {
  add_command<convert_command>(app, "convert", "Put an MXFP4 checkpoint into another form, without loss", run);
}

}  // namespace mxfp4::tools

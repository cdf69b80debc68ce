// tools/mxfp4/decode.cpp -- mxfp4 decode: raw codes and scales -> a raw array of numbers.
// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"
#include "io/slabs.hpp"
#include "mxfp4/io/byte_order.hpp"
#include "mxfp4/io/elements.hpp"
#include "mxfp4/quantize.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct decode_options {
  std::string to = "f32", dialect = "ocp", packed, scale, output;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("OUT", output, "Output: little-endian numbers, 32 to a block, no header")
        .required()
        .type_name("FILE");
    command.add_option("--packed", packed, "16 bytes a block, the even element in the low nibble")
        .required()
        .type_name("FILE");
    command.add_option("--scale", scale, "1 byte a block, E8M0").required().type_name("FILE");
    command.add_option("--to", to, "Type of the numbers; f16 rounds, the others are exact")
        .one_of({"f32", "bf16", "f16"});
    command.add_option("--dialect", dialect, "What byte 255, byte 0 and code 8 mean")
        .one_of({"ocp", "inf_at_255", "ggml", "gpt_oss", "openvino"});
    takes_overwrite(command, overwrite);
    command.footer(
        "dialect       byte 255                  code 8   byte 0   readers\n"
        "  ocp         NaN                       -0       2^-127   OCP MX v1.0, CUDA, torchao\n"
        "  inf_at_255  +-inf, NaN under zeros    -0       2^-127   compressed-tensors, MLX\n"
        "  ggml        2^128 * v: 0.5 is 2^127   +0       2^-127   llama.cpp, ik_llama\n"
        "  gpt_oss     2^128 * v: 0.5 is 2^127   -0       2^-127   transformers loading gpt_oss\n"
        "  openvino    NaN                       -0       0        OpenVINO, scales that are Constants");
  }
};

template <class T, class Dialect>
void decode_array(const input_file& packed, const input_file& scale, output_file& out) {
  std::vector<std::uint8_t> codes, scales;
  std::vector<T> numbers;
  progress_line line;
  for_each_slab(static_cast<std::int64_t>(scale.size()), slab_blocks, [&](std::int64_t first, std::int64_t blocks) {
    codes.resize(static_cast<std::size_t>(blocks * block_code_bytes));
    scales.resize(static_cast<std::size_t>(blocks));
    numbers.resize(static_cast<std::size_t>(blocks * block_size));
    packed.read(static_cast<std::uint64_t>(first * block_code_bytes), std::as_writable_bytes(std::span(codes))).value();
    scale.read(static_cast<std::uint64_t>(first), std::as_writable_bytes(std::span(scales))).value();
    const auto view = make_view(std::span(codes), std::span(scales), blocks, block_size);
    const auto dense = make_dense_view(std::span(numbers), blocks, block_size);
    const status s = !view ? view.error() : !dense ? dense.error() : mxfp4::dequantize<Dialect>(*view, *dense);
    if (!s.ok()) throw file_error({.file = packed.path(), .value = std::string(message(s).view())});
    swap_if_big_endian(std::span(numbers));
    out.write(static_cast<std::uint64_t>(first * block_size) * sizeof(T), std::as_bytes(std::span(numbers))).value();
    line.update(static_cast<std::uint64_t>(first + blocks) * block_bytes, packed.size() + scale.size());
  });
}

template <class T>
void decode_dialect(const std::string& name, const input_file& packed, const input_file& scale, output_file& out) {
  for (int id = 0; id < dialect_count; ++id)
    visit_dialect(static_cast<dialect_id>(id), [&]<class D>() {
      if (name == D::name) decode_array<T, D>(packed, scale, out);
    });
}

void run(const decode_options& options) {
  require_different_files({options.packed, options.scale, options.output});
  const input_file packed = input_file::open(options.packed).value();
  const input_file scale = input_file::open(options.scale).value();
  if (packed.size() % block_code_bytes != 0)
    throw file_error({.file = options.packed,
                      .value = "holds " + std::to_string(packed.size()) + " bytes",
                      .expected = "a multiple of 16"});
  if (scale.size() != packed.size() / block_code_bytes)
    throw file_error(
        {.file = options.scale,
         .value = "holds " + std::to_string(scale.size()) + " bytes",
         .expected = std::to_string(packed.size() / block_code_bytes) + ", one for each 16 of " + options.packed});
  const existing_file existing = existing_output(options.overwrite);
  require_outputs({options.packed, options.scale}, {options.output}, existing).value();
  keep_standard_output_for(options.output);
  output_file out = output_file::create(options.output, stop_requested, existing).value();
  if (options.to == "f32") decode_dialect<float>(options.dialect, packed, scale, out);
  else if (options.to == "bf16") decode_dialect<bf16>(options.dialect, packed, scale, out);
  else decode_dialect<f16>(options.dialect, packed, scale, out);
  out.commit().value();

  if (options.json)
    print(ordered_json{{"command", "decode"},
                       {"to", options.to},
                       {"dialect", options.dialect},
                       {"packed", options.packed},
                       {"scale", options.scale},
                       {"output", options.output},
                       {"blocks", scale.size()}});
  else
    print(count_text(static_cast<std::int64_t>(scale.size()), "block") + " to " + options.to + ", dialect " +
          options.dialect + "\n");
}

}  // namespace

void add_decode(program& app) {
  add_command<decode_options>(app, "decode", "Decode a raw array: codes and scales to numbers, in any dialect", run);
}

}  // namespace mxfp4::tools

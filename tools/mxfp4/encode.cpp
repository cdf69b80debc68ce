// tools/mxfp4/encode.cpp -- mxfp4 encode: a raw array of numbers -> raw codes and scales.
// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"
#include "io/slabs.hpp"
#include "mxfp4/io/byte_order.hpp"
#include "mxfp4/io/elements.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct encode_options {
  std::string recipe, type = "f32", input, packed, scale;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("IN", input, "Little-endian numbers, 32 to a block, no header").required().type_name("FILE");
    takes_recipe(command.add_option("--recipe", recipe, "Whose bytes: see mxfp4 recipes")).required();
    command.add_option("--type", type, "Type of the numbers").one_of({"f32", "bf16", "f16"});
    command.add_option("--packed", packed, "Output: 16 bytes a block, the even element in the low nibble")
        .required()
        .type_name("FILE");
    command.add_option("--scale", scale, "Output: 1 byte a block, E8M0").required().type_name("FILE");
    takes_overwrite(command, overwrite);
  }
};

template <class T>
[[nodiscard]] error_statistics encode_array(const input_file& in, recipe_id recipe, output_file& packed,
                                            output_file& scale) {
  constexpr std::uint64_t block_input_bytes = block_size * sizeof(T);
  if (in.size() % block_input_bytes != 0)
    throw file_error({.file = in.path(),
                      .value = "holds " + std::to_string(in.size()) + " bytes",
                      .expected = "a multiple of " + std::to_string(block_input_bytes) + ", one block of 32 numbers",
                      .advice = "pad the last block"});
  block_encoder encoder(recipe);
  std::vector<T> numbers;
  progress_line line;
  for_each_slab(
      static_cast<std::int64_t>(in.size() / block_input_bytes), slab_blocks,
      [&](std::int64_t first, std::int64_t blocks) {
        numbers.resize(static_cast<std::size_t>(blocks * block_size));
        in.read(static_cast<std::uint64_t>(first) * block_input_bytes, std::as_writable_bytes(std::span(numbers)))
            .value();
        swap_if_big_endian(std::span(numbers));
        if (const status s = encoder.encode(std::span<const T>(numbers)); !s.ok())
          throw file_error({.file = in.path(), .value = std::string(message(s).view())});
        packed.write(static_cast<std::uint64_t>(first * block_code_bytes), std::as_bytes(encoder.codes())).value();
        scale.write(static_cast<std::uint64_t>(first), std::as_bytes(encoder.scales())).value();
        line.update(static_cast<std::uint64_t>(first + blocks) * block_input_bytes, in.size());
      });
  return encoder.statistics();
}

void run(const encode_options& options) {
  require_different_files({options.input, options.packed, options.scale});
  recipe_id recipe{};
  if (!find_recipe(options.recipe, recipe)) throw usage_error("--recipe", "unknown recipe " + options.recipe);
  const input_file in = input_file::open(options.input).value();
  const existing_file existing = existing_output(options.overwrite);
  require_outputs({options.input}, {options.packed, options.scale}, existing).value();
  for (const std::string& output : {options.packed, options.scale}) keep_standard_output_for(output);
  output_file packed = output_file::create(options.packed, stop_requested, existing).value();
  output_file scale = output_file::create(options.scale, stop_requested, existing).value();
  const error_statistics s = options.type == "f32"    ? encode_array<float>(in, recipe, packed, scale)
                             : options.type == "bf16" ? encode_array<bf16>(in, recipe, packed, scale)
                                                      : encode_array<f16>(in, recipe, packed, scale);
  output_file::commit_all({&packed, &scale}).value();

  const std::int64_t blocks = s.weights / block_size;
  if (options.json) {
    ordered_json report = {{"command", "encode"},    {"recipe", options.recipe}, {"type", options.type},
                           {"input", options.input}, {"packed", options.packed}, {"scale", options.scale},
                           {"blocks", blocks}};
    report.update(to_json(s));
    print(report);
  } else {
    print(count_text(blocks, "block") + " by " + options.recipe + ": relative error " + error_text(s.relative_error()) +
          ", max error " + error_text(s.max_error) + ", " + std::to_string(s.saturated) + " saturated, " +
          std::to_string(s.zeroed) + " zeroed, " + std::to_string(s.lost) + " lost, " + std::to_string(s.nonfinite) +
          " not finite, " + count_text(s.nan_blocks, "NaN block") + "\n");
  }
}

}  // namespace

void add_encode(program& app) {
  add_command<encode_options>(app, "encode", "Encode a raw array: numbers to codes and scales, by any recipe", run);
}

}  // namespace mxfp4::tools

// What a program does first with mxfp4::checkpoint: quantise a file of weights, and look at what became of it.
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/checkpoint/stored_tensor.hpp"
#include "mxfp4/io/elements.hpp"

using namespace mxfp4;

int main() {
  std::vector<float> weights(4 * 32);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = i % 2 == 0 ? 1.5f : -3.0f;  // which MXFP4 holds exactly
  io::safetensors_writer out =
      io::safetensors_writer::create("in.safetensors", {{"w", io::dtype::f32, {4, 32}}}, {}).value();
  io::append_elements(out, "w", std::span(weights)).value();
  out.commit().value();

  std::uint64_t done = 0;
  checkpoint::quantize_file_options options;
  options.include = "w";
  options.progress = [&done](std::uint64_t bytes, std::uint64_t) { done = bytes; };
  options.existing = io::existing_file::replace;  // the build folder may hold those of an earlier run
  const auto report = checkpoint::quantize_file("in.safetensors", "out.safetensors", options).value();
  const checkpoint::checkpoint_reader result = checkpoint::checkpoint_reader::open("out.safetensors").value();
  const auto tensors = checkpoint::stored_tensors(result);
  std::printf("%zu tensor, %s, relative error %g\n", tensors.size(), tensors.at(0).type_name(),
              report.total.relative_error());
  return done == 512 && tensors[0].kind == checkpoint::storage::mxfp4 && report.total.relative_error() == 0 ? 0 : 1;
}

// bench/llama_cpp/runner.cpp -- the forward pass of `mxfp4 run` behind lines of standard input; compare.py speaks them.
// SPDX-License-Identifier: Apache-2.0
//
//   clear              forgets the text
//   take ID ID ...     takes tokens at once; logits are those after the last
//   each ID ID ...     one by one
//   logits FILE        writes the last logits, float
//   bytes_read         answered with the bytes of experts that were read so far
//
// Each other line is answered with the seconds that it took.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>

#include "checkpoint/reader_json.hpp"
#include "model/generate.hpp"
#include "mxfp4/executor/tbb.hpp"
#include "mxfp4/io/error.hpp"

namespace {

using namespace mxfp4::model;

activation_type activations_of(const std::string& name) {
  if (name == "f32") return activation_type::f32;
  if (name == "int8") return activation_type::int8;
  if (name == "int8-residual2") return activation_type::int8_residual2;
  std::fprintf(stderr, "activations are '%s', expected f32, int8 or int8-residual2\n", name.c_str());
  std::exit(2);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::fprintf(stderr, "bench_runner MODEL THREADS ACTIVATIONS [BYTES_OF_EXPERTS]\n");
    return 2;
  }
  const auto checkpoint = mxfp4::checkpoint::checkpoint_reader::open(argv[1]).value();
  const model_config config = read_model_config(mxfp4::checkpoint::read_config(checkpoint), argv[1]);
  mxfp4::tbb_executor threads(std::atoi(argv[2]));
  const std::uint64_t memory = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : UINT64_MAX;
  generator model(checkpoint, config, {activations_of(argv[3]), threads}, memory);
  token_rows logits;
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command, file;
    words >> command;
    if (command == "logits") words >> file;
    std::vector<std::int64_t> ids;
    for (std::int64_t id; words >> id;) ids.push_back(id);
    if (command == "bytes_read") {
      std::printf("%llu\n", static_cast<unsigned long long>(model.experts().bytes_read()));
      std::fflush(stdout);
      continue;
    }
    const auto begin = std::chrono::steady_clock::now();
    if (command == "clear") model.clear();
    if (command == "take") logits = model.take(ids);
    if (command == "each")
      for (const std::int64_t id : ids) logits = model.take({&id, 1});
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    if (command == "logits")
      std::ofstream(file, std::ios::binary)
          .write(reinterpret_cast<const char*>(logits.data.data()),
                 static_cast<std::streamsize>(logits.data.size() * sizeof(float)));
    std::printf("%.9f\n", seconds.count());
    std::fflush(stdout);
  }
  return 0;
} catch (const mxfp4::io::file_error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

// tools/mxfp4/run.cpp -- mxfp4 run: goes on with a text.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <optional>
#include <random>

#include "model/generate.hpp"
#include "model/text_ids.hpp"
#include "model_options.hpp"
#include "mxfp4/executor/tbb.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;
using namespace model;

namespace {

struct run_command {
  std::string model, prompt, ids;
  std::int64_t tokens = 256;
  std::uint64_t seed = 1, memory = std::numeric_limits<std::uint64_t>::max();
  double temperature = 0.8;
  model_options options;
  bool json = false;

  void describe(command_line& command) {
    command.add_option("MODEL", model, "A MiniMax-M2 checkpoint: FP8, BF16, F32 or MXFP4").required().type_name("DIR");
    const option given = command.add_option("--prompt", prompt, "The text to go on with").type_name("TEXT");
    command.add_option("--ids", ids, "The same as numbers; those added are printed as numbers too")
        .type_name("N,...")
        .excludes(given);
    command.add_option("--tokens", tokens, "Tokens to add").range_in_help(1, 1 << 30).show_default();
    command.add_option("--temperature", temperature, "0: always the likeliest token").number(0, 100).show_default();
    command.add_option("--seed", seed, "Of the random numbers").show_default();
    command.add_option("--memory", memory, "For experts, bytes or 8GB; they are read when needed. Default: no limit")
        .size();
    options.describe(command);
    command.footer("Ends after --tokens; no token ends it before. Tokens per second go to standard error.");
  }
};

using steady = std::chrono::steady_clock;
[[nodiscard]] double rate(std::int64_t tokens, steady::time_point begin, steady::time_point end) {
  return static_cast<double>(tokens) / std::max(std::chrono::duration<double>(end - begin).count(), 1e-9);
}

void run(const run_command& command) {
  const checkpoint_reader checkpoint = checkpoint_reader::open(command.model).value();
  const model_config config = read_model_config(checkpoint);
  std::optional<text_tokens> words;  // none: numbers
  if (command.ids.empty()) words.emplace(checkpoint, config);
  std::vector<std::int64_t> ids = words ? words->encode(command.prompt) : ids_of_numbers(command.ids, "--ids");
  if (ids.empty()) throw usage_error("--prompt", "is empty, expected a text to go on with");
  const auto prompt_tokens = std::ssize(ids);
  if (command.tokens > config.context - prompt_tokens)
    throw usage_error("--tokens", std::to_string(command.tokens) + " after " + std::to_string(prompt_tokens) +
                                      " of the prompt, expected at most " + std::to_string(config.context) +
                                      " in all, which the model takes");
  tbb_executor threads(command.options.threads);
  generator model(checkpoint, config, {command.options.activations(), threads, stop_requested}, command.memory);
  std::mt19937_64 random(command.seed);
  const auto begin = steady::now();
  token_rows logits = model.take(ids);
  const auto prompt_done = steady::now();
  std::string text;
  for (std::int64_t i = 0; i < command.tokens; ++i) {
    const std::int64_t next = sample(logits.data, command.temperature, random);
    ids.push_back(next);
    const std::string shown = words ? words->decode(next) : std::to_string(next) + " ";
    text += shown;
    if (!command.json) print(shown);
    if (i + 1 < command.tokens) logits = model.take({&next, 1});
  }
  const auto end = steady::now();
  const double prompt_rate = rate(prompt_tokens, begin, prompt_done);
  const double text_rate = rate(command.tokens - 1, prompt_done, end);  // the first one is the prompt's
  if (command.json) {
    ids.erase(ids.begin(), ids.begin() + prompt_tokens);
    print(ordered_json{{"command", "run"},
                       {"model", command.model},
                       {"prompt_tokens", prompt_tokens},
                       {"ids", ids},
                       {"text", words ? ordered_json(text) : ordered_json(nullptr)},
                       {"prompt_tokens_per_second", prompt_rate},
                       {"tokens_per_second", text_rate},
                       {"expert_bytes", model.experts().bytes()},
                       {"expert_loads", model.experts().loads()}});
    return;
  }
  print(std::string("\n"));
  std::fprintf(stderr, "prompt %.1f tokens/s, text %.1f tokens/s; %s of experts in memory, %s\n", prompt_rate,
               text_rate, size_text(model.experts().bytes()).c_str(),
               (count_text(model.experts().loads(), "expert") + " read").c_str());
}

}  // namespace

void add_run(program& app) {
  add_command<run_command>(app, "run", "Go on with a text, token by token, by a MiniMax-M2 model", run);
}

}  // namespace mxfp4::tools

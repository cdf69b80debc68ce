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
  bool ignore_eos = false, json = false;

  void describe(command_line& command) {
    command.add_option("MODEL", model, "A checkpoint in FP8, BF16, F16, F32 or MXFP4").required().type_name("DIR");
    const option given = command.add_option("--prompt", prompt, "The text to go on with").type_name("TEXT");
    command.add_option("--ids", ids, "The same as numbers; those added are printed as numbers too")
        .type_name("N,...")
        .excludes(given);
    command.add_option("--tokens", tokens, "Tokens to add").range_in_help(1, 1 << 30).show_default();
    command.add_option("--temperature", temperature, "0: always the likeliest token").number(0, 100).show_default();
    command.add_option("--seed", seed, "Of the random numbers").show_default();
    command.add_option("--memory", memory, "For experts, bytes or 8GB; they are read when needed. Default: no limit")
        .size();
    command.add_flag("--ignore-eos", ignore_eos, "Go on behind an end-of-text token");
    options.describe(command);
    command.footer(
        "Of the families " + architecture_names() +
        ".\nEnds after --tokens, or with the model's end-of-text token (eos_token_id of generation_config.json or\n"
        "config.json). Tokens per second, and what was read of experts, go to standard error.");
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
  if (ids.empty() && words) throw usage_error("--prompt", "is empty, expected a text to go on with");
  if (ids.empty()) throw usage_error("--ids", "has no number, expected tokens to go on with");
  const auto prompt_tokens = std::ssize(ids);
  if (command.tokens > config.context - prompt_tokens)
    throw usage_error("--tokens", std::to_string(command.tokens) + " after " + std::to_string(prompt_tokens) +
                                      " of the prompt, expected at most " + std::to_string(config.context) +
                                      " in all, which the model takes");
  const std::vector<std::int64_t> ends = end_of_text_ids(checkpoint);
  tbb_executor threads(command.options.threads);
  std::optional<progress_line> line(std::in_place);  // until the first token is there
  const auto progress = [&line](std::int64_t done, std::int64_t total, const char* what) {
    if (line) line->count(done, total, "layers", what);
  };
  generator model(checkpoint, config, {command.options.activations(), threads, stop_requested}, command.memory,
                  progress);
  std::mt19937_64 random(command.seed);
  const auto begin = steady::now();
  token_rows logits = model.take(ids);
  line.reset();
  const auto prompt_done = steady::now();
  std::string text;
  const std::uint64_t read_for_prompt = model.experts().bytes_read();
  bool ended = false;
  std::int64_t added = 0;
  while (added < command.tokens && !ended) {
    const std::int64_t next = sample(logits.data, command.temperature, random);
    ids.push_back(next);
    ++added;
    ended = !command.ignore_eos && std::ranges::find(ends, next) != ends.end();
    if (ended && words) break;  // its text is for programs
    const std::string shown = words ? words->decode(next) : std::to_string(next) + " ";
    text += shown;
    if (!command.json) print(shown);
    if (added < command.tokens && !ended) logits = model.take({&next, 1});
  }
  const auto end = steady::now();
  const double prompt_rate = rate(prompt_tokens, begin, prompt_done);
  const std::int64_t taken = model.length() - prompt_tokens;  // the first token that was added is the prompt's
  const double text_rate = rate(taken, prompt_done, end);
  const std::uint64_t read_for_text = model.experts().bytes_read() - read_for_prompt;
  const std::uint64_t read_a_token = taken > 0 ? read_for_text / static_cast<std::uint64_t>(taken) : 0;
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
                       {"expert_loads", model.experts().loads()},
                       {"expert_hits", model.experts().hits()},
                       {"expert_bytes_read", model.experts().bytes_read()},
                       {"expert_bytes_read_a_token", read_a_token},
                       {"ended", ended}});
    return;
  }
  print(std::string("\n"));
  std::fprintf(stderr,
               "prompt %.1f tokens/s, text %.1f tokens/s; %s of experts in memory, %s, %s; %s a token of text\n",
               prompt_rate, text_rate, size_text(model.experts().bytes()).c_str(),
               (count_text(model.experts().loads(), "expert") + " read").c_str(),
               (count_text(model.experts().hits(), "time") + " found there").c_str(), size_text(read_a_token).c_str());
}

}  // namespace

void add_run(program& app) {
  add_command<run_command>(app, "run", "Go on with a text, token by token, by a model", run);
}

}  // namespace mxfp4::tools

// src/calibrate/calibration.cpp -- see calibration.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/calibration.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "calibrate/attention.hpp"
#include "calibrate/layer_matrices.hpp"
#include "calibrate/overlap.hpp"
#include "calibrate/recorded_file.hpp"
#include "checkpoint/quantize_journal.hpp"
#include "io/content_hash.hpp"
#include "io/guarded.hpp"
#include "model/attention.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/byte_order.hpp"

#if defined(MXFP4_MODEL_DISPATCH)
#include "mxfp4/dispatch.hpp"
#endif

namespace mxfp4::calibrate {

using namespace io;
using namespace checkpoint;
using namespace model;

namespace {

using nlohmann::ordered_json;

constexpr int method_version = 1;  ///< of the codes that the same settings give

[[nodiscard]] std::string used_isa() {
#if defined(MXFP4_MODEL_DISPATCH)
  const auto name = dispatch::isa();
  return name ? *name : "none";
#else
  return "compiled";
#endif
}

/// Experts are calibrated where a model has some, and all linear layers where it has none and that was asked for.
void require_matrices(const model_config& config, bool linears, const std::string& file) {
  if (is_of_linears(config) && !linears)
    throw file_error({.file = file,
                      .value = "is a " + config.model_type + " model, which has no experts",
                      .expected = "a model with experts, whose weights a calibration chooses codes for",
                      .advice = "add --linears, and it chooses those of all linear layers"});
  if (!is_of_linears(config) && linears)
    throw file_error({.file = file,
                      .value = "is a " + config.model_type + " model, which has experts",
                      .expected = "a model without, whose linear layers a calibration chooses codes for",
                      .advice = "leave --linears out, and it chooses those of all experts"});
}

[[nodiscard]] std::string five_digits(std::int64_t number) {
  char text[24];
  std::snprintf(text, sizeof text, "%05lld", static_cast<long long>(number));
  return text;
}

[[nodiscard]] std::string file_of(std::int64_t layer, int rank, int world) {
  return "calibrated-" + five_digits(layer) + "-" + std::to_string(rank) + "of" + std::to_string(world) +
         ".safetensors";
}
[[nodiscard]] std::string state_file_of(std::int64_t layer) {
  return "calibrated-state-" + five_digits(layer) + ".safetensors";
}

}  // namespace

std::vector<std::int64_t> spread_windows(const std::vector<std::int64_t>& ids, std::int64_t tokens,
                                         std::int64_t context) {
  const std::int64_t all = std::ssize(ids), wanted = tokens / context;
  if (tokens >= all || wanted == 0 || all < context)
    return {ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(std::min(tokens, all))};
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < wanted; ++i) {
    const std::int64_t first = wanted == 1 ? 0 : (all - context) / (wanted - 1) * i;
    chosen.insert(chosen.end(), ids.begin() + first, ids.begin() + first + context);
  }
  return chosen;
}

namespace {

[[nodiscard]] memory_need need_of(const model_config& config, const calibration_options& options) {
  return memory_of(config, {std::ssize(options.ids), options.context, options.threads, options.expert.method});
}

}  // namespace

std::int64_t steps_of(const model_config& config) { return is_of_linears(config) ? 2 : config.shape.experts; }

/// Layers one after the other, and where they left off.
class calibration::run {
 public:
  run(calibration& owner, const std::string& folder)
      : owner_(owner), config_(owner.config_), options_(owner.options_), folder_(folder), rotary_(owner.config_) {}

  void work() {
    const file_lock alone = file_lock::acquire(path_of("calibrated-" + std::to_string(options_.rank) + "of" +
                                                       std::to_string(options_.world) + ".lock"))
                                .value();
    const std::int64_t layers = config_.shape.layers, first = find_start();
    for (std::int64_t layer = first; layer < layers; ++layer) {
      where_ = "calibrating layer " + std::to_string(layer + 1) + " of " + std::to_string(layers);
      done_ = layer * steps_;
      run_layer(layer);
    }
    for (std::int64_t layer = 0; layer < layers; ++layer)
      for (const std::string& file : files_of(layer)) load(file, layer, layer < first);
  }

 private:
  [[nodiscard]] std::string path_of(const std::string& name) const { return folder_ + "/" + name; }

  /// Files that hold all experts of a layer; none where some are missing. Any number of processes may have made them.
  [[nodiscard]] std::vector<std::string> files_of(std::int64_t layer) const {
    std::set<int> worlds = {options_.world};
    std::error_code error;
    const std::string begin = "calibrated-" + five_digits(layer) + "-";
    for (std::filesystem::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error)) {
      const std::string name = at->path().filename().string();
      int rank = 0, world = 0;
      if (name.starts_with(begin) && name.ends_with(".json") &&
          std::sscanf(name.c_str() + begin.size(), "%dof%d", &rank, &world) == 2 && world > 0)
        worlds.insert(world);
    }
    for (const int world : worlds) {
      std::vector<std::string> files;
      for (int rank = 0; rank < world && is_recorded(path_of(file_of(layer, rank, world))); ++rank)
        files.push_back(path_of(file_of(layer, rank, world)));
      if (std::ssize(files) == world) return files;
    }
    return {};
  }

  /// The first layer that is not done; its hidden states are those of the file, or of the embeddings. The last layer
  /// too is done when its hidden states were found to be numbers, and not when its codes are there.
  [[nodiscard]] std::int64_t find_start() {
    std::int64_t done = 0;
    while (done < config_.shape.layers && (!is_calibrated(done) || !files_of(done).empty())) ++done;
    if (done == config_.shape.layers && is_recorded(path_of(state_file_of(done - 1)))) return done;
    for (std::int64_t layer = done; layer-- > 0;)
      if (is_recorded(path_of(state_file_of(layer)))) {
        load_state(layer);
        return layer + 1;
      }
    now_ = read_embeddings(owner_.original_, config_, options_.ids, 0);
    before_ = now_;
    return 0;
  }

  /// Is anything of this layer calibrated? Dense layers between others with experts stay as they are.
  [[nodiscard]] bool is_calibrated(std::int64_t layer) const {
    return is_of_linears(config_) || !config_.is_dense(layer);
  }

  void run_layer(std::int64_t layer) {
    if (is_of_linears(config_)) {
      run_linears(layer);
    } else {
      attend(layer);
      run_experts(layer);
    }
    require_finite(layer);
    if (options_.rank == 0) save_state(layer);
  }

  void run_experts(std::int64_t layer) {
    const router route(owner_.original_, config_, layer);
    const token_rows now = route.normed(now_), before = route.normed(before_);
    const routing routes = route.route(now, options_.product), routes_before = route.route(before, options_.product);
    const bool calibrated = is_calibrated(layer);
    if (calibrated && !is_recorded(path_of(file_of(layer, options_.rank, options_.world))) && files_of(layer).empty())
      round_experts(layer, now, before, routes);
    const std::vector<safetensors_reader> readers =
        calibrated ? wait_for_files(layer) : std::vector<safetensors_reader>();
    for (std::int64_t e = 0; e < config_.experts_in(layer); ++e) {
      require_running();
      expert_weights weights(owner_.original_, config_, layer, e);
      weights.add_to(before_, before, routes_before, e, options_.product);
      if (calibrated && e < config_.shape.experts)
        take_codes(readers, matrices_of(config_, layer, e), places_of(weights));
      weights.add_to(now_, now, routes, e, options_.product);
    }
  }

  /// A layer without experts: attention, then the feed-forward block, which sees the attention with its new codes. They
  /// are one file, of whichever process is the first in number; the others wait.
  void run_linears(std::int64_t layer) {
    const bool chooses = options_.rank == 0 && files_of(layer).empty();
    linear_outcomes outcomes;
    std::vector<safetensors_reader> readers;
    {
      attention block(owner_.original_, config_, layer);
      if (chooses) round_attention(layer, block, outcomes);
      else readers = wait_for_files(layer);
      attend(block, before_);
      const std::array<linear*, 4> parts = block.projections();
      if (chooses)
        for (std::size_t i = 0; i < parts.size(); ++i) *parts[i] = outcomes[q_number + i].weights;
      else
        take_codes(readers, matrices_of(config_, layer, 0),
                   {nullptr, nullptr, nullptr, parts[0], parts[1], parts[2], parts[3]});
      attend(block, now_);
    }
    const router route(owner_.original_, config_, layer);
    const token_rows now = route.normed(now_), before = route.normed(before_);
    const routing routes = route.route(now, options_.product);
    if (chooses) {
      round_block(layer, {now, before, routes, nullptr}, outcomes);
      write_linears(layer, outcomes);
      outcomes = {};
      readers = wait_for_files(layer);
    }
    require_running();
    expert_weights weights(owner_.original_, config_, layer, 0);
    weights.add_to(before_, before, routes, 0, options_.product);
    take_codes(readers, matrices_of(config_, layer, 0), places_of(weights));
    weights.add_to(now_, now, routes, 0, options_.product);
  }

  /// The codes of all processes.
  [[nodiscard]] std::vector<safetensors_reader> wait_for_files(std::int64_t layer) {
    std::vector<std::string> files;
    while ((files = files_of(layer)).empty()) {
      require_running();
      options_.progress(done_, config_.shape.layers * steps_, where_ + ", waiting for other processes");
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    std::vector<safetensors_reader> readers;
    for (const std::string& file : files) readers.push_back(safetensors_reader::open(file).value());
    return readers;
  }

  void attend(const attention& block, token_rows& x) {
    for (std::int64_t first = 0; first < x.count; first += options_.context) {
      kv_cache cache;
      require_running();
      block.add_to(x, first, std::min(options_.context, x.count - first), cache, rotary_, options_.product);
    }
  }

  void attend(std::int64_t layer) {
    const attention block(owner_.original_, config_, layer);
    for (token_rows* x : {&now_, &before_}) attend(block, *x);
  }

  void require_finite(std::int64_t layer) const {
    for (const token_rows* x : {&now_, &before_})
      for (std::size_t i = 0; i < x->data.size(); ++i)
        if (!std::isfinite(x->data[i]))
          throw file_error({.file = owner_.original_.path(),
                            .value = "layer " + std::to_string(layer) + " makes NaN or infinity of token " +
                                     std::to_string(i / static_cast<std::size_t>(x->size)) + " of the calibration text",
                            .advice = "see `mxfp4 verify`, or take another text"});
  }

  void require_running() const {
    if (options_.product.stop && options_.product.stop()) throw stopped(folder_);
  }

  using linear_outcomes = std::array<matrix_outcome, of_a_dense_layer>;  // by their numbers

  [[nodiscard]] static linear_places places_of(expert_weights& weights) {
    return {&weights.gate, &weights.down, &weights.up};
  }

  void progress_by_one() { options_.progress(++done_, config_.shape.layers * steps_, where_); }

  void round_attention(std::int64_t layer, const attention& block, linear_outcomes& outcomes) {
    const std::function<void()> running = [this] { require_running(); };
    const std::string name = layer_name(layer, "self_attn");
    attention_outcome chosen = or_say(name, [&] {
      return calibrate_attention(block, {now_, before_, options_.context, rotary_, options_.product, running},
                                 options_.expert, name);
    });
    outcomes[q_number] = std::move(chosen.q);
    outcomes[k_number] = std::move(chosen.k);
    outcomes[v_number] = std::move(chosen.v);
    outcomes[o_number] = std::move(chosen.o);
    progress_by_one();
  }

  void round_block(std::int64_t layer, const layer_inputs& inputs, linear_outcomes& outcomes) {
    require_running();
    expert_outcome chosen = calibrate(layer, 0, inputs, options_.product.executor);
    outcomes[gate_number] = std::move(chosen.gate);
    outcomes[down_number] = std::move(chosen.down);
    outcomes[up_number] = std::move(chosen.up);
    progress_by_one();
  }

  /// All of the layer as if they were those of the only expert of the only process.
  void write_linears(std::int64_t layer, const linear_outcomes& outcomes) {
    const std::vector<calibrated_matrix> matrices = matrices_of(config_, layer, 0);
    recorded_file_writer file(path_of(file_of(layer, 0, 1)), code_tensors(matrices), options_.product.stop);
    const outcome_places places = {&outcomes[0], &outcomes[1], &outcomes[2], &outcomes[3],
                                   &outcomes[4], &outcomes[5], &outcomes[6]};
    file.commit(ordered_json::array({write_codes(file, matrices, 0, places, std::ssize(options_.ids))}));
  }

  void round_experts(std::int64_t layer, const token_rows& now, const token_rows& before, const routing& routes) {
    const layer_sums all(now, options_.expert);
    std::vector<std::int64_t> own;
    for (std::int64_t e = options_.rank; e < config_.shape.experts; e += options_.world) own.push_back(e);
    std::vector<calibrated_matrix> matrices;
    for (const std::int64_t e : own)
      for (calibrated_matrix& m : matrices_of(config_, layer, e)) matrices.push_back(std::move(m));
    recorded_file_writer file(path_of(file_of(layer, options_.rank, options_.world)), code_tensors(matrices),
                              options_.product.stop);
    std::vector<ordered_json> facts(own.size());
    std::atomic<std::size_t> next = 0;
    std::mutex mutex;
    options_.product.executor.run(at_once(), [&](std::size_t) {
      for (std::size_t i = next++; i < own.size(); i = next++) {
        require_running();
        const std::int64_t e = own[i];
        const expert_outcome outcome = calibrate(layer, e, {now, before, routes, &all}, serial);
        const std::lock_guard lock(mutex);
        facts[i] = write_codes(file, matrices_of(config_, layer, e), e, {&outcome.gate, &outcome.down, &outcome.up},
                               outcome.tokens);
        progress_by_one();
      }
    });
    file.commit(facts);
  }

  /// Experts that are worked on at a time.
  [[nodiscard]] std::size_t at_once() const {
    const memory_need need = need_of(config_, options_);
    const std::uint64_t room = (options_.memory - need.beside_experts()) / need.an_expert;
    return std::clamp<std::size_t>(static_cast<std::size_t>(room), 1, static_cast<std::size_t>(options_.threads));
  }

  [[nodiscard]] expert_outcome calibrate(std::int64_t layer, std::int64_t e, const layer_inputs& inputs,
                                         executor_ref executor) const {
    const std::string name = expert_name(config_, layer, e);
    const expert_weights weights(owner_.original_, config_, layer, e);
    return or_say(name, [&] {
      const expert_description& parts = config_.experts;
      return calibrate_expert(weights, e, inputs, options_.expert,
                              {name + "." + parts.gate, name + "." + parts.up, name + "." + parts.down}, executor);
    });
  }

  /// Names what has inputs that are no numbers.
  template <class Body>
  [[nodiscard]] auto or_say(const std::string& name, const Body& body) const -> decltype(body()) {
    try {
      return body();
    } catch (const std::domain_error& why) {
      throw file_error({.file = owner_.original_.path(),
                        .tensor = name,
                        .value = std::string("cannot be calibrated: ") + why.what(),
                        .advice = "see `mxfp4 verify`, or take another text"});
    }
  }

  void save_state(std::int64_t layer) {
    const std::vector<std::int64_t> shape = {now_.count, now_.size};
    recorded_file_writer file(path_of(state_file_of(layer)),
                              {{"now", dtype::f32, shape}, {"before", dtype::f32, shape}}, options_.product.stop);
    const auto append = [&file](const std::string& name, const token_rows& x) {
      std::vector<float> row;
      for (std::int64_t t = 0; t < x.count; ++t) {
        row.assign(x.row(t), x.row(t) + x.size);
        swap_if_big_endian(std::span(row));
        file.append(name, std::as_bytes(std::span(row)));
      }
    };
    append("now", now_);
    append("before", before_);
    file.commit(ordered_json::array());
    if (layer < 2) return;
    std::error_code ignored;  // another process may read it still; the journal's end takes it otherwise
    for (const char* const suffix : {".json", ""})
      std::filesystem::remove(path_of(state_file_of(layer - 2)) + suffix, ignored);
  }

  void load_state(std::int64_t layer) {
    const std::string path = path_of(state_file_of(layer));
    const safetensors_reader file = safetensors_reader::open(path).value();
    require_recorded(file, read_shard_report(path + ".json"), options_.threads, options_.product.stop);
    const auto read = [&](const char* name, token_rows& x) {
      const tensor_info* const t = file.find(name);
      x = token_rows(std::ssize(options_.ids), config_.shape.hidden);
      if (t == nullptr || t->shape != std::vector<std::int64_t>{x.count, x.size})
        throw file_error({.file = path, .tensor = name, .value = "is not as a calibration writes it"});
      file.read(*t, 0, std::as_writable_bytes(std::span(x.data))).value();
      swap_if_big_endian(std::span(x.data));
    };
    read("now", now_);
    read("before", before_);
  }

  /// @param is_former  of another run: its bytes are compared with what that recorded.
  void load(const std::string& path, std::int64_t layer, bool is_former) {
    const auto file = std::make_shared<const safetensors_reader>(safetensors_reader::open(path).value());
    const ordered_json report = read_shard_report(path + ".json");
    if (is_former) require_recorded(*file, report, options_.threads, options_.product.stop);
    for (const ordered_json& entry : report.at("experts")) {
      const auto e = entry.at("expert").get<std::int64_t>();
      for (const calibrated_matrix& m : matrices_of(config_, layer, e))
        owner_.codes_[{m.weight, m.expert}] = {file, m.stored(), entry.at(m.part).dump()};
      if (entry.at(config_.experts.down).at("tokens") == 0)
        owner_.untouched_.push_back("layer " + std::to_string(layer) + ", expert " + std::to_string(e));
    }
  }

  calibration& owner_;
  const model_config& config_;
  const calibration_options& options_;
  std::string folder_;
  rotary_table rotary_;
  token_rows now_, before_;                       // hidden states of the model so far and of the original
  const std::int64_t steps_ = steps_of(config_);  // of a layer, for the progress
  std::int64_t done_ = 0;
  std::string where_;
};

calibration::calibration(const checkpoint_reader& original, const model_config& config, calibration_options options)
    : original_(original), config_(config), options_(std::move(options)) {
  require_matrices(config, options_.linears, original.path());
  require_all_tensors(original, config);
  if (config.experts.stacked && !in_stacks(original, config, 0))
    throw file_error({.file = original.path(),
                      .value = "has its experts apart, " + quote_name(expert_name(config, 0, 0)) + " and others",
                      .expected = "the stacks of " + config.model_type + " as published, to calibrate it"});
  if (std::ssize(options_.ids) < least_tokens)
    throw file_error({.value = "the calibration text has " + std::to_string(options_.ids.size()) + " tokens",
                      .expected = "at least " + std::to_string(least_tokens),
                      .advice = "65536 are a good measure: experts that see few of them are hardly calibrated"});
  for (const std::int64_t cols : row_lengths(config))
    if (cols % block_size != 0)
      throw file_error({.file = original.path(),
                        .value = std::string("has ") + (is_of_linears(config) ? "linear layers" : "experts") +
                                 " with rows of " + std::to_string(cols) + " weights",
                        .expected = "a multiple of 32"});
  const std::uint64_t need = need_of(config, options_).least();
  if (options_.memory < need)
    throw file_error({.value = "a calibration with " + std::to_string(options_.ids.size()) + " tokens needs " +
                               std::to_string(need) + " bytes",
                      .expected = "at most " + std::to_string(options_.memory),
                      .advice = "allow more with --memory, or take fewer --tokens"});
}

calibration::~calibration() = default;

std::string calibration::record() const {
  const expert_options& e = options_.expert;
  ordered_json record = {{"method", method_name(e.method)}, {"version", method_version},   {"text", options_.text_hash},
                         {"tokens", options_.ids.size()},   {"context", options_.context}, {"isa", used_isa()},
                         {"damping", e.rounding.damping}};
  if (e.method == rounding_method::hessian)
    record.update({{"order", e.rounding.order == column_order::natural ? "natural" : "falling_diagonal"},
                   {"passes", e.rounding.passes},
                   {"pairs", e.rounding.pairs},
                   {"own_tokens", e.own_tokens},
                   {"drift_tokens", e.drift_tokens}});
  else record["own_tokens"] = e.own_tokens_of_diagonal;
  if (is_of_linears(config_)) record.erase("own_tokens");  // all tokens are theirs
  record["fingerprints"] = fingerprints(options_.ids, options_.context);
  return record.dump();
}

void calibration::prepare(const std::string& folder) { run(*this, folder).work(); }

bool calibration::has(const std::string& weight) const {
  return codes_.contains({weight, -1}) || codes_.contains({weight, 0});
}

code_costs calibration::choose(const std::string& weight, std::int64_t expert, std::int64_t first,
                               std::span<const float> /*weights*/, std::span<std::uint8_t> codes,
                               std::span<std::uint8_t> scales) const {
  const stored_codes& stored = codes_.at({weight, expert});
  const safetensors_reader& file = *stored.file;
  const auto piece = [&](const char* suffix, std::int64_t bytes_a_block, std::span<std::uint8_t> out) {
    const std::string name = stored.tensor + suffix;
    const tensor_info* const t = file.find(name);
    if (t == nullptr) throw file_error({.file = file.path(), .tensor = name, .value = "is missing"});
    file.read(*t, static_cast<std::uint64_t>(first * bytes_a_block), std::as_writable_bytes(out)).value();
  };
  piece(packed_suffix, block_code_bytes, codes);
  piece(scale_suffix, 1, scales);
  return {};
}

std::string calibration::facts(const std::string& weight, std::int64_t expert) const {
  return codes_.at({weight, expert}).facts;
}

}  // namespace mxfp4::calibrate

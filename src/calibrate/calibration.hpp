// src/calibrate/calibration.hpp -- a model's experts in MXFP4 after a text, layer by layer, and what is kept of it; or
// the linear layers of a model that has none.
// SPDX-License-Identifier: Apache-2.0
//
//   ids --> windows --> hidden states, twice: of the original model, and of the one made so far
//   layer: attention, router --> experts, one a thread at a time (expert.hpp) --> their codes into a file --> both
//          models' experts add to their hidden states --> those into a file --> the next layer
//   without experts: q, k, v, then o (attention.hpp) --> both models' attention --> gate, up, then down, as those of an
//          expert --> all their codes into a file --> the rest as above
//
//   OUT/.mxfp4/calibrated-00003-1of2.safetensors, .json   codes of one rank's experts of layer 3, and what was measured
//             /calibrated-state-00003.safetensors, .json  hidden states after it; those of two layers stay
//
// A file counts where its .json is there too, and is compared with the hashes in it before it is used again: a run that
// was stopped goes on at the last layer's end, with the same bytes. Several processes take every so-manieth expert each
// and wait for each other at the end of a layer; without experts the first one takes them all.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "calibrate/expert.hpp"
#include "calibrate/needs.hpp"
#include "mxfp4/checkpoint/code_source.hpp"
#include "mxfp4/io/safetensors_reader.hpp"

namespace mxfp4::calibrate {

inline constexpr std::int64_t least_tokens = 1024;  ///< of a calibration text
inline constexpr std::uint64_t default_memory = std::uint64_t{4} << 30;

struct calibration_options {
  std::vector<std::int64_t> ids;  ///< tokens, windows one after the other
  std::int64_t context = 0;       ///< tokens of a window
  std::string text_hash;          ///< of the file that they are from
  bool linears = false;           ///< all linear layers of a model without experts, instead of experts
  expert_options expert;
  std::uint64_t memory = default_memory;  ///< bytes that states, sums and matrices may take
  int threads = 1;                        ///< of the executor
  int rank = 0, world = 1;
  model::product_options product;
  /// Called now and then: how many of steps_of() each layer are done, how many there are in all, and where it is.
  std::function<void(std::int64_t, std::int64_t, const std::string&)> progress = [](std::int64_t, std::int64_t,
                                                                                    const std::string&) {};
};

/// In what a layer's progress is counted: experts, or the attention and the block behind it.
[[nodiscard]] std::int64_t steps_of(const model::model_config& config);

/// Of `count` windows of `context` tokens, spread evenly over the text; all of it where it has no more.
[[nodiscard]] std::vector<std::int64_t> spread_windows(const std::vector<std::int64_t>& ids, std::int64_t tokens,
                                                       std::int64_t context);

class calibration final : public checkpoint::code_source {
 public:
  /// @throws io::file_error for a model with experts where linear layers are asked for, and the other way round, tokens
  /// that are too few or outside the vocabulary, weights that do not fit the config,
  /// and too little memory, saying how much is needed.
  calibration(const checkpoint::checkpoint_reader& original, const model::model_config& config,
              calibration_options options);
  ~calibration() override;

  [[nodiscard]] std::string record() const override;
  void prepare(const std::string& folder) override;
  [[nodiscard]] bool has(const std::string& weight) const override;
  checkpoint::code_costs choose(const std::string& weight, std::int64_t expert, std::int64_t first,
                                std::span<const float> weights, std::span<std::uint8_t> codes,
                                std::span<std::uint8_t> scales) const override;
  [[nodiscard]] std::string facts(const std::string& weight, std::int64_t expert) const override;

  /// Experts that no token took, as "layer 3, expert 17"; after prepare().
  [[nodiscard]] const std::vector<std::string>& untouched() const noexcept { return untouched_; }

 private:
  class run;
  struct stored_codes {
    std::shared_ptr<const io::safetensors_reader> file;
    std::string tensor;  ///< in it, without the suffixes
    std::string facts;
  };

  const checkpoint::checkpoint_reader& original_;
  const model::model_config& config_;
  calibration_options options_;
  std::map<std::pair<std::string, std::int64_t>, stored_codes> codes_;  // by the weight's name and the expert in it
  std::vector<std::string> untouched_;
};

}  // namespace mxfp4::calibrate
